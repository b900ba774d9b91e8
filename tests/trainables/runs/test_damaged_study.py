"""A whole study whose files are damaged is resumed: what is damaged is trained and audited again, with the same numbers."""

import json
import shutil
from pathlib import Path

import pytest
from fault_checks import TIMING
from files import read
from study_runs import SERIAL, Finished

pytestmark = [pytest.mark.ray, pytest.mark.thorough, pytest.mark.timeout(600)]


def cut(path: Path, share: float) -> Path:
    """Keep this share of a file."""
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    return path


def test_a_study_with_damaged_files_is_resumed_to_the_same_front(crl_study: Finished, run_study, tmp_path):
    shutil.copytree(crl_study.cwd / "runs", tmp_path / "runs")
    folder = tmp_path / "runs" / crl_study.name
    replicate = sorted(folder.glob("confirm/*/1"))[0]
    damaged = [
        cut(folder / "trials/00001/network.pt", 0.5), cut(folder / "trials/00002/result.json", 0.99),
        cut(folder / "trials/00003/predictions.npz", 0), cut(replicate / "result.json", 0.5),
        cut(replicate.parent / "2/audit.json", 0), cut(folder / "facts.json", 0.5),
    ]  # fmt: skip
    for entry in (tmp_path / "runs/cache").glob("*/*"):
        entry.write_text(json.dumps({"folder": "../../outside"}))
    done = run_study(tmp_path, "--resume", crl_study.name, *SERIAL)
    printed = done.stdout + done.stderr
    assert done.returncode == 0 and "Traceback" not in printed and "weights_only" not in printed, printed
    for path in damaged:
        assert f"{path} is damaged (" in printed, printed
    for text in ("; trial 1 is run again", "; trial 2 is run again", "; trial 3 is run again", "is audited again", "written again"):
        assert printed.count(text) == 1, printed
    for name in ("front.csv", "confirmed.csv"):
        assert (folder / name).read_bytes() == (crl_study.folder / name).read_bytes()
    for number in range(7):
        before, after = (read(place / f"trials/{number:05d}/result.json") for place in (crl_study.folder, folder))
        measured = [{n: v for n, v in result["metrics"].items() if not n.startswith(TIMING)} for result in (before, after)]
        assert measured[0] == measured[1] and not after["reused_from"]
