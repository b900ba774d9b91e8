"""Names that come from files: none of them leaves the folder of the store, whatever is asked of it."""

import os
import pickle
from pathlib import Path

import fsspec
import pytest
from pyarrow.fs import FSSpecHandler, PyFileSystem

from core.errors import InputError
from trainables.storage.store import Store

OUTSIDE = (
    "../victim", "../victim/x", "a/../../victim", "..", "/etc/passwd", "", "a//b", "a/", "a/./b", "..\\victim", "a\0b", "a\nb",
)  # fmt: skip
CALLS = {
    "below": lambda store, name: store.below(name),
    "write": lambda store, name: store.write(name, b"x"),
    "write_all": lambda store, name: store.write_all({name: b"x"}),
    "write_json": lambda store, name: store.write_json(name, []),
    "write_state": lambda store, name: store.write_state(name, {}),
    "read": lambda store, name: store.read(name),
    "read_json": lambda store, name: store.read_json(name),
    "read_arrays": lambda store, name: store.read_arrays(name),
    "read_state": lambda store, name: store.read_state(name),
    "is_truncated": lambda store, name: store.is_truncated(name),
    "discard": lambda store, name: store.discard(name),
    "discard_folder": lambda store, name: store.discard_folder(name),
    "names": lambda store, name: store.names(name),
}
"""Every method that takes a name."""


@pytest.fixture(params=["local", "objects"])
def store(request, tmp_path) -> Store:
    """The folder `runs` beside a folder `victim`, on this machine and behind the interface of S3."""
    for name in ("runs/a/x", "victim/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("kept")
    if request.param == "local":
        return Store.at(str(tmp_path / "runs"))
    store = Store("s3://bucket/runs")
    vars(store)["_place"] = (PyFileSystem(FSSpecHandler(fsspec.filesystem("file", auto_mkdir=True))), str(tmp_path / "runs"))
    return store


@pytest.mark.parametrize("call", CALLS)
def test_no_method_accepts_a_name_that_leaves_the_folder(store, tmp_path, call):
    for name in OUTSIDE:
        if name or call != "names":  # the names in the folder itself
            with pytest.raises(InputError, match="is not the name of a file or folder below"):
                CALLS[call](store, name)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == ["runs/a/x", "victim/x"]


def test_names_with_dots_and_spaces_that_stay_inside_are_accepted(store):
    for name in ("..a", "a..", "...", "a b", ".hidden", "caf\u00e9/x"):
        store.write(name, b"x")
        assert store.read(name) == b"x"


def test_an_escaped_name_cannot_leave_the_folder_of_a_uri():
    """pyarrow decodes the path of a URI: s3://bucket/runs/%2e%2e is s3://bucket/runs/.. ."""
    store = Store("s3://bucket/runs?region=us-east-1")
    for name in ("%2e%2e", "a%2fb", "a?region=other", "a#b"):
        with pytest.raises(InputError, match=r"has none of % \? #"):
            store.below(name)


def test_an_error_survives_the_way_from_a_worker_to_the_driver(store):
    store.write("x.json", b"{")
    with pytest.raises(InputError) as error_info:
        store.read_json("x.json")
    copy = pickle.loads(pickle.dumps(error_info.value))
    assert str(copy) == str(error_info.value) and "x.json is damaged" in str(copy)


def test_symbolic_links_are_removed_but_not_followed(tmp_path):
    (tmp_path / "victim/sub").mkdir(parents=True)
    for name in ("victim/x", "victim/sub/x.0123.part"):
        (tmp_path / name).write_text("kept")
    (tmp_path / "runs/ray").mkdir(parents=True)
    store = Store.at(str(tmp_path / "runs"))
    (tmp_path / "runs/ray/link").symlink_to(tmp_path / "victim")
    (tmp_path / "runs/other").symlink_to(tmp_path / "victim")
    (tmp_path / "runs/y.0123.part").symlink_to(tmp_path / "victim/x")
    store.discard_parts()
    store.discard_folder("ray")
    store.discard_folder("other")
    assert store.names("") == [] and {path.name for path in (tmp_path / "victim").rglob("*")} == {"x", "sub", "x.0123.part"}


def test_a_path_through_a_symbolic_link_is_not_contained(tmp_path):
    (tmp_path / "victim").mkdir()
    (tmp_path / "runs/s-1").mkdir(parents=True)
    (tmp_path / "runs/link").symlink_to(tmp_path / "victim")
    (tmp_path / "alias").symlink_to(tmp_path / "runs")
    for store in (Store.at(str(tmp_path / "runs")), Store.at(str(tmp_path / "alias"))):
        assert store.contains("s-1/x") and not store.contains("link/x") and not store.contains("../victim")


def test_entries_with_names_that_no_study_has_are_skipped(tmp_path: Path):
    store = Store.at(str(tmp_path))
    for name in (b"\xff\xfe", b"a\nb", b"c\\d"):
        os.mkdir(os.fsencode(tmp_path) + b"/" + name)
    (tmp_path / "s-1").mkdir()
    assert store.names("") == ["s-1"]
