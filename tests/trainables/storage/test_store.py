"""The storage: files are complete or absent, nothing that is read is executed, and only the holder of the lease writes."""

import errno
import io
import json
import os
import pickle
from pathlib import Path

import fsspec
import pytest
import torch
from pyarrow.fs import FSSpecHandler, PyFileSystem

from core.errors import InputError
from trainables.storage.contents import Damaged
from trainables.storage.store import Store, Superseded


@pytest.fixture(params=["path", "file://", "objects"])
def store(request, tmp_path):
    """A folder given by its path, by its URI, and an object store in memory behind the interface of S3."""
    if request.param == "path":
        return Store.at(str(tmp_path / "s"))
    if request.param == "file://":
        return Store.at((tmp_path / "s").as_uri())
    store = Store("memory://s")
    vars(store)["_place"] = (
        PyFileSystem(FSSpecHandler(fsspec.filesystem("memory", skip_instance_cache=True))),
        str(tmp_path),
    )
    return store


class Bomb:
    """An object that creates a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_written_file_can_be_read(store):
    store.write("a/b/c.bin", b"\x00\xff")
    assert store.read("a/b/c.bin") == b"\x00\xff"
    assert store.below("a").below("b").root == f"{store.root}/a/b"


def test_new_content_replaces_the_old_content(store):
    store.write("a.bin", b"long enough")
    store.write("a.bin", b"short")
    assert store.read("a.bin") == b"short" and store.names("") == ["a.bin"]


def test_missing_files_are_read_as_none(store):
    store.write("file", b"")
    assert store.read("file") == b""
    for name in ("no", "no/where"):
        assert store.read(name) is None and store.read_json(name) is None and store.read_state(name) is None


def test_a_path_below_a_file_is_missing(tmp_path):
    (tmp_path / "file").touch()
    assert Store.at(str(tmp_path)).read("file/x") is None
    assert Store.at(str(tmp_path / "file")).names("") == []


def test_names_are_sorted_and_only_those_directly_in_the_folder(store):
    for name in ("10/x", "9/x", "00002/x/y", "a.json"):
        store.write(f"trials/{name}", b"")
    assert store.names("trials") == ["00002", "10", "9", "a.json"]
    assert store.names("nothing") == []


def test_discard_removes_a_file_and_ignores_a_missing_one(store):
    store.write("a", b"x")
    store.discard("a")
    store.discard("a")
    assert store.read("a") is None


def test_json_keeps_every_float_and_rejects_numbers_that_are_not_finite(store):
    content = {"x": [1 / 3, 1e-300, 5e-324, -0.0], "n": 2**53 + 1, "t": "é\n", "b": True, "none": None}
    store.write_json("a.json", content)
    assert store.read_json("a.json") == content
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError):
            store.write_json("a.json", {"x": bad})
    assert store.read_json("a.json") == content


def test_an_interrupted_write_leaves_the_old_content(tmp_path):
    resource = pytest.importorskip("resource")
    store = Store.at(str(tmp_path))
    store.write("a.bin", b"old")
    reader, writer = os.pipe()
    child = os.fork()
    if not child:  # the kernel refuses to make the file longer than 4 kB, like a full disk
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            store.write("a.bin", b"new" * 4096)
        except OSError:
            os.write(writer, b"refused")
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    assert os.read(reader, 100) == b"refused"
    os.close(reader)
    assert store.read("a.bin") == b"old"


def test_content_that_cannot_be_serialised_leaves_the_old_content(store):
    store.write_json("a", [1])
    with pytest.raises(TypeError):
        store.write_json("a", [2, object()])
    assert store.read_json("a") == [1]


def test_a_reader_never_reads_an_incomplete_file(tmp_path):
    """A writer alternates between two contents while a reader reads the file repeatedly."""
    import threading

    store = Store.at(str(tmp_path))
    contents = {bytes([i]) * 1_000_000 for i in range(2)}
    store.write("a", next(iter(contents)))
    done = threading.Event()

    def keep_writing():
        while not done.is_set():
            for content in contents:
                store.write("a", content)

    writer = threading.Thread(target=keep_writing)
    writer.start()
    read = {store.read("a") for _ in range(100)}
    done.set()
    writer.join()
    assert read <= contents


def test_a_state_is_restored_unchanged(store):
    state = {
        "modules": {"w": torch.randn(3, 2)},
        "epoch": 7,
        "rng": torch.get_rng_state(),
        "rows": [{"loss": 0.5}],
        "t": (1, None),
    }
    store.write_state("a.pt", state)
    restored = store.read_state("a.pt")
    assert torch.equal(restored["modules"]["w"], state["modules"]["w"]) and torch.equal(restored["rng"], state["rng"])
    assert {k: restored[k] for k in ("epoch", "rows", "t")} == {k: state[k] for k in ("epoch", "rows", "t")}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("wrap", [torch.save, pickle.dump])
def test_code_in_a_checkpoint_is_not_executed(store, tmp_path, wrap):
    buffer = io.BytesIO()
    wrap({"modules": Bomb(tmp_path / "boom")}, buffer)
    store.write("a.pt", buffer.getvalue())
    with pytest.raises(Damaged, match=r"a\.pt is damaged") as error_info:
        store.read_state("a.pt")
    assert "weights_only" not in str(error_info.value)  # PyTorch's own message advises to execute the code
    assert not (tmp_path / "boom").exists()
    torch.load(io.BytesIO(buffer.getvalue()), weights_only=False) if wrap is torch.save else pickle.loads(buffer.getvalue())
    assert (tmp_path / "boom").exists()  # an unprotected load executes the code


def test_check_writable_leaves_no_files_or_folders(tmp_path):
    store = Store.at(str(tmp_path / "a" / "b"))
    store.check_writable()
    assert not list(tmp_path.iterdir())
    store.write("kept", b"x")
    store.check_writable()
    assert store.names("") == ["kept"]


def test_the_error_of_check_writable_names_the_folder(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "x"):
        with pytest.raises(InputError, match=f"cannot write to --storage {folder}: "):
            Store.at(str(folder)).check_writable()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_uri_is_the_same_as_its_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Store.at((tmp_path / "with space").as_uri()) == Store.at("with space") == Store(str(tmp_path / "with space"))
    assert Store.at("x").path == tmp_path / "x" and Store.at("mock:///x").path is None


def test_an_unknown_uri_scheme_is_rejected():
    with pytest.raises(InputError, match="cannot use --storage gopher://x"):
        Store.at("gopher://x")


def test_a_store_is_small_and_unchanged_after_pickling(tmp_path):
    store = Store.at(str(tmp_path))
    store.write("a", b"x")
    unpickled = pickle.loads(pickle.dumps(store))
    assert unpickled == store and unpickled.read("a") == b"x"
    assert len(pickle.dumps(store)) < 300
    assert json.loads(json.dumps(unpickled.root)) == str(tmp_path)


def test_a_store_has_a_parent_and_a_path_relative_to_it(tmp_path):
    root = Store.at(str(tmp_path))
    assert root.below("s-1").above == root and root.below("a/b").within(root) == "a/b"
    assert root.within(root) == "" and Store.at(str(tmp_path / "x")).within(Store.at(str(tmp_path / "xy"))) == ""
    remote = Store("s3://bucket/runs?region=x")
    assert remote.below("s-1").above == remote and remote.below("s-1").within(remote) == "s-1"


def test_handles_with_an_earlier_lease_cannot_write_once_there_is_a_new_lease(tmp_path: Path):
    first = Store.at(str(tmp_path)).below("s-1").with_new_lease()
    first.write("trials/00000/result.json", b"1")
    on_worker = pickle.loads(pickle.dumps(first))  # of a worker that outlives its driver
    second = Store.at(str(tmp_path)).below("s-1").with_new_lease()
    for late in (first, on_worker, on_worker.below("trials/00000")):
        with pytest.raises(Superseded, match="another driver has resumed the study"):
            late.write("result.json", b"2")
    second.below("trials/00000").write("result.json", b"3")
    Store.at(str(tmp_path)).write("cache/results/x.json", b"4")  # belongs to no study
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() in (b"1", b"2")] == []


def test_a_failed_write_leaves_no_partial_file_and_the_old_content(tmp_path: Path, monkeypatch):
    store = Store.at(str(tmp_path))
    store.write("result.json", b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        store.write("result.json", b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"result.json": b"old"}
