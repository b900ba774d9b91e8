"""Folders, files and servers that are not what a study needs, and the check that a command refuses them."""

import contextlib
import http.server
import io
import json
import socket
import sqlite3
import sys
import threading
import time
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import command_lines
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from no_network import nothing_can_be_downloaded
from PIL import Image

from core.study import Study
from trainables.commands import run
from trainables.commands.study import main
from trainables.runs import preflight
from trainables.tracking import client

Rows = dict[str, tuple[list[str], list[str]]]
"""Command lines with parts of the messages that refuse them, by name of the case; `{place}` stands for one of `places`."""

# ---------------------------------------------------------------- images


def png(width: int = 8, height: int = 8, mode: str = "L", level: int = 0) -> bytes:
    """An image of one grey level, by default black, as a PNG file."""
    buffer = io.BytesIO()
    Image.new(mode, (width, height), level).save(buffer, "PNG")
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG file of a few bytes with the size of 12,000 x 12,000 pixels in its header."""
    head = (12000).to_bytes(4) * 2 + b"\x08\x00\x00\x00\x00"
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        len(data).to_bytes(4) + name + data + zlib.crc32(name + data).to_bytes(4) for name, data in chunks
    )


def table(images=None, labels=None, *, column="img", first: int = 0, **more) -> pa.Table:
    """A table of images and labels, by default of 16 images of each of 2 classes, with grey levels from `first`."""
    labels = [0, 1] * 16 if labels is None else labels
    images = [{"bytes": png(level=first + i)} for i in range(len(labels))] if images is None else images
    return pa.table({column: images, "label": labels, **more})


def with_image(position: int, data: bytes | None) -> list[dict]:
    """32 black images, of which one is replaced."""
    return [{"bytes": data if i == position else png()} for i in range(32)]


GOOD = table()
PARQUETS = {
    "no_test": (GOOD, None),
    "corrupt": (b"PAR1 and then nothing of the kind", GOOD),
    "truncated": ("truncated", GOOD),
    "no_image": (table(column="picture"), GOOD),
    "no_label": (pa.table({"img": [{"bytes": png()}]}), GOOD),
    "not_struct": (table(images=["a.png"] * 32), GOOD),
    "no_bytes": (table(images=[{"path": "a.png"}] * 32), GOOD),
    "text_bytes": (table(images=[{"bytes": "a.png"}] * 32), GOOD),
    "text_label": (table(labels=["cat", "dog"] * 16), GOOD),
    "null_label": (table(labels=[None, *[0, 1] * 16]), GOOD),
    "label_gap": (table(labels=[0, 2] * 16), table(labels=[0, 2] * 16)),
    "label_negative": (table(labels=[-1, 0] * 16), GOOD),
    "label_huge": (table(labels=[0, 10**15] * 16), GOOD),
    "one_class": (table(labels=[0] * 32), table(labels=[0] * 8)),
    "few": (table(labels=[0] * 30 + [1] * 2), table(labels=[0] * 30 + [1] * 2)),
    "empty": (GOOD.slice(0, 0), GOOD.slice(0, 0)),
    "sizes": (GOOD, table(images=with_image(5, png(9, 8)))),
    "modes": (table(images=with_image(31, png(mode="RGB"))), GOOD),
    "undecodable": (table(images=with_image(7, b"not an image")), GOOD),
    "broken_image": (table(images=with_image(7, png()[:-30])), GOOD),
    "null_image": (table(images=with_image(3, None)), GOOD),
    "postscript": (table(images=with_image(2, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n")), GOOD),
    "large": (table(images=with_image(4, png(1025, 8))), GOOD),
    "bomb": (table(images=with_image(6, bomb())), GOOD),
    "good": (GOOD, table(first=32)),
}
"""Content of train.parquet and test.parquet by name of the folder: a table, bytes, or None for no file."""


def write_parquets(root: Path) -> None:
    """Write the folders of `PARQUETS`."""
    for name, parts in PARQUETS.items():
        (root / name).mkdir(parents=True)
        for part, content in zip(("train", "test"), parts, strict=True):
            path = root / name / f"{part}.parquet"
            if isinstance(content, bytes):
                path.write_bytes(content)
            elif content == "truncated":
                pq.write_table(GOOD, path)
                path.write_bytes(path.read_bytes()[:-100])
            elif content is not None:
                pq.write_table(content, path)


# ---------------------------------------------------------------- studies


def write_studies(root: Path) -> None:
    """Write folders with plans: a good one, one of another study, one of an older version, and files that are no plans."""
    plan = command_lines.plan().to_json()
    older = {**plan, "config": {**plan["config"], "loss.sharpness": 3}}
    lacking = {name: value for name, value in plan.items() if name != "sampler"}
    plans = {"mine": plan, "other": {**plan, "study": "other"}, "older": older, "lacking": lacking, "list": []}
    named = {name: plain | {"name": name} if isinstance(plain, dict) else plain for name, plain in plans.items()}
    named |= {"renamed": plan | {"name": "old"}, "outside": plan | {"name": "../mine"}, "null": None}
    named |= {"no_data": plan | {"name": "no_data", "data": None}}
    named |= {"odd": plan | {"name": "odd", "trials": "many"}, "up": plan | {"name": "up", "study": "../crl_tradeoff"}}
    texts = {name: json.dumps(plain) for name, plain in named.items()}
    texts |= {"zero": "", "corrupt": '{"name": "cor', "binary": "\x00"}
    for name, text in texts.items():
        (root / name).mkdir(parents=True)
        (root / name / "plan.json").write_text(text)
    (root / "empty").mkdir()
    (root / "a_file").touch()


# ---------------------------------------------------------------- servers


@contextlib.contextmanager
def web_server(answer: bytes) -> Iterator[str]:
    """A web server on this machine that answers every request with these bytes, or with status 404 for `404`; yields its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(404 if answer == b"404" else 200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@contextlib.contextmanager
def listener(greeting: bytes) -> Iterator[str]:
    """A server on this machine without HTTP, which sends its greeting, or nothing, and listens; yields its address."""
    server = socket.create_server(("127.0.0.1", 0))

    def answer():
        held = []
        while True:
            try:
                held.append(server.accept()[0])
            except OSError:
                return
            if greeting:
                held[-1].recv(1024)
                held[-1].sendall(greeting)
                held.pop().close()

    threading.Thread(target=answer, daemon=True).start()
    yield f"127.0.0.1:{server.getsockname()[1]}"
    server.close()


@contextlib.contextmanager
def places(root: Path) -> Iterator[dict[str, object]]:
    """Create all places below a folder; yields them by the name that cases use."""
    (root / "file").write_text("in the way")
    (root / "text.db").write_text("not a database, but long enough to have a header that could be checked" * 10)
    with sqlite3.connect(root / "songs.db") as other:
        other.execute("create table songs (title text)")
    other.close()
    write_parquets(root / "parquets")
    write_studies(root / "runs")
    with contextlib.ExitStack() as servers:
        web, gone = (servers.enter_context(web_server(answer)) for answer in (b"<html>Welcome to nginx!</html>", b"404"))
        garbled, silent = (servers.enter_context(listener(greeting)) for greeting in (b"SSH-2.0-OpenSSH_9.6\r\n", b""))
        with socket.create_server(("127.0.0.1", 0)) as once:
            closed = f"127.0.0.1:{once.getsockname()[1]}"
        yield {
            "file": root / "file", "text_db": root / "text.db", "songs_db": root / "songs.db", "runs": root / "runs",
            "parquet": f"parquet:{root / 'parquets'}", "places": root, "web": web, "gone": gone, "garbled": garbled,
            "silent": silent, "closed": closed,
        }  # fmt: skip


# ---------------------------------------------------------------- the check


def snapshot(*folders: Path) -> dict[Path, tuple]:
    """Size and time of every file and folder in these folders and below."""
    paths = [path for folder in folders for path in [folder, *folder.rglob("*")]]
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in paths}


