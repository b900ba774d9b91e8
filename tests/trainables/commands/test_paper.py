"""The command of a paper's script: its items, its exit codes, its runs in MLflow, and that it continues after it is killed."""

import json
import re

import pytest
from study_runs import kill, run_process, start, wait_until
from tiny_paper import item, paper, script

from trainables.commands.paper import main
from trainables.papers.item import Listing, Paper
from trainables.tracking.client import connect


def run(*argv: str, papers=None) -> int:
    with pytest.raises(SystemExit) as end:
        main(papers or paper(), argv)
    return int(str(end.value.code))


def test_without_an_item_the_items_are_listed(capsys):
    assert run() == 0
    assert capsys.readouterr().out.split() == ["table1", "Table", "1:", "accuracy"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["table7"], "unknown item 'table7' (did you mean 'table1'?), expected one of: table1"),
        (["table1", "--rows", "CRL"], "unknown row 'CRL', expected one of: cross-entropy, label smoothing"),
        (["table1", "--dataset", "digit"], "unknown dataset 'digit'"),
        (["table1", "--set", "epoch=3"], "unknown"),
        (["table1", "--preset", "large"], "argument --preset: invalid choice: 'large'"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_in_one_line(argv, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*argv) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and message in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


LAYERS = Listing(
    name="layers", title="Layers", differs="the order.",
    rows=lambda: [{"layer": "conv | 1", "weights": 1792}, {"layer": "all", "weights": 1792}],
)  # fmt: skip
"""A table for which nothing is trained."""


def with_listing() -> Paper:
    return Paper(name="tiny", title="A. Author (2020), a tiny paper", items=[item()], listings=[LAYERS])


def test_a_table_for_which_nothing_is_trained_is_listed_written_and_logged_in_one_run(capsys, tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert run(papers=with_listing()) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["layers", "table1"]
    for _ in range(2):
        assert run("layers", "--storage", str(tmp_path / "runs"), "--tracking-uri", uri, papers=with_listing()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "| conv \\| 1 | 1,792 |" in lines and "Differs from the paper: the order." in lines
    folder = tmp_path / "runs/tables/tiny/layers"
    assert (folder / "table.csv").read_text().split() == ["layer,weights", "conv", "|", "1,1792", "all,1792"]
    assert r"conv | 1 & 1,792 \\" in (folder / "table.tex").read_text()
    client = connect(uri)
    (experiment,) = [e for e in client.search_experiments() if e.name == "papers_tiny"]
    (logged,) = client.search_runs([experiment.experiment_id])
    assert {f.path for f in client.list_artifacts(logged.info.run_id)} == {"table.md", "table.csv", "table.tex"}
    assert (logged.info.run_name, logged.info.status) == ("tiny/layers", "FINISHED")


@pytest.mark.parametrize("option", [["--seeds", "2"], ["--dry-run"], ["--set", "epochs=3"], ["--dataset", "digits"]])
def test_options_of_trainings_are_refused_where_nothing_is_trained(option, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("layers", *option, papers=with_listing()) == 2
    err = capsys.readouterr().err
    assert f"layers trains nothing, so {option[0]} has no meaning; leave it out" in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_dry_run_without_time_counts_the_networks_and_gives_no_cost(capsys, monkeypatch):
    monkeypatch.setattr("trainables.papers.estimate.SECONDS", 0.01)
    assert run("table1", "--dry-run", papers=paper([item({"epochs": 300}, seeds=5)])) == 0
    out = capsys.readouterr().out
    assert "epochs=300" in out and "10 networks\n" in out and "nothing was measured in time" in out and "one CPU core" not in out


@pytest.fixture
def enough_time(monkeypatch):
    """Time to measure all networks, also if other processes use the cores."""
    monkeypatch.setattr("trainables.papers.estimate.SECONDS", 40.0)


@pytest.mark.thorough
def test_a_dry_run_trains_the_papers_preset_for_seconds_and_writes_nothing(capsys, tmp_path, monkeypatch, enough_time):
    monkeypatch.chdir(tmp_path)
    presets = {"dev": item({"epochs": 1}).presets["dev"], "paper": item({"epochs": 300}, seeds=5).presets["paper"]}
    assert run("table1", "--dry-run", papers=paper([item(presets=presets)])) == 0
    out = capsys.readouterr().out
    assert "epochs=300" in out and "10 networks" in out and "on one CPU core of this machine" in out
    assert re.search(r"\d\.\de\+\d+ floating-point operations: .* on a GPU that sustains 20 TFLOP/s", out)
    assert not list(tmp_path.iterdir())


@pytest.mark.thorough
def test_a_dry_run_scales_with_seeds_and_epochs(capsys, enough_time):
    def seconds(changes, seeds: int) -> float:
        assert run("table1", "--dry-run", "--json", papers=paper([item(changes, seeds=seeds)])) == 0
        return json.loads(capsys.readouterr().out)["operations"]

    few, many = seconds({"epochs": 40}, 1), seconds({"epochs": 160}, 3)
    assert 6 < many / few < 24  # 12 if nothing but training took time, and measuring were exact


@pytest.mark.ray
def test_the_table_is_in_the_files_and_in_mlflow_and_is_made_once(run_study, tmp_path):
    table = script(tmp_path)
    out = run_study.succeed(tmp_path, "table1", script=table)
    assert "4 networks, 0 of them trained before" in out and "| label smoothing |" in out
    again = run_study.succeed(tmp_path, "table1", script=table)
    assert "4 networks, 4 of them trained before" in again
    rows = [line for line in out.splitlines() if line.startswith("|")]
    assert rows == [line for line in again.splitlines() if line.startswith("|")]
    folder = tmp_path / "runs/tables/tiny/table1-dev-digits"
    assert rows == [line for line in (folder / "table.md").read_text().splitlines() if line.startswith("|")]
    client = connect(f"sqlite:///{tmp_path}/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "papers_tiny"]
    runs = client.search_runs([experiment.experiment_id])
    parents = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
    assert len(parents) == 1 and len(runs) == 5 and {r.info.status for r in runs} == {"FINISHED"}
    (parent,) = parents
    assert {f.path for f in client.list_artifacts(parent.info.run_id)} == {"table.md", "table.csv", "table.tex", "values.json"}
    children = [r for r in runs if r.info.run_id != parent.info.run_id]
    means = [r.data.metrics["accuracy"] for r in children if r.data.tags["mlflow.runName"].startswith("cross-entropy")]
    assert parent.data.metrics["cross-entropy/accuracy"] == pytest.approx(100 * sum(means) / 2)
    assert parent.data.metrics["paper/cross-entropy/accuracy"] == 76.5
    assert {r.data.params["loss"] for r in children} == {"cross_entropy", "label_smoothing"}


@pytest.mark.thorough
@pytest.mark.ray
def test_a_failed_row_is_reported_and_the_exit_code_says_so(run_study, tmp_path):
    rows = "{'cross-entropy': {}, 'label smoothing': {'optimizer.lr': 1e30}}"
    done = run_study(tmp_path, "table1", "--json", script=script(tmp_path, f"preset={{'rows': {rows}}}"))
    assert done.returncode == 1
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["exit_code"] == 1 and summary["errors"].keys() == {"label smoothing, seed 1", "label smoothing, seed 2"}
    assert "| label smoothing |" not in done.stderr and "| cross-entropy |" in done.stderr


@pytest.mark.faults
def test_a_killed_command_continues(tmp_path):
    """The networks that had ended are kept, and the table equals that of a command that was never killed."""
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    table = script(tmp_path, epochs=60)
    whole = run_process(tmp_path / "whole", "table1", script=table)
    assert whole.returncode == 0, whole.stdout + whole.stderr
    process = start(tmp_path / "killed", "table1", "--concurrency", "1", script=table)
    wait_until(lambda: list(tmp_path.glob("killed/runs/papers/*/result.json")), process)
    kill(process)
    done = run_process(tmp_path / "killed", "table1", script=table)
    assert done.returncode == 0, done.stdout + done.stderr
    (before,) = re.findall(r"4 networks, (\d) of them trained before", done.stdout)
    assert 1 <= int(before) <= 3
    rows = [[line for line in text.splitlines() if line.startswith("|")] for text in (whole.stdout, done.stdout)]
    assert rows[0] == rows[1] and len(rows[0]) == 4
