"""A file is there whole or not at all, and nothing that is read is executed."""

import errno
import io
import json
import os
import pickle
from pathlib import Path

import finished
import fsspec
import pytest
import torch
from pyarrow.fs import FSSpecHandler, PyFileSystem

from core.errors import InputError
from trainables.reconcile import take_over
from trainables.store import Store, Superseded


@pytest.fixture(params=["path", "file://", "objects"])
def store(request, tmp_path):
    """On a path, on the same by its URI, and on objects in memory that are reached as those of S3 are."""
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
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_what_is_written_is_read(store):
    store.write("a/b/c.bin", b"\x00\xff")
    assert store.read("a/b/c.bin") == b"\x00\xff"
    assert store.below("a").below("b").root == f"{store.root}/a/b"


def test_the_newest_content_replaces_the_older(store):
    store.write("a.bin", b"long enough")
    store.write("a.bin", b"short")
    assert store.read("a.bin") == b"short" and store.names("") == ["a.bin"]


def test_what_is_missing_is_none(store):
    store.write("file", b"")
    assert store.read("file") == b""
    for name in ("no", "no/where"):
        assert store.read(name) is None and store.read_json(name) is None and store.read_state(name) is None


def test_what_is_below_a_file_is_missing(tmp_path):
    (tmp_path / "file").touch()
    assert Store.at(str(tmp_path)).read("file/x") is None
    assert Store.at(str(tmp_path / "file")).names("") == []


def test_names_are_sorted_and_of_one_level(store):
    for name in ("10/x", "9/x", "00002/x/y", "a.json"):
        store.write(f"trials/{name}", b"")
    assert store.names("trials") == ["00002", "10", "9", "a.json"]
    assert store.names("nothing") == []


def test_discard_removes_and_does_not_mind_what_is_missing(store):
    store.write("a", b"x")
    store.discard("a")
    store.discard("a")
    assert store.read("a") is None


def test_json_keeps_every_float_and_refuses_what_json_has_not(store):
    content = {"x": [1 / 3, 1e-300, 5e-324, -0.0], "n": 2**53 + 1, "t": "é\n", "b": True, "none": None}
    store.write_json("a.json", content)
    assert store.read_json("a.json") == content
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError):
            store.write_json("a.json", {"x": bad})
    assert store.read_json("a.json") == content


def test_a_write_that_breaks_off_leaves_the_old_content(tmp_path):
    resource = pytest.importorskip("resource")
    store = Store.at(str(tmp_path))
    store.write("a.bin", b"old")
    reader, writer = os.pipe()
    child = os.fork()
    if not child:  # the kernel refuses to make the file longer than 4 kB, as a full disk would
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


def test_what_cannot_be_serialised_leaves_the_old_content(store):
    store.write_json("a", [1])
    with pytest.raises(TypeError):
        store.write_json("a", [2, object()])
    assert store.read_json("a") == [1]


def test_a_reader_never_sees_half_a_file(tmp_path):
    """Two writers of one file, and a reader that looks all the time."""
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
    seen = {store.read("a") for _ in range(100)}
    done.set()
    writer.join()
    assert seen <= contents


def test_a_state_comes_back_as_it_was(store):
    state = {
        "modules": {"w": torch.randn(3, 2)},
        "epoch": 7,
        "rng": torch.get_rng_state(),
        "rows": [{"loss": 0.5}],
        "t": (1, None),
    }
    store.write_state("a.pt", state)
    back = store.read_state("a.pt")
    assert torch.equal(back["modules"]["w"], state["modules"]["w"]) and torch.equal(back["rng"], state["rng"])
    assert {k: back[k] for k in ("epoch", "rows", "t")} == {k: state[k] for k in ("epoch", "rows", "t")}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("wrap", [torch.save, pickle.dump])
def test_a_checkpoint_that_is_a_program_is_not_run(store, tmp_path, wrap):
    buffer = io.BytesIO()
    wrap({"modules": Bomb(tmp_path / "boom")}, buffer)
    store.write("a.pt", buffer.getvalue())
    with pytest.raises(pickle.UnpicklingError):
        store.read_state("a.pt")
    assert not (tmp_path / "boom").exists()
    torch.load(io.BytesIO(buffer.getvalue()), weights_only=False) if wrap is torch.save else pickle.loads(buffer.getvalue())
    assert (tmp_path / "boom").exists()  # it was one


