"""The contents of a study's runs in a real MLflow store."""

import base64
import json
import re
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from confirming import confirmation
from mlflow import MlflowClient
from tracked import PARAMS, artifacts_of, children, confirmed, files_of, histories, log, outcome, parent_of, plan, sqlite, trial

from core.config import TrialConfig
from core.space import Choice, Switch, Uniform
from trainables.study.outcome import Outcome
from trainables.study.trial import Trial
from trainables.tracking.saved_view import view_tag
from trainables.tracking.tracker import Tracker

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


def test_runs_describe_experiment_study_and_trials_and_an_edited_description_stays(tmp_path: Path):
    uri = sqlite(tmp_path)
    tracker = Tracker(uri, plan(), outcome())
    tracker.started(0, {**PARAMS, "optimizer.lr": 0.125}, "")
    tracker.started(1, PARAMS, "plain")
    assert tracker.close() == 0
    client, runs = children(uri)
    experiment = client.get_experiment_by_name("s")
    parent = client.get_run(runs["0"].data.tags["mlflow.parentRunId"])
    assert experiment.tags["mlflow.note.content"] == plan().question
    assert plan().question in parent.data.tags["mlflow.note.content"]
    (query,) = re.findall(r"`(tags\.pareto .*)`", parent.data.tags["mlflow.note.content"])
    assert client.search_runs([experiment.experiment_id], query) == []  # a filter that MLflow understands
    client.set_tag(runs["1"].info.run_id, "pareto", "true")
    assert [run.info.run_id for run in client.search_runs([experiment.experiment_id], query)] == [runs["1"].info.run_id]
    notes = {number: run.data.tags["mlflow.note.content"] for number, run in runs.items()}
    assert "Trial 0 of s-1" in notes["0"] and "- `optimizer.lr` 0.125" in notes["0"] and "baseline *plain*" in notes["1"]
    assert "baseline" not in runs["0"].data.tags and runs["1"].data.tags["baseline"] == "plain"
    assert {run.data.tags["mlflow.source.name"] for run in (parent, *runs.values())} == {"s.py"}
    assert f"(#/experiments/{experiment.experiment_id}/runs?viewStateShareKey=" in parent.data.tags["mlflow.note.content"]
    for name in ("mlflow.note.content", view_tag(plan())):
        client.set_experiment_tag(experiment.experiment_id, name, "mine")
    for name in ("s-2", "s-1"):
        log(uri, of=plan(name=name))
    tags = client.get_experiment_by_name("s").tags
    assert tags["mlflow.note.content"] == tags[view_tag(plan())] == "mine"
    assert json.loads(tags[view_tag(plan(name="s-2"))])["name"] == "s-2"


def test_names_of_runs_describe_the_trials_and_the_saved_view_has_columns_that_the_runs_have(tmp_path: Path):
    uri, planned = sqlite(tmp_path), plan(trials=3, replicates=3, space={"perturbation.epsilon": Uniform(0, 0.1)})
    params = TrialConfig.of({"loss": "crl", "perturbation": "pgd", "perturbation.epsilon": 0.08}).params()
    known = Outcome.of_plan(planned, {}, [replace(trial(0), baseline="undefended"), replace(trial(1), params=params)])
    known.trials.append(Trial(2, TrialConfig.of({"loss": "crl"}).params(), curve=trial(2).curve, stopped_epoch=2))
    known.confirmation = confirmation([confirmed(1)])
    tracker = Tracker(uri, planned, known)
    tracker.confirmed()
    assert tracker.close() == 0
    client, runs = children(uri)
    names = {number: run.info.run_name for number, run in runs.items()}
    assert names == {"0": "000 undefended", "1": "001 crl + pgd 0.08", "2": "002 crl"}
    assert runs["2"].data.tags["stopped_after_epoch"] == "2" and runs["1"].data.metrics["confirmed/mia_auc"] == 0.6
    assert parent_of(uri)[1].info.run_name == "s-1"
    log(uri, *known.trials, of=planned)  # a driver that resumes the study finds the runs by their tags
    assert {number: run.info.run_id for number, run in children(uri)[1].items()} == {n: run.info.run_id for n, run in runs.items()}

    experiment = client.get_experiment_by_name("s")
    compressed = json.loads(experiment.tags[view_tag(planned)])["state"].removeprefix("deflate;")
    view = json.loads(zlib.decompress(base64.b64decode(compressed)))
    order = [f"{view['orderByKey']} {'ASC' if view['orderByAsc'] else 'DESC'}"]
    found = client.search_runs([experiment.experiment_id], view["searchFilter"], order_by=order)
    on_front = [run.data.tags["pareto"] for run in found]
    assert on_front == sorted(on_front, reverse=True) and set(on_front) == {"true", "false"} and len(found) == 3
    data = runs["1"].data
    has = {f"metrics.`{m}`" for m in data.metrics} | {f"params.`{p}`" for p in data.params} | {f"tags.`{t}`" for t in data.tags}
    assert view["columnOrder"][:3] == ["metrics.`accuracy`", "metrics.`robust_accuracy`", "metrics.`mia_auc`"]
    assert set(view["columnOrder"]) <= has and "params.`perturbation.epsilon`" in view["columnOrder"]


def test_each_knob_of_each_option_has_its_own_parameter(tmp_path: Path):
    uri = sqlite(tmp_path)
    own = {"relaxloss": {"loss.upper": Uniform(0.5, 1)}, "crl": {"loss.upper": Choice((0.25, 1.0))}, "cross_entropy": {}}
    log(uri, of=plan(space={"loss": Switch(own), "optimizer.lr": Uniform(0.1, 0.2)}))
    client = MlflowClient(uri)
    (parent,) = client.search_runs([client.get_experiment_by_name("s").experiment_id])
    assert {name: text for name, text in parent.data.params.items() if name.startswith("space/")} == {
        "space/loss": "relaxloss,crl,cross_entropy", "space/loss.relaxloss/upper": "0.5:1.0", "space/loss.crl/upper": "0.25,1.0",
        "space/optimizer.lr": "0.1:0.2",
    }  # fmt: skip


def finished_files(known: Outcome) -> dict[str, bytes]:
    """The published files of a study, with a second figure."""
    return {**files_of(known), "plots/hypervolume.png": b"hypervolume"}


def test_deleted_artifacts_are_restored_by_a_resume(tmp_path: Path):
    uri, known = sqlite(tmp_path), outcome(trial(0), trial(1))
    for _ in range(2):
        tracker = Tracker(uri, plan(), known)
        tracker.publish(finished_files(known), 1)
        assert tracker.close() == 0
        logged = artifacts_of(parent_of(uri)[1])
        names = {str(path.relative_to(logged)) for path in logged.rglob("*.*")}
        assert names == {"front.csv", "front.json", "report.html", "plots/front.png", "plots/hypervolume.png"}
        for name in names:
            (logged / name).unlink()


def test_a_study_that_ended_before_the_database_existed_is_logged_completely_and_changed_facts_are_no_error(tmp_path: Path):
    uri, known = sqlite(tmp_path), outcome(trial(0), trial(1))
    for resumed in ({}, {"resumed": "once"}, {"resumed": "once; twice"}):
        known = replace(known, facts={"command": "python x.py", **resumed})
        assert Tracker(uri, plan(), known).close() == 0
    client, runs = children(uri)
    assert set(runs) == {"0", "1"} and all(len(histories(client, run, "accuracy")) == 1 for run in runs.values())
    _, parent = parent_of(uri)
    assert parent.data.params["fact/command"] == "python x.py" and parent.data.metrics["trials_completed"] == 2
