"""Whatever is wrong with what the user wrote: exit code 2, one line that says what, in seconds, and nothing created."""

import http.server
import io
import json
import os
import runpy
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from offline import nothing_can_be_downloaded
from PIL import Image

from studies.crl_tradeoff import STUDY
from trainables import cli, launch, preflight

ROOT = Path(__file__).resolve().parents[2]
CONDITIONAL = runpy.run_path(str(Path(__file__).with_name("conditional_study.py")))["STUDY"]
TOO_MANY = str(2 * (os.cpu_count() or 1))


# ---------------------------------------------------------------- what rows refer to as {name}


def png(width: int = 8, height: int = 8, mode: str = "L") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG of a few bytes that says it is 12,000 x 12,000."""
    head = (12000).to_bytes(4) * 2 + b"\x08\x00\x00\x00\x00"
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        len(data).to_bytes(4) + name + data + zlib.crc32(name + data).to_bytes(4) for name, data in chunks
    )


def table(images=None, labels=None, *, column="img", **more) -> pa.Table:
    """16 black images of each of 2 classes, unless told otherwise."""
    labels = [0, 1] * 16 if labels is None else labels
    images = [{"bytes": png()}] * len(labels) if images is None else images
    return pa.table({column: images, "label": labels, **more})


def swapped(position: int, data: bytes | None) -> list[dict]:
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
    "sizes": (GOOD, table(images=swapped(5, png(9, 8)))),
    "modes": (table(images=swapped(31, png(mode="RGB"))), GOOD),
    "undecodable": (table(images=swapped(7, b"not an image")), GOOD),
    "broken_image": (table(images=swapped(7, png()[:-30])), GOOD),
    "null_image": (table(images=swapped(3, None)), GOOD),
    "postscript": (table(images=swapped(2, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n")), GOOD),
    "large": (table(images=swapped(4, png(1025, 8))), GOOD),
    "bomb": (table(images=swapped(6, bomb())), GOOD),
    "good": (GOOD, GOOD),
}


def write_parquets(root: Path) -> None:
    for name, parts in PARQUETS.items():
        (root / name).mkdir()
        for part, content in zip(("train", "test"), parts, strict=True):
            path = root / name / f"{part}.parquet"
            if isinstance(content, bytes):
                path.write_bytes(content)
            elif content == "truncated":
                pq.write_table(GOOD, path)
                path.write_bytes(path.read_bytes()[:-100])
            elif content is not None:
                pq.write_table(content, path)


def write_studies(root: Path) -> None:
    """Folders with a plan.json: good, of another study, of an older version, not a plan at all."""
    plan = cli.plan_of(STUDY, cli.parser(STUDY).parse_args([])).to_json()
    older = {**plan, "config": {**plan["config"], "loss.sharpness": 3}}
    lacking = {name: value for name, value in plan.items() if name != "sampler"}
    plans = {"mine": plan, "other": {**plan, "study": "other"}, "older": older, "lacking": lacking, "list": []}
    texts = {name: json.dumps(plain) for name, plain in plans.items()} | {"corrupt": '{"name": "cor', "binary": "\x00"}
    for name, text in texts.items():
        (root / name).mkdir()
        (root / name / "plan.json").write_text(text)
    (root / "empty").mkdir()
    (root / "a_file").touch()


def serve(answer: bytes) -> tuple[str, http.server.HTTPServer]:
    """A web server on this machine whose every page is `answer`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(404 if answer == b"404" else 200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}", server