def test_check_writable_leaves_nothing_behind(tmp_path):
    store = Store.at(str(tmp_path / "a" / "b"))
    store.check_writable()
    assert not list(tmp_path.iterdir())
    store.write("kept", b"x")
    store.check_writable()
    assert store.names("") == ["kept"]


def test_check_writable_says_where_it_failed(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "x"):
        with pytest.raises(InputError, match=f"cannot write to --storage {place}: "):
            Store.at(str(place)).check_writable()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_uri_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Store.at((tmp_path / "with space").as_uri()) == Store.at("with space") == Store(str(tmp_path / "with space"))
    assert Store.at("x").path == tmp_path / "x" and Store.at("mock:///x").path is None


def test_a_scheme_that_nobody_knows_is_refused():
    with pytest.raises(InputError, match="cannot use --storage gopher://x"):
        Store.at("gopher://x")


def test_a_store_travels_to_another_process(tmp_path):
    store = Store.at(str(tmp_path))
    store.write("a", b"x")
    far = pickle.loads(pickle.dumps(store))
    assert far == store and far.read("a") == b"x"
    assert len(pickle.dumps(store)) < 300
    assert json.loads(json.dumps(far.root)) == str(tmp_path)


def test_a_store_knows_what_is_above_it_and_where_it_is_in_there(tmp_path):
    root = Store.at(str(tmp_path))
    assert root.below("s-1").above == root and root.below("a/b").within(root) == "a/b"
    assert root.within(root) == "" and Store.at(str(tmp_path / "x")).within(Store.at(str(tmp_path / "xy"))) == ""
    remote = Store("s3://bucket/runs?region=x")
    assert remote.below("s-1").above == remote and remote.below("s-1").within(remote) == "s-1"


def test_whoever_came_first_writes_no_more_once_another_has_claimed_the_folder(tmp_path: Path):
    first = Store.at(str(tmp_path)).below("s-1").claimed()
    first.write("trials/00000/result.json", b"1")
    sent = pickle.loads(pickle.dumps(first))  # to a worker that outlives its driver
    second = Store.at(str(tmp_path)).below("s-1").claimed()
    for late in (first, sent, sent.below("trials/00000")):
        with pytest.raises(Superseded, match="another driver has gone on with the study"):
            late.write("result.json", b"2")
    second.below("trials/00000").write("result.json", b"3")
    Store.at(str(tmp_path)).write("cache/x.json", b"4")  # no study's
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() in (b"1", b"2")] == []


def test_a_file_that_could_not_be_written_leaves_nothing_and_harms_nothing(tmp_path: Path, monkeypatch):
    store = Store.at(str(tmp_path))
    store.write("result.json", b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        store.write("result.json", b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"result.json": b"old"}


def test_what_a_killed_driver_left_is_put_in_order_and_counted(tmp_path: Path):
    plan = finished.plan(trials=5, replicates=0)
    first = Store.at(str(tmp_path)).below("s-1")
    assert take_over(first, plan).anew
    for number in (0, 1, 2):
        params = plan.config.set({"seed": number + 1, "epochs": 5}).params()
        first.write_json(f"trials/{number:05d}/params.json", {"number": number, "baseline": "", "params": params})
        first.write(f"trials/{number:05d}/checkpoint.pt", b"state")
    finished.judged(first, "trials/00001", 1, finished.metrics(1))
    first.write("ray/tune-1/experiment_state.json", b"{}")
    for left in ("trials/00000/result.json.0123.part", "plan.json.4567.part"):
        (tmp_path / "s-1" / left).write_bytes(b"{")
    found = take_over(first, plan)
    assert (found.anew, [trial.number for trial in found.ended], found.going_on, found.to_come) == (False, [1], [0, 2], 2)
    assert str(found) == "resumed: 1 of 5 trials ended, 2 go on, 2 to come"
    names = {str(path.relative_to(tmp_path / "s-1")) for path in (tmp_path / "s-1").rglob("*") if path.is_file()}
    assert {name for name in names if "checkpoint" in name} == {"trials/00000/checkpoint.pt", "trials/00002/checkpoint.pt"}
    assert not [name for name in names if name.endswith(".part") or name.startswith("ray")]
