"""Tests of what a study prints with `--quiet` and `--json`; the text is tested in tests/trainables/runs/test_whole_study.py."""

import json
import re

import pytest
from files import rows
from mlflow import MlflowClient
from study_runs import FIRST_FIVE

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


@pytest.mark.thorough
def test_quiet_prints_nothing_if_all_is_well(crl_study, run_study):
    before = set((crl_study.cwd / "runs").glob("crl_tradeoff-*/report.html"))
    done = run_study(crl_study.cwd, *FIRST_FIVE, "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(set((crl_study.cwd / "runs").glob("crl_tradeoff-*/report.html")) - before) == 1


def test_json_prints_one_object_to_stdout_and_text_to_stderr(crl_study, run_study):
    done = run_study(crl_study.cwd, *FIRST_FIVE, "--json", "--no-confirm")
    assert done.stdout.count("\n") == 1
    end = json.loads(done.stdout)
    assert end["exit_code"] == 0 and end["study"] == "crl_tradeoff"
    assert end["trials"] == {"planned": 5, "completed": 5, "failed": 0, "stopped": 0}
    table = rows(crl_study.cwd / "runs" / end["name"] / "front.csv")
    assert [row["trial"] for row in end["front"]] == [int(row["trial"]) for row in table] and table
    assert {"trial", "accuracy", "robust_accuracy", "mia_auc"} <= end["front"][0].keys()
    assert end["contrasts"] == [] and end["point_to_ship"] is None  # nothing is confirmed
    client = MlflowClient(crl_study.tracking_uri)
    assert client.get_run(end["mlflow_run"]).info.run_name == end["name"]
    assert "[5/5] trial" in done.stderr and "Front of" in done.stderr and not re.search(r"\bwarning", done.stderr, re.I)