def listener(greeting: bytes) -> tuple[str, socket.socket]:
    """Something on this machine that does not speak HTTP: it says its greeting, or nothing, and listens."""
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
    return f"127.0.0.1:{server.getsockname()[1]}", server


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Everything that is not as it should be, by the name that rows call it."""
    root = tmp_path_factory.mktemp("places")
    (root / "file").write_text("in the way")
    (root / "text.db").write_text("not a database, but long enough to have a header that could be checked" * 10)
    with sqlite3.connect(root / "songs.db") as other:
        other.execute("create table songs (title text)")
    other.close()
    (root / "parquets").mkdir()
    write_parquets(root / "parquets")
    (root / "runs").mkdir()
    write_studies(root / "runs")
    web, web_server = serve(b"<html>Welcome to nginx!</html>")
    gone, gone_server = serve(b"404")
    garbled, garbled_server = listener(b"SSH-2.0-OpenSSH_9.6\r\n")
    silent, silent_server = listener(b"")
    with socket.create_server(("127.0.0.1", 0)) as once:
        closed = f"127.0.0.1:{once.getsockname()[1]}"
    yield {
        "file": root / "file", "text_db": root / "text.db", "songs_db": root / "songs.db", "runs": root / "runs",
        "parquet": f"parquet:{root / 'parquets'}", "places": root, "web": web, "gone": gone, "garbled": garbled,
        "silent": silent, "closed": closed,
    }  # fmt: skip
    for server in (web_server, gone_server):
        server.shutdown()
        server.server_close()
    for server in (garbled_server, silent_server):
        server.close()


# ---------------------------------------------------------------- id: command line, what the message says

ROWS: dict[str, tuple[list[str], list[str]]] = {
    # words
    "unknown switch": (["--trails", "9"], ["unrecognized arguments: --trails 9"]),
    "abbreviated switch": (["--trial", "9"], ["unrecognized arguments: --trial 9"]),
    "stray word": (["a\nb"], ["unrecognized arguments: a b"]),
    "switch without its value": (["--dataset"], ["--dataset", "expected one argument"]),
    "unknown preset": (["--preset", "papr"], ["unknown preset 'papr'", "did you mean 'paper'", "dev, paper"]),
    "unknown sampler": (["--sampler", "nsga3"], ["unknown sampler 'nsga3'", "did you mean 'nsga2'", "tpe"]),
    "unknown data set": (
        ["--dataset", "cifar11"],
        ["unknown dataset 'cifar11'", "did you mean 'cifar10", "digits, mnist"],
    ),
    "empty data set": (["--dataset", ""], ["unknown dataset ''", "digits, mnist"]),
    # --set
    "set without equals": (["--set", "epochs"], ["--set takes NAME=VALUE", "'epochs'"]),
    "set without value": (["--set", "epochs="], ["--set takes NAME=VALUE", "'epochs='"]),
    "set without anything": (["--set"], ["--set", "expected at least one argument"]),
    "set twice": (["--set", "epochs=2", "--set", "epochs=3"], ["--set names epochs twice"]),
    "set the data set": (["--set", "dataset=mnist"], ["use --dataset"]),
    "set the seed": (["--set", "seed=3"], ["use --seed"]),
    "unknown setting": (["--set", "epoch=3"], ["unknown setting 'epoch'", "did you mean 'epochs'"]),
    "unknown setting of no slot": (["--set", "epsilon=8"], ["unknown setting 'epsilon'", "judge.epsilon"]),
    "unknown knob": (["--set", "loss.lamda=1"], ["unknown knob of loss=crl: 'lamda'", "did you mean 'lambda'"]),
    "knob of another filling": (
        ["--set", "loss.alpha=1"],
        ["unknown knob of loss=crl: 'alpha'", "relaxloss has it"],
    ),
    "knob of a filling without any": (["--set", "regularizer.lambda=1"], ["knob of regularizer=none", "it has none"]),
    "unknown filling": (["--set", "net=resnet19"], ["unknown net 'resnet19'", "did you mean 'resnet18'", "convnet"]),
    "text for a number": (["--set", "loss.lambda=much"], ["loss.lambda takes float, got 'much'"]),
    "fraction by zero": (["--set", "loss.lambda=1/0"], ["loss.lambda takes float, got '1/0'"]),
    "real for a whole number": (["--set", "epochs=2.5"], ["epochs takes int, got '2.5'"]),
    "number for yes or no": (["--set", "normalize=2"], ["normalize takes bool, got '2'"]),
    "unknown suite": (["--set", "judge.suite=stron"], ["judge.suite", "'stron'", "quick, standard, strong"]),
    "space of suites": (["--space", "judge.suite=quick,strong"], ["--space judge.suite", "judge"]),
    "unknown option": (["--set", "judge.norm=l1"], ["judge.norm", "'l1'", "linf, l2"]),
    "epsilon in 255ths": (["--set", "judge.epsilon=8"], ["epsilon=8 is outside [0, 1]", "write 8/255"]),
    "training epsilon in 255ths": (["--set", "perturbation.epsilon=8"], ["epsilon=8 is outside [0, 3]", "write 8/255"]),
    "negative weight": (["--set", "loss.lambda=-1"], ["lambda=-1 is outside [0, inf)"]),
    "share above one": (["--set", "perturbation.alpha=1.5"], ["alpha=1.5 is outside [0, 1]"]),
    "no epochs": (["--set", "epochs=0"], ["epochs=0 is outside [1, inf)"]),
    "batch of one": (["--set", "batch_size=1"], ["batch_size=1 is outside [2, inf)"]),
    "NaN": (["--set", "loss.lambda=nan"], ["loss.lambda takes float, got 'nan'"]),
    "infinity": (["--set", "optimizer.lr=inf"], ["optimizer.lr takes float, got 'inf'"]),
    "schedule of a word": (["--set", "optimizer.schedule=linear"], ["schedule 'linear'", "cosine", "50:0.1"]),
    "schedule of half a pair": (["--set", "optimizer.schedule=50:"], ["cannot read the schedule '50:'"]),
    # --space
    "space without equals": (["--space", "loss.lambda"], ["--space takes", "'loss.lambda'"]),
    "space that is one number": (["--space", "loss.lambda=1"], ["--space loss.lambda", "LOW:HIGH"]),
    "space of words": (["--space", "loss.lambda=low:high"], ["--space loss.lambda", "'low' is not a number"]),
    "space upside down": (["--space", "loss.lambda=2:1"], ["--space loss.lambda", "low < high"]),
    "space of a point": (["--space", "loss.lambda=1:1"], ["low < high"]),
    "space to infinity": (["--space", "loss.lambda=0:inf"], ["'inf' is not a finite number"]),
    "log space from zero": (["--space", "loss.lambda=0:1:log"], ["a log range needs a positive lower end"]),
    "space that ends in a typo": (["--space", "loss.lambda=1:2:lin"], ["cannot read the range '1:2:lin'"]),
    "space outside the bounds": (
        ["--space", "perturbation.alpha=0.5:1.5"],
        ["space perturbation.alpha", "outside [0, 1]"],
    ),
    "space of reals for a whole number": (["--space", "net.width=8:16:log"], ["net.width takes int, got 8.0"]),
    "space with an illegal option": (["--space", "loss.upper=0.5,2"], ["space loss.upper", "outside [0, 1]"]),
    "space with an option twice": (["--space", "loss.lambda=1,1.0"], ["different options"]),
    "space of an unknown knob": (["--space", "loss.lamda=1:2"], ["'lamda'", "did you mean 'lambda'"]),
    "space of a slot": (["--space", "loss=crl,relaxloss"], ["unknown knob 'loss'"]),
    "space of data sets": (["--space", "dataset=digits,mnist"], ["--space dataset", "same images"]),
    "space of judges": (["--space", "judge.steps=5:10"], ["--space judge.steps", "judge"]),
    "set and searched": (
        ["--set", "net.width=8", "--space", "net.width=8:16"],
        ["net.width is in both --set and --space"],
    ),
    "nothing left to search": (
        [
            "--set",
            "loss.alpha_rce=1",
            "loss.lambda=1",
            "loss.alpha_rcl=0.5",
            "loss.tau_rcl=1",
            "perturbation.epsilon=0",
        ],
        ["nothing is left to search"],
    ),
    # how much, on what
    "no trials": (["--trials", "0"], ["--trials", "0 is less than 1"]),
    "trials in words": (["--trials", "many"], ["--trials", "'many' is not a whole number"]),
    "baselines only": (["--trials", "3"], ["--trials 3 is too few", "at least 4"]),
    "negative seed": (["--seed", "-1"], ["--seed", "-1 is less than 0"]),
    "negative workers": (["--workers-per-trial", "-1"], ["--workers-per-trial", "-1 is less than 0"]),
    "no concurrency": (["--concurrency", "0"], ["--concurrency", "0 is less than 1"]),
    "one and a half GPUs": (["--gpus-per-worker", "1.5"], ["--gpus-per-worker", "1.5 is neither a fraction"]),
    "more GPUs for a shadow model than there are": (
        ["--gpus-per-shadow", "99"],
        ["--gpus-per-shadow 99 is more than the", "GPUs of this machine"],
    ),
    "shadow models of nothing": (["--shadows", "2", "--no-confirm"], ["--shadows audits what confirm trains", "--no-confirm"]),
    "minus one shadow model": (["--shadows", "-1"], ["--shadows", "-1"]),
    "a shadow model as a study": (["--set", "shadow=1"], ["--set shadow", "--shadows"]),
    "NaN GPUs": (["--gpus-per-worker", "nan"], ["--gpus-per-worker", "'nan' is not a finite number"]),
    "more GPUs than exist": (
        ["--gpus-per-worker", "99"],
        ["--gpus-per-worker 99 is more than the", "GPUs of this machine"],
    ),
    "no cores": (["--cpus-per-worker", "0"], ["--cpus-per-worker", "more than 0"]),
    "negative cores": (["--cpus-per-worker", "-1"], ["--cpus-per-worker", "-1 is neither"]),
    "more cores than exist": (
        ["--cpus-per-worker", TOO_MANY],
        [f"--cpus-per-worker {TOO_MANY} is more than the", "CPU cores"],
    ),
    "more workers than cores": (
        ["--workers-per-trial", TOO_MANY],
        [f"{TOO_MANY} x --cpus-per-worker 1 is more than the"],
    ),
    # combinations that cannot be
    "net too deep for digits": (
        ["--set", "net=vgg11_bn"],
        ["net=vgg11_bn needs images of at least 32x32, these are 8x8"],
    ),
    "residual net too deep": (
        ["--set", "net=resnet18"],
        ["net=resnet18 needs images of at least 16x16", "net=convnet"],
    ),
    "preset for larger images": (
        ["--preset", "paper", "--dataset", "digits"],
        ["net=resnet18 needs images of at least"],
    ),
    "never relaxes": (["--set", "loss.tau_rce=5"], ["loss.tau_rce=5", "alpha_rce=0.5 never relaxes", "lower tau_rce"]),
    "pool too large": (["--set", "pool=5000"], ["pool=5000 is more than the 1797 images of digits"]),
    "pool too small": (["--set", "pool=20"], ["pool=20 is too small", "at least 8 images for each of 10 classes"]),
    # parquet
    "parquet folder missing": (
        ["--dataset", "parquet:nowhere"],
        ["no file", "nowhere/train.parquet", "DIR/test.parquet"],
    ),
    "parquet test part missing": (["--dataset", "{parquet}/no_test"], ["no file", "no_test/test.parquet"]),
    "parquet corrupt": (["--dataset", "{parquet}/corrupt"], ["cannot read", "corrupt/train.parquet"]),
    "parquet truncated": (["--dataset", "{parquet}/truncated"], ["cannot read", "truncated/train.parquet"]),
    "parquet without images": (["--dataset", "{parquet}/no_image"], ["columns picture, label", "expected img"]),
    "parquet without labels": (["--dataset", "{parquet}/no_label"], ["columns img", "label"]),
    "parquet of paths": (["--dataset", "{parquet}/not_struct"], ["column img is string", "struct", "img.bytes"]),
    "parquet struct of paths": (
        ["--dataset", "{parquet}/no_bytes"],
        ["column img is struct<path: string>", "img.bytes"],
    ),
    "parquet text for bytes": (["--dataset", "{parquet}/text_bytes"], ["column img is struct<bytes: string>"]),
    "parquet labels in words": (["--dataset", "{parquet}/text_label"], ["column label is string", "whole numbers"]),
    "parquet label missing": (["--dataset", "{parquet}/null_label"], ["1 labels are missing"]),
    "parquet label gap": (["--dataset", "{parquet}/label_gap"], ["without gaps"]),
    "parquet label negative": (["--dataset", "{parquet}/label_negative"], ["without gaps"]),
    "parquet label huge": (["--dataset", "{parquet}/label_huge"], ["without gaps"]),
    "parquet one class": (
        ["--dataset", "{parquet}/one_class"],
        ["40 images have the same label", "at least 2 classes"],
    ),
    "parquet few of a class": (["--dataset", "{parquet}/few"], ["class 1 has 4 images", "at least 8"]),
    "parquet without rows": (["--dataset", "{parquet}/empty"], ["{parquet}/empty", "labels"]),
    "parquet different sizes": (["--dataset", "{parquet}/sizes"], ["sizes/test.parquet row 5", "9x8", "8x8"]),
    "parquet different modes": (["--dataset", "{parquet}/modes"], ["train.parquet row 31", "8x8 RGB", "8x8 grey"]),
    "parquet not an image": (["--dataset", "{parquet}/undecodable"], ["row 7: not an image that can be read"]),
    "parquet half an image": (["--dataset", "{parquet}/broken_image"], ["row 7: not an image that can be read"]),
    "parquet no image": (["--dataset", "{parquet}/null_image"], ["row 3: not an image that can be read"]),
    "parquet program for an image": (["--dataset", "{parquet}/postscript"], ["row 2: not an image that can be read"]),
    "parquet image too large": (["--dataset", "{parquet}/large"], ["row 4: image is 1025x8, at most 1024 a side"]),
    "parquet image bomb": (
        ["--dataset", "{parquet}/bomb"],
        ["row 6: not an image that can be read", "decompression bomb"],
    ),
    # downloads
    "data set neither there nor to be had": (
        ["--dataset", "mnist", "--data-dir", "sets"],
        ["cannot read MNIST from sets"],
    ),
    "archive neither there nor to be had": (["--dataset", "cifar10"], ["cannot read CIFAR10 from data or download it"]),
    "file where data sets should be": (["--dataset", "svhn", "--data-dir", "{file}"], ["cannot read SVHN from {file}"]),
    # storage
    "storage is a file": (["--storage", "{file}"], ["cannot write to --storage {file}"]),
    "storage below a file": (["--storage", "{file}/runs"], ["cannot write to --storage {file}/runs"]),
    "storage nobody can write": (["--storage", "/proc/trilemma"], ["cannot write to --storage /proc/trilemma"]),
    "storage URI nobody can write": (
        ["--storage", "file:///proc/trilemma"],
        ["cannot write to --storage /proc/trilemma"],
    ),
    "storage of unknown scheme": (["--storage", "gopher://x/y"], ["cannot use --storage gopher://x/y"]),
    # tracking
    "tracking in a folder": (["--tracking-uri", "mlruns"], ["--tracking-uri 'mlruns' is none of: sqlite:///FILE"]),
    "tracking of unknown scheme": (
        ["--tracking-uri", "ftp://host/x"],
        ["'ftp://host/x' is none of", "http(s)://HOST:PORT"],
    ),
    "tracking in memory": (["--tracking-uri", "sqlite://"], ["'sqlite://' is none of: sqlite:///FILE"]),
    "tracking at a broken address": (["--tracking-uri", "http://[::1"], ["'http://[::1' is none of"]),
    "tracking at a broken port": (["--tracking-uri", "postgresql://u:p@host:a/x"], ["is none of"]),
    "tracking with a blank": (
        ["--tracking-uri", "http://a b"],
        ["no MLflow server answers at --tracking-uri http://a b"],
    ),
    "tracking at a closed port": (["--tracking-uri", "http://{closed}"], ["no MLflow server answers", "refused"]),
    "tracking at a silent port": (["--tracking-uri", "http://{silent}"], ["no MLflow server answers", "timed out"]),
    "tracking at an SSH port": (["--tracking-uri", "http://{garbled}"], ["no MLflow server answers"]),
    "tracking at another server": (
        ["--tracking-uri", "{web}"],
        ["what answers at --tracking-uri {web} is not an MLflow"],
    ),
    "tracking at a server without it": (["--tracking-uri", "{gone}"], ["--tracking-uri {gone} answers 404"]),
    "tracking in a text file": (["--tracking-uri", "sqlite:///{text_db}"], ["{text_db} is not a SQLite file"]),
    "tracking in a folder's place": (["--tracking-uri", "sqlite:///{places}"], ["{places} is not a SQLite file"]),
    "tracking in another database": (
        ["--tracking-uri", "sqlite:///{songs_db}"],
        ["a database of something else than MLflow"],
    ),
    "tracking in no folder": (["--tracking-uri", "sqlite:///no/where.db"], ["cannot make a file in", "no"]),
    "tracking below a file": (["--tracking-uri", "sqlite:///{file}/x.db"], ["cannot make a file in {file}"]),
    "tracking in no database": (
        ["--tracking-uri", "postgresql://me:secret@{closed}/x"],
        ["no database answers at", "{closed}"],
    ),
    # cluster
    "address of nothing": (["--address", "somewhere"], ["--address 'somewhere' is not HOST:PORT"]),
    "address with a broken port": (["--address", "localhost:port"], ["--address 'localhost:port' is not HOST:PORT"]),
    "address with a port too high": (
        ["--address", "localhost:99999"],
        ["--address 'localhost:99999' is not HOST:PORT"],
    ),
    "address half in brackets": (["--address", "[::1"], ["--address '[::1' is not HOST:PORT"]),
    "address of the web": (["--address", "http://{closed}"], ["is not HOST:PORT or auto"]),
    "address of no host": (["--address", "a..b:6379"], ["no Ray cluster answers at --address a..b:6379"]),
    "address at a closed port": (
        ["--address", "{closed}"],
        ["no Ray cluster answers at --address {closed}", "ray start"],
    ),
    "client address at a closed port": (["--address", "ray://{closed}"], ["run it on the head node with --address auto"]),
    # resume
    "resume of nothing": (["--resume", "crl"], ["no study 'crl' in --storage runs, there is: none"]),
    "resume of no name": (["--resume", ""], ["no study ''"]),
    "resume of an unknown study": (
        ["--resume", "mime", "--storage", "{runs}"],
        ["no study 'mime'", "mine, older, other"],
    ),
    "resume from outside": (["--resume", "../runs/mine", "--storage", "{runs}"], ["no study '../runs/mine'"]),
    "resume of the whole storage": (["--resume", ".", "--storage", "{runs}/mine"], ["no study '.'"]),
    "resume of a folder without plan": (["--resume", "empty", "--storage", "{runs}"], ["no study 'empty'"]),
    "resume in a file": (["--resume", "mine", "--storage", "{file}"], ["no study 'mine' in --storage {file}"]),
    "resume in an unknown scheme": (
        ["--resume", "mine", "--storage", "gopher://x"],
        ["cannot use --storage gopher://x"],
    ),
    "resume of another study": (
        ["--resume", "other", "--storage", "{runs}"],
        ["a study of other", "python studies/other.py"],
    ),
    "resume with other trials": (["--resume", "mine", "--storage", "{runs}", "--trials", "9"], ["drop --trials"]),
    "resume with other settings": (
        ["--resume", "mine", "--storage", "{runs}", "--set", "epochs=2", "--seed", "4"],
        ["goes on with the study as it was planned", "drop --seed, --set"],
    ),
    "resume of half a plan": (["--resume", "corrupt", "--storage", "{runs}"], ["corrupt/plan.json is not a plan"]),
    "resume of bytes": (["--resume", "binary", "--storage", "{runs}"], ["binary/plan.json is not a plan"]),
    "resume of a list": (["--resume", "list", "--storage", "{runs}"], ["list/plan.json is not a plan"]),
    "resume of an incomplete plan": (["--resume", "lacking", "--storage", "{runs}"], ["lacking/plan.json", "sampler"]),
    "resume of another version": (["--resume", "older", "--storage", "{runs}"], ["older/plan.json", "'sharpness'"]),
    "resume where tracking is gone": (
        ["--resume", "mine", "--storage", "{runs}", "--tracking-uri", "http://{closed}"],
        ["no MLflow server answers"],
    ),
    # several at once: what is cheap to see is said first, and nothing is downloaded for it
    "too few trials of what would be downloaded": (
        ["--dataset", "cifar10", "--trials", "2"],
        ["--trials 2 is too few"],
    ),
    "dry runs are checked too": (["--dry-run", "--storage", "{file}"], ["cannot write to --storage {file}"]),
}

SWITCHED: dict[str, tuple[list[str], list[str]]] = {
    "set a knob that only one option has": (
        ["--set", "loss.alpha_rce=0.5"],
        ["--set loss.alpha_rce: it is searched which loss", "only loss=crl has", "add --set loss=crl"],
    ),
    "set a knob that several options have": (
        ["--set", "perturbation.epsilon=0.01"],
        ["--set perturbation.epsilon: ", "only perturbation=fgsm or pgd has", "add --set perturbation=fgsm"],
    ),
    "set a knob that no option has": (["--set", "loss.lamda=1"], ["none of cross_entropy, relaxloss, crl has such a knob"]),
    "set a knob of another option than is set": (
        ["--set", "loss=cross_entropy", "loss.alpha_rce=0.5"],
        ["unknown knob of loss=cross_entropy: 'alpha_rce'", "crl"],
    ),
    "search a knob that only one option has": (
        ["--space", "loss.lambda=0.1:1:log"],
        ["--space loss.lambda: it is searched which loss", "only loss=crl has", "add --set loss=crl"],
    ),
    "search a knob that is in no option": (["--space", "loss.tau_rce=0.1:1"], ["only loss=crl has", "add --set loss=crl"]),
    "search an option that is not among them": (
        ["--space", "loss=crl,relaxlos"],
        ["unknown option of --space loss 'relaxlos'", "did you mean 'relaxloss'", "cross_entropy, relaxloss, crl"],
    ),
    "search a slot over numbers": (["--space", "loss=1:2"], ["unknown option of --space loss '1'"]),
    "search a slot and set it": (
        ["--set", "loss=crl", "--space", "loss=crl,relaxloss"],
        ["loss is in both --set and --space"],
    ),
    "gp where it is searched which": (
        ["--sampler", "gp"],
        ["--sampler gp cannot search which loss", "use tpe, nsga2, random"],
    ),
    "gp with one slot left": (["--sampler", "gp", "--set", "loss=crl"], ["--sampler gp cannot search which perturbation"]),
}
"""Of a study with a conditional space."""


def everything(*folders: Path) -> dict[Path, tuple]:
    """Every file and folder below, with size and time."""
    paths = [path for folder in folders for path in [folder, *folder.rglob("*")]]
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in paths}


@pytest.mark.parametrize("case", [*ROWS, *SWITCHED])
def test_bad_input_is_one_line_and_leaves_nothing(case, places, tmp_path, monkeypatch, capfd):
    argv, fragments = (ROWS | SWITCHED)[case]
    argv = [word.format_map(places) for word in argv]
    monkeypatch.chdir(tmp_path)
    nothing_can_be_downloaded(monkeypatch)
    monkeypatch.setenv("no_proxy", "127.0.0.1,a b")
    monkeypatch.setattr(preflight, "SECONDS", 0.3)
    monkeypatch.setattr(launch, "_run", lambda *args: pytest.fail("the study would have started"))
    torch.set_num_threads(1)
    before, start = everything(tmp_path, places["places"]), time.monotonic()
    with warnings.catch_warnings(), pytest.raises(SystemExit) as left:
        warnings.simplefilter("error", Image.DecompressionBombWarning)  # a warning is a line, too
        cli.main(CONDITIONAL if case in SWITCHED else STUDY, argv)
    assert time.monotonic() - start < 10
    assert left.value.code == 2
    out, err = capfd.readouterr()
    assert not out and err.startswith("error: ") and err.endswith("\n") and err.count("\n") == 1, out + err
    assert not [fragment for fragment in fragments if fragment.format_map(places) not in err], err
    assert "secret" not in err
    mtimes = lambda files: {path: seen for path, seen in files.items() if not path.is_dir()}  # noqa: E731
    after = everything(tmp_path, places["places"])
    assert after.keys() == before.keys() and mtimes(after) == mtimes(before)
    if "ray" in sys.modules:
        assert not sys.modules["ray"].is_initialized()


def test_at_least_25_kinds_of_bad_input_are_tried():
    assert len({tuple(argv) for argv, _ in ROWS.values()}) == len(ROWS) > 100


def test_what_is_good_about_the_rows_is_good(places, tmp_path, monkeypatch):
    """The rows fail for the reason they name: the same images, folders and plans without the flaw are accepted."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "_run", lambda *args: 0)
    for argv in ([], ["--dataset", f"{places['parquet']}/good"], ["--resume", "mine", "--storage", str(places["runs"])],
                 ["--storage", f"file://{tmp_path}/a%20b"]):  # fmt: skip
        with pytest.raises(SystemExit) as left:
            cli.main(STUDY, argv)
        assert left.value.code == 0, argv
    assert not list(tmp_path.iterdir())


def test_a_server_that_is_healthy_but_not_mlflow_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    web, server = serve(b"OK")
    with pytest.raises(SystemExit) as left:
        cli.main(STUDY, ["--tracking-uri", web])
    server.shutdown()
    server.server_close()
    assert left.value.code == 2 and f"--tracking-uri {web} cannot be read" in capsys.readouterr().err


def test_the_script_itself_leaves_with_2(tmp_path):
    script = [sys.executable, str(ROOT / "studies" / "crl_tradeoff.py"), "--dataset", "cifar11"]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith("error: unknown dataset 'cifar11'") and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
