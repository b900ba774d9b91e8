"""What a study says, and where: words for people, nothing with `--quiet`, one object with `--json`, and no library's noise."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from growing import there

from trainables.terminal import Terminal

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = [sys.executable, str(ROOT / "studies/crl_tradeoff.py")]
QUICK = ["--set", "epochs=12", "net.width=8", "judge.steps=3", "--trials", "4"]


def study(cwd: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*SCRIPT, *QUICK, *argv], cwd=cwd, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_json_has_null_where_a_number_is_not_finite(capsys):
    Terminal("json").tell({"front": [{"a": float("nan"), "b": 1.5}], "c": (float("inf"), "x")})
    assert json.loads(capsys.readouterr().out) == {"front": [{"a": None, "b": 1.5}], "c": [None, "x"]}
    Terminal("text").tell({"a": 1})
    assert capsys.readouterr() == ("", "")


def test_trouble_is_never_silent_and_has_no_colours_where_it_is_not_on_a_terminal(capsys):
    for output in ("quiet", "json"):
        terminal = Terminal(output)
        terminal.say("[bold]news[/bold] 1")
        terminal.trouble("trial 3 failed: it broke")
        seen = capsys.readouterr()
        assert seen.out == "" and "\x1b" not in seen.err
        assert seen.err == "trial 3 failed: it broke\n" if output == "quiet" else "[bold]news[/bold] 1\n" in seen.err


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    """A study as it is run by default, with confirm."""
    cwd = tmp_path_factory.mktemp("usual")
    return cwd, study(cwd)


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_study_says_nothing_on_standard_error_and_no_warning_anywhere(usual):
    _, done = usual
    assert done.stderr == ""
    assert "arning" not in done.stdout and "\x1b" not in done.stdout and "Front of" in done.stdout


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_quiet_says_nothing_at_all_when_all_is_well(usual):
    cwd, _ = usual
    done = study(cwd, "--quiet")  # the trainings are taken over
    assert (done.stdout, done.stderr) == ("", "")
    assert len(list((cwd / "runs").glob("crl_tradeoff-*/report.html"))) == 2


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_json_is_one_object_on_standard_output_and_the_words_are_on_standard_error(usual):
    from mlflow import MlflowClient

    cwd, _ = usual
    done = study(cwd, "--json", "--no-confirm")
    assert done.stdout.count("\n") == 1
    ended = json.loads(done.stdout)
    assert ended["exit_code"] == 0 and ended["study"] == "crl_tradeoff"
    assert ended["trials"] == {"planned": 4, "completed": 4, "failed": 0, "stopped": 0}
    table = list(csv.DictReader((cwd / "runs" / ended["name"] / "front.csv").read_text().splitlines()))
    assert [row["trial"] for row in ended["front"]] == [int(row["trial"]) for row in table] and table
    assert {"trial", "accuracy", "robust_accuracy", "mia_auc"} <= ended["front"][0].keys()
    client = MlflowClient(f"sqlite:///{cwd}/mlflow.db")
    assert client.get_run(ended["mlflow_run"]).info.run_name == ended["name"]
    assert "[4/4] trial" in done.stderr and "Front of" in done.stderr and "arning" not in done.stderr


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_an_interrupted_study_ends_with_one_object_too_that_says_how_to_go_on(tmp_path):
    argv = [*SCRIPT, "--set", "epochs=300", "--trials", "9", "--json"]
    driver = subprocess.Popen(
        argv, cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # as on a terminal, also in the background
    )  # fmt: skip
    until = time.monotonic() + 120
    while not there(tmp_path / "runs", "*/trials/*/params.json") and time.monotonic() < until:
        time.sleep(0.2)
    time.sleep(2)
    driver.send_signal(signal.SIGINT)
    out, err = driver.communicate(timeout=200)
    assert driver.returncode == 130 and out.count("\n") == 1, out + err
    ended = json.loads(out)
    (folder,) = (tmp_path / "runs").glob("crl_tradeoff-*")
    assert (ended["exit_code"], ended["name"], ended["error"]) == (130, folder.name, "interrupted")
    assert ended["resume"].endswith(f"studies/crl_tradeoff.py --resume {folder.name}") and ended["mlflow_run"]
    assert isinstance(ended["front"], list) and "Traceback" not in err
