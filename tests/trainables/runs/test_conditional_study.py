"""Tests of a whole study that searches components: storage, MLflow, front.csv, terminal, and resumption after SIGKILL."""

import runpy
from pathlib import Path

import pytest
from files import front, read, results, rows
from mlflow_runs import logged
from study_runs import SERIAL, Finished, kill, start, wait_until

from core.config import TrialConfig
from core.space import contains, searched_names
from trainables.tracking.client import front_from_runs

pytestmark = [pytest.mark.ray, pytest.mark.thorough, pytest.mark.timeout(600)]
SCRIPT = Path(__file__).parents[2] / "helpers/conditional_study.py"
STUDY = runpy.run_path(str(SCRIPT))["STUDY"]
OPTIONS = (*SERIAL, "--trials", "12", "--seed", "3")
EPOCHS = 10


def suggestions(folder: Path) -> list[dict]:
    return [read(path) for path in sorted(folder.glob("trials/*/params.json"))]


@pytest.fixture(scope="module")
def whole(run_study, tmp_path_factory) -> Finished:
    """The study without an interruption."""
    return run_study.study(tmp_path_factory.mktemp("conditional"), *OPTIONS, script=SCRIPT)


def test_every_trial_has_the_knobs_of_its_own_components_within_their_ranges(whole):
    found = suggestions(whole.folder)
    assert len(found) == 12 and len(list(whole.folder.glob("trials/*/result.json"))) == 12, whole.out
    space = STUDY.space(STUDY.presets["dev"].config)
    assert found[0]["baseline"] == "CRL by hand" and found[0]["params"]["loss.tau_rce"] == 0.1
    for params in (suggestion["params"] for suggestion in found[1:]):
        assert TrialConfig.of(params).params() == params
        for slot in ("loss", "perturbation"):
            assert all(contains(span, params[knob]) for knob, span in space[slot].options[params[slot]].items())
    assert {suggestion["params"]["loss"] for suggestion in found} == {"cross_entropy", "relaxloss", "crl"}


def test_mlflow_has_a_range_for_each_knob_of_each_option_and_the_knobs_of_each_trial(whole):
    _, parent, children = logged(whole.tracking_uri, whole.name)
    assert {name: text for name, text in parent.data.params.items() if name.startswith("space/")} == {
        "space/loss": "cross_entropy,relaxloss,crl", "space/loss.relaxloss/alpha": "0.05:3.0:log",
        "space/loss.crl/alpha_rce": "0.1:1.8:log", "space/loss.crl/lambda": "0.001:10.0:log",
        "space/perturbation": "none,fgsm,pgd", "space/perturbation.fgsm/epsilon": "0.0:0.05",
        "space/perturbation.pgd/epsilon": "0.05:0.1", "space/perturbation.pgd/steps": "1,2",
        "space/optimizer.lr": "0.01:0.1:log",
    }  # fmt: skip
    params = {s["number"]: {name: str(v) for name, v in s["params"].items()} for s in suggestions(whole.folder)}
    assert {number: child.data.params for number, child in children.items()} == params


def test_front_csv_has_the_searched_slots_and_no_value_for_knobs_that_a_trial_lacks(whole):
    points = rows(whole.folder / "front.csv")
    params = {str(s["number"]): s["params"] for s in suggestions(whole.folder)}
    assert points and {"loss", "perturbation", "optimizer.lr"} <= points[0].keys()
    searched = [name for name in searched_names(STUDY.space(STUDY.presets["dev"].config)) if name in points[0]]
    for row in points:
        assert {name: row[name] for name in searched} == {name: str(params[row["trial"]].get(name, "")) for name in searched}


def test_terminal_shows_the_components_and_a_dash_for_knobs_that_a_trial_lacks(whole):
    table = whole.out[whole.out.index("Front of") :].splitlines()
    heads = [cell.strip() for cell in table[2].strip("┃").split("┃")]
    space = STUDY.space(STUDY.presets["dev"].config)
    assert heads == ["trial", "accuracy", "robust_accuracy", "mia_auc", *searched_names(space)]
    params = {s["number"]: s["params"] for s in suggestions(whole.folder)}
    shown = [dict(zip(heads, map(str.strip, line.strip("│").split("│")), strict=True)) for line in table if line.startswith("│")]
    assert shown
    for row in shown:
        own = params[int(row["trial"].split()[0])]
        assert row["loss"] == own["loss"] and all((row[name] == "-") == (name not in own) for name in searched_names(space))


@pytest.mark.faults
def test_after_sigkill_a_resumed_study_repeats_and_loses_nothing_and_ends_like_an_undisturbed_one(whole, run_study, tmp_path):
    driver = start(tmp_path, *OPTIONS, script=SCRIPT)
    wait_until(lambda: len(results(tmp_path)) >= 4, driver)
    kill(driver)
    before = {path: path.read_bytes() for path in results(tmp_path)}
    assert 4 <= len(before) < 12
    (folder,) = (tmp_path / "runs").glob("conditional_study-*")
    run_study.succeed(tmp_path, "--resume", folder.name, *SERIAL, script=SCRIPT)
    after = {path: path.read_bytes() for path in results(tmp_path)}
    assert len(after) == 12 and {path: after[path] for path in before} == before
    assert suggestions(folder) == suggestions(whole.folder)
    assert front(folder / "front.csv") == front(whole.folder / "front.csv")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client, parent, children = logged(uri, folder.name)
    assert parent.info.status == "FINISHED" and sorted(children) == list(range(12))
    for child in children.values():
        assert child.info.status == "FINISHED"
        # If the first driver died before it logged epochs of a checkpoint, the end of the curve was logged first.
        steps = [metric.step for metric in client.get_metric_history(child.info.run_id, "epoch/loss")]
        assert sorted(steps) == list(range(1, EPOCHS + 1))
        assert len(client.get_metric_history(child.info.run_id, "mia_auc")) == 1
    assert {row.pop("trial"): row for row in front_from_runs(uri, folder.name)} == front(folder / "front.csv")
