"""Commands on a finished study with one damaged file: they do not need it, or name it in one line."""

import shutil
from pathlib import Path

import finished
import pytest
from revised import SECOND, write_reevaluation

from trainables.commands import audit, pick, rejudge
from trainables.revisions import revise
from trainables.storage.store import Store
from trainables.storage.versions import write_version
from trainables.study.results import AuditResult

COMMANDS = {
    "rejudge": (rejudge.main, ["s-1", "--suite", "strong"]),
    "repeat rejudge": (rejudge.main, ["s-1", "--suite", "standard"]),
    "audit": (audit.main, ["s-1", "--shadows", "1"]),
    "pick": (pick.main, ["s-1", "--minimize", "mia_auc", "--no-register"]),
}
"""Commands that read a finished study."""
DATA = ("result.json", "network.pt", "predictions.npz", "params.json", "plan.json", "facts.json", "audit.json", "version.json")
"""Names of files that are read; the others are for readers."""
OTHER = {".json": (b"null", b"[]", b'{"x": 7}'), ".pt": (b"PK",), ".npz": (b"PK",)}
"""Further contents by suffix."""
PLACES = ("trials/00001/", "confirm/", "versions/2/version.json", "versions/2/trials/00000/", "plan.json", "facts.json")
"""Files of which kind are tried."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A directory with a finished study that has an audit and a second version."""
    cwd = tmp_path_factory.mktemp("whole")
    store = finished.study(cwd / "runs")
    store.write_json("confirm/00000/1/audit.json", AuditResult(metrics={"mia_auc": 0.6}).to_json())
    write_version(store, SECOND)
    for folder in ("trials/00000", "trials/00001", "trials/00002", "confirm/00000/1"):
        write_reevaluation(store, SECOND, folder, 4)
    return cwd


def outcome(command: str, cwd: Path, monkeypatch, capfd) -> tuple[int, str]:
    """Exit code and standard error of a command that would re-evaluate networks if nothing is wrong."""
    entry, argv = COMMANDS[command]
    monkeypatch.chdir(cwd)
    monkeypatch.setattr(revise, "_run", lambda revision, networks, images: 0)
    monkeypatch.setattr(revise, "front_version", lambda uri, plan: 9)
    with pytest.raises(SystemExit) as exit_info:
        entry(argv)
    return int(exit_info.value.code or 0), capfd.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_a_damaged_file_is_named_in_one_line_unless_it_is_not_needed(command, whole, tmp_path, monkeypatch, capfd):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    assert outcome(command, tmp_path, monkeypatch, capfd)[0] == 0
    store, named = Store.at(str(tmp_path / "runs/s-1")), set()
    files = [name for name in finished.everything(tmp_path / "runs/s-1") if name.endswith(DATA) and name.startswith(PLACES)]
    assert len(files) == 13
    for name in files:
        data = store.read(name) or b""
        for content in (*(data[: int(share * len(data))] for share in (0, 0.5, 0.99)), *OTHER[Path(name).suffix]):
            store.write(name, content)
            code, err = outcome(command, tmp_path, monkeypatch, capfd)
            if code:
                assert code == 2 and err.startswith("error: ") and err.count("\n") == 1, (name, content[:20], err)
                assert name in err and "weights_only" not in err, (name, content[:20], err)
                named.add(name)
        store.write(name, data)
    assert finished.everything(tmp_path) == finished.everything(whole)
    needed = {"plan.json", "facts.json", "versions/2/version.json", "trials/00001/result.json", "trials/00001/params.json"}
    if command == "rejudge":
        needed |= {"trials/00001/network.pt", "confirm/00000/1/network.pt", "versions/2/trials/00000/predictions.npz"}
    assert named >= (needed - {"facts.json"} if command != "pick" else needed), needed - named