def assert_refused(
    study: Study, argv: Sequence[str], fragments: Sequence[str], named: Mapping[str, object], cwd: Path, monkeypatch, capfd
) -> None:
    """Assert that a study refuses its arguments within seconds, in one line with all fragments, and creates nothing.

    Args:
        study: the study.
        argv: arguments of its command.
        fragments: parts of the message.
        named: places that arguments and fragments refer to by name.
        cwd: empty folder in which the command runs.
        monkeypatch, capfd: pytest's fixtures.
    """
    argv = [word.format_map(named) for word in argv]
    folders = [cwd, *([named["places"]] if named else [])]
    monkeypatch.chdir(cwd)
    nothing_can_be_downloaded(monkeypatch)
    monkeypatch.setenv("no_proxy", "127.0.0.1,a b")
    for module in (preflight, client):
        monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(run, "_run", lambda *args: pytest.fail("the study would have started"))
    torch.set_num_threads(1)
    before, start = snapshot(*folders), time.monotonic()
    with warnings.catch_warnings(), pytest.raises(SystemExit) as exit_info:
        warnings.simplefilter("error", Image.DecompressionBombWarning)  # a warning is a line, too
        main(study, argv)
    assert time.monotonic() - start < 10
    assert exit_info.value.code == 2
    out, err = capfd.readouterr()
    assert not out and err.startswith("error: ") and err.endswith("\n") and err.count("\n") == 1, out + err
    assert not [fragment for fragment in fragments if fragment.format_map(named) not in err], err
    assert "secret" not in err
    after = snapshot(*folders)
    assert after.keys() == before.keys() and _files(after) == _files(before)
    if "ray" in sys.modules:
        assert not sys.modules["ray"].is_initialized()


def _files(entries: Mapping[Path, tuple]) -> dict[Path, tuple]:
    return {path: entry for path, entry in entries.items() if not path.is_dir()}
