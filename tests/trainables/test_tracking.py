"""The tracker against a real MLflow store: outages, order, and nothing twice."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from core.config import TrialConfig, trilemma
from core.space import Choice, Switch, Uniform
from trainables.outcome import Outcome, Trial
from trainables.plan import Plan
from trainables.tracking import Tracker, front_from_runs

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]
GOOD = {"accuracy": 0.9, "robust_accuracy": 0.5, "mia_auc": 0.6}


def plan() -> Plan:
    return Plan(
        name="s-1", study="s", question="?", config=TrialConfig(), space={"optimizer.lr": Uniform(0.1, 0.2)},
        objectives=trilemma(10), baselines={}, trials=2, sampler="random", seed=0, confirm={}, replicates=0,
    )  # fmt: skip


def outcome(*trials: Trial) -> Outcome:
    p = plan()
    return Outcome(
        name=p.name, study=p.study, question=p.question, objectives=p.objectives, space=p.space, planned=2, trials=list(trials)
    )  # fmt: skip


def trial(number: int, **changes: float) -> Trial:
    curve = [{"epoch": e, "epoch/loss": 1.0 / e} for e in (1, 2, 3)]
    return Trial(number=number, params=TrialConfig().params(), metrics=GOOD | changes, curve=curve)


def children(uri: str):
    client = MlflowClient(uri)
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    return client, {r.data.tags["trilemma.trial"]: r for r in runs if r.data.tags["trilemma.kind"] == "trial"}


def test_what_happens_while_the_store_is_away_is_logged_when_it_is_back(tmp_path: Path):
    uri = f"sqlite:///{tmp_path}/later/mlflow.db"
    (tmp_path / "later").write_text("a file where the store's folder should be")
    so_far = outcome()
    tracker = Tracker(uri, plan(), so_far)
    began = time.monotonic()
    for number in (0, 1):
        tracker.started(number, TrialConfig().params(), "")
        tracker.rows(number, trial(number).curve[:2])
        so_far.trials.append(trial(number))
        tracker.ended(so_far.trials[-1])
    assert time.monotonic() - began < 0.5  # the study does not wait
    time.sleep(3)
    (tmp_path / "later").unlink()
    assert tracker.close() == 0
    client, runs = children(uri)
    assert set(runs) == {"0", "1"}
    for run in runs.values():
        assert run.info.status == "FINISHED" and run.data.metrics.items() >= GOOD.items()
        assert [m.step for m in client.get_metric_history(run.info.run_id, "epoch/loss")] == [1, 2, 3]


def test_each_knob_of_each_option_has_a_param_of_its_own(tmp_path: Path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    own = {"relaxloss": {"loss.upper": Uniform(0.5, 1)}, "crl": {"loss.upper": Choice((0.25, 1.0))}, "cross_entropy": {}}
    conditional = replace(plan(), space={"loss": Switch(own), "optimizer.lr": Uniform(0.1, 0.2)})
    assert Tracker(uri, conditional, outcome()).close() == 0
    client = MlflowClient(uri)
    (parent,) = client.search_runs([client.get_experiment_by_name("s").experiment_id])
    assert {name: text for name, text in parent.data.params.items() if name.startswith("space/")} == {
        "space/loss": "relaxloss,crl,cross_entropy", "space/loss.relaxloss/upper": "0.5:1.0", "space/loss.crl/upper": "0.25,1.0",
        "space/optimizer.lr": "0.1:0.2",
    }  # fmt: skip


def test_a_driver_that_died_half_way_through_a_child_is_completed_not_repeated(tmp_path: Path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    first = Tracker(uri, plan(), outcome())
    first.started(0, TrialConfig().params(), "")
    first.rows(0, trial(0).curve[:2])
    assert first.close("KILLED") == 0
    known = outcome(trial(0), trial(1, accuracy=0.95, mia_auc=0.7))  # what the store had when the study was resumed
    assert Tracker(uri, plan(), known).close() == 0
    assert Tracker(uri, plan(), known).close() == 0
    client, runs = children(uri)
    assert set(runs) == {"0", "1"} and {r.info.status for r in runs.values()} == {"FINISHED"}
    for run in runs.values():
        assert [m.step for m in client.get_metric_history(run.info.run_id, "epoch/loss")] == [1, 2, 3]
        assert len(client.get_metric_history(run.info.run_id, "accuracy")) == 1
    assert {row["trial"] for row in front_from_runs(uri, "s-1")} == {0, 1}


def test_a_child_that_was_made_but_not_filled_is_taken_up_not_made_again(tmp_path: Path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert Tracker(uri, plan(), outcome()).close("KILLED") == 0
    client = MlflowClient(uri)
    (parent,) = client.search_runs([client.get_experiment_by_name("s").experiment_id])
    tags = {"mlflow.parentRunId": parent.info.run_id, "trilemma.name": "s-1", "trilemma.kind": "trial", "trilemma.trial": "0"}
    client.create_run(parent.info.experiment_id, tags={**tags, "pareto": "false"})  # the driver died here, before the params
    assert Tracker(uri, plan(), outcome(trial(0))).close() == 0
    _, runs = children(uri)
    assert set(runs) == {"0"} and runs["0"].info.status == "FINISHED"
    assert runs["0"].data.params == {name: str(value) for name, value in TrialConfig().params().items()}
