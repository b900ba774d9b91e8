"""The tracker against a real MLflow store: outages, order, and nothing twice."""

import random
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from core.config import TrialConfig, trilemma
from core.space import Choice, Switch, Uniform
from core.stats import Interval
from trainables import report, tracking
from trainables.outcome import Confirmed, Outcome, Trial, change
from trainables.plan import Plan
from trainables.store import Store
from trainables.tracking import Tracker, front_from_runs, front_version

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


def test_experiment_study_and_trials_say_what_they_are_and_a_rewritten_description_stays(tmp_path: Path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    tracker = Tracker(uri, plan(), outcome())
    tracker.started(0, {**TrialConfig().params(), "optimizer.lr": 0.125}, "")
    tracker.started(1, TrialConfig().params(), "plain")
    assert tracker.close() == 0
    client, runs = children(uri)
    experiment = client.get_experiment_by_name("s")
    parent = client.get_run(runs["0"].data.tags["mlflow.parentRunId"])
    assert experiment.tags["mlflow.note.content"] == plan().question
    assert plan().question in parent.data.tags["mlflow.note.content"]
    (told,) = re.findall(r"`(tags\.pareto .*)`", parent.data.tags["mlflow.note.content"])
    assert client.search_runs([experiment.experiment_id], told) == []  # a filter that MLflow understands
    client.set_tag(runs["1"].info.run_id, "pareto", "true")
    assert [run.info.run_id for run in client.search_runs([experiment.experiment_id], told)] == [runs["1"].info.run_id]
    notes = {number: run.data.tags["mlflow.note.content"] for number, run in runs.items()}
    assert "Trial 0 of s-1" in notes["0"] and "- `optimizer.lr` 0.125" in notes["0"] and "baseline *plain*" in notes["1"]
    assert "baseline" not in runs["0"].data.tags and runs["1"].data.tags["baseline"] == "plain"
    assert {run.data.tags["mlflow.source.name"] for run in (parent, *runs.values())} == {"s.py"}
    client.set_experiment_tag(experiment.experiment_id, "mlflow.note.content", "mine")
    assert Tracker(uri, replace(plan(), name="s-2"), outcome()).close() == 0
    assert client.get_experiment_by_name("s").tags["mlflow.note.content"] == "mine"


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


def left_half_way(folder: Path) -> str:
    """A store in which a driver began trial 0, logged two epochs of it, and was killed."""
    uri = f"sqlite:///{folder}/mlflow.db"
    first = Tracker(uri, plan(), outcome())
    first.started(0, TrialConfig().params(), "")
    first.rows(0, trial(0).curve[:2])
    assert first.close("KILLED") == 0
    return uri


def test_a_driver_that_died_half_way_through_a_child_is_completed_not_repeated(tmp_path: Path):
    uri = left_half_way(tmp_path)
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


class Forgetful:
    """A client that carries out every order, and loses many an answer."""

    def __init__(self, client: MlflowClient):
        self.client, self.lost, self.rng = client, 0, random.Random(0)

    def __getattr__(self, name: str):
        def call(*args, **kwargs):
            answer = getattr(self.client, name)(*args, **kwargs)
            if name.startswith(("create_", "log_", "set_", "update_")) and self.rng.random() < 0.4:
                self.lost += 1
                raise OSError("the answer was lost")
            return answer

        return call


def test_an_order_whose_answer_was_lost_is_repeated_without_being_logged_twice(tmp_path: Path, monkeypatch):
    uri, so_far = f"sqlite:///{tmp_path}/mlflow.db", outcome()
    forgetful = Forgetful(MlflowClient(uri))
    monkeypatch.setattr(tracking, "connect", lambda uri: forgetful)
    tracker = Tracker(uri, plan(), so_far)
    for number in (0, 1):
        tracker.started(number, TrialConfig().params(), "")
        tracker.rows(number, trial(number).curve[:2])
        so_far.trials.append(trial(number))
        tracker.ended(so_far.trials[-1])
    assert tracker.close() == 0, tracker.last_error
    assert forgetful.lost > 5
    client, runs = children(uri)
    assert set(runs) == {"0", "1"} and {run.info.status for run in runs.values()} == {"FINISHED"}
    (parent,) = client.search_runs([client.get_experiment_by_name("s").experiment_id], "tags.`trilemma.kind` = 'study'")
    for run in (parent, *runs.values()):
        for name in run.data.metrics:
            steps = [step for step, _ in histories(client, run, name)]
            assert len(steps) == len(set(steps)), name


def run_of(client: MlflowClient, parent, number: int, **tags: str):
    tags = {"mlflow.parentRunId": parent.info.run_id, "trilemma.name": "s-1", "trilemma.kind": "trial"} | tags
    return client.create_run(parent.info.experiment_id, tags={**tags, "trilemma.trial": str(number), "pareto": "false"})


def parent_of(uri: str):
    client = MlflowClient(uri)
    (parent,) = client.search_runs([client.get_experiment_by_name("s").experiment_id], "tags.`trilemma.kind` = 'study'")
    return client, parent


def test_of_runs_that_were_made_twice_the_fuller_one_is_left_and_the_other_says_so(tmp_path: Path):
    uri = left_half_way(tmp_path)
    client, parent = parent_of(uri)
    (kept,) = (run.info.run_id for run in children(uri)[1].values())
    double = run_of(client, parent, 0).info.run_id
    second = client.create_run(parent.info.experiment_id, tags={"trilemma.name": "s-1", "trilemma.kind": "study"}).info.run_id
    tracker = Tracker(uri, plan(), outcome(trial(0)))
    time.sleep(2)
    newer = run_of(client, parent, 0).info.run_id  # this driver's own order may have been carried out twice, too
    assert tracker.close() == 0
    _, runs = children(uri)
    assert runs["0"].info.run_id == kept and [step for step, _ in histories(client, runs["0"], "epoch/loss")] == [1, 2, 3]
    assert parent_of(uri)[1].info.run_id == parent.info.run_id
    for dropped, instead in ((double, kept), (newer, kept), (second, parent.info.run_id)):
        run = client.get_run(dropped)
        assert (run.info.lifecycle_stage, run.data.tags["trilemma.double_of"]) == ("deleted", instead)


@pytest.mark.parametrize("when", ["before", "while", "after"])
def test_a_driver_that_slept_over_making_a_run_neither_leaves_a_double_nor_takes_the_other_drivers_run(tmp_path, monkeypatch, when):
    """The next driver does all it has to do before the sleeper's order is carried out, or after; or the sleeper ends first."""
    uri, home = f"sqlite:///{tmp_path}/mlflow.db", Store.at(str(tmp_path / "study"))
    sleeper = Tracker(uri, plan(), outcome(), claim=home.claimed().claim)
    while not sleeper.parent:
        time.sleep(0.05)
    create = sleeper.client.create_run

    def next_driver() -> None:
        assert Tracker(uri, plan(), outcome(trial(0)), claim=home.claimed().claim).close() == 0

    def slowly(*args, **kwargs):
        if when == "before":
            next_driver()
        made = create(*args, **kwargs)
        if when == "while":
            next_driver()
        home.claimed()
        return made

    monkeypatch.setattr(sleeper.client, "create_run", slowly)
    sleeper.started(0, TrialConfig().params(), "")
    sleeper.close()
    if when == "after":
        next_driver()
    _, runs = children(uri)
    assert {number: run.info.status for number, run in runs.items()} == {"0": "FINISHED"}
    client, parent = parent_of(uri)
    assert len(client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")) == 1


def status(uri: str) -> dict[str, str]:
    return {number: run.info.status for number, run in children(uri)[1].items()}


def test_no_trial_is_shown_as_running_that_does_not_run(tmp_path: Path):
    """Ctrl-C, a resume in which trial 0 goes on and trial 1 does not come to it, another one that ends both."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    tracker = Tracker(uri, plan(), outcome())
    for number in (0, 1):
        tracker.started(number, TrialConfig().params(), "")
        tracker.rows(number, trial(number).curve[:1])
    assert tracker.close("KILLED") == 0
    assert status(uri) == {"0": "KILLED", "1": "KILLED"} and parent_of(uri)[1].info.status == "KILLED"
    client, runs = children(uri)
    client.update_run(runs["1"].info.run_id, status="RUNNING")  # as SIGKILL leaves it
    tracker = Tracker(uri, plan(), outcome())
    tracker.started(0, TrialConfig().params(), "")
    until = time.monotonic() + 60
    while status(uri) != {"0": "RUNNING", "1": "KILLED"} and time.monotonic() < until:
        time.sleep(0.2)
    assert status(uri) == {"0": "RUNNING", "1": "KILLED"} and parent_of(uri)[1].info.status == "RUNNING"
    assert tracker.close("KILLED") == 0
    assert Tracker(uri, plan(), outcome(trial(0), trial(1))).close() == 0
    assert status(uri) == {"0": "FINISHED", "1": "FINISHED"} and parent_of(uri)[1].info.status == "FINISHED"


def test_a_trial_that_was_logged_as_failed_but_has_no_result_is_logged_again(tmp_path: Path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    failed = replace(trial(0), metrics={}, error="lost")
    assert Tracker(uri, plan(), outcome(failed)).close("KILLED") == 0
    assert status(uri) == {"0": "FAILED"}
    so_far = outcome()
    tracker = Tracker(uri, plan(), so_far)
    tracker.started(0, TrialConfig().params(), "")
    so_far.trials.append(trial(0))
    tracker.ended(so_far.trials[0])
    assert tracker.close() == 0
    run = children(uri)[1]["0"]
    assert run.info.status == "FINISHED" and run.data.metrics.items() >= GOOD.items() and "error" not in run.data.tags


def test_artifacts_that_are_gone_come_back_with_a_resume(tmp_path: Path):
    uri, known = f"sqlite:///{tmp_path}/mlflow.db", outcome(trial(0), trial(1))
    assert Tracker(uri, plan(), known).close() == 0
    logged = Path(parent_of(uri)[1].info.artifact_uri.removeprefix("file://"))
    names = {str(path.relative_to(logged)) for path in logged.rglob("*.*")}
    assert {"front.csv", "front.json", "report.html"} < names
    for name in names:
        (logged / name).unlink()
    assert Tracker(uri, plan(), known).close() == 0
    assert {str(path.relative_to(logged)) for path in logged.rglob("*.*")} == names


def test_a_study_that_ended_before_the_store_existed_is_logged_whole_and_grown_facts_do_no_harm(tmp_path: Path):
    uri, known = f"sqlite:///{tmp_path}/mlflow.db", outcome(trial(0), trial(1))
    for resumed in ({}, {"resumed": "once"}, {"resumed": "once; twice"}):
        known.facts = {"command": "python x.py", **resumed}
        assert Tracker(uri, plan(), known).close() == 0
    client, runs = children(uri)
    assert set(runs) == {"0", "1"} and all(len(client.get_metric_history(r.info.run_id, "accuracy")) == 1 for r in runs.values())
    (parent,) = client.search_runs([client.get_experiment_by_name("s").experiment_id], "tags.`trilemma.kind` = 'study'")
    assert parent.data.params["fact/command"] == "python x.py" and parent.data.metrics["trials_completed"] == 2


LATER = ("with more attacks", "2026-01-02 03:04:05 +0000")


def looked(before: Outcome, robust: dict[int, float], errors: dict[int, str] | None = None) -> Outcome:
    """A study after a later look that measured robust accuracy and a flag."""
    found = lambda t: {**t.metrics, "robust_accuracy": robust[t.number], "flag/zero_gradients": 0.0}  # noqa: E731
    lost = errors or {}
    trials = [
        replace(t, metrics={}, error=lost[t.number]) if t.number in lost else replace(t, metrics=found(t)) for t in before.trials
    ]
    after = replace(before, trials=trials)
    measured = {t.number: ("robust_accuracy", "flag/zero_gradients") for t in trials if not t.error}
    after.confirmed = [replace(point, means=point.means | {"robust_accuracy": robust[point.number]}) for point in before.confirmed]
    after.changes = [*before.changes, change(before, after, *LATER, measured)]
    return after


def confirmed(number: int) -> Confirmed:
    return Confirmed(number, 3, dict(GOOD), {name: Interval(0.0, 1.0) for name in GOOD}, 1.0, True)


def histories(client, run, name: str) -> list[tuple[int, float]]:
    return sorted((m.step, m.value) for m in client.get_metric_history(run.info.run_id, name))


def state(uri: str):
    """All that runs show: parameters, metrics with their histories, tags but the clock's, names of artifacts."""
    client = MlflowClient(uri)
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    artifacts = lambda run, at=None: {  # noqa: E731
        path for f in client.list_artifacts(run.info.run_id, at) for path in ([f.path] if not f.is_dir else artifacts(run, f.path))
    }
    return {
        run.info.run_id: (
            run.info.status, run.data.params, {name: histories(client, run, name) for name in run.data.metrics}, run.data.tags,
            artifacts(run),
        )
        for run in runs
    }  # fmt: skip


def test_the_newest_version_is_what_runs_show_and_is_logged_once(tmp_path: Path):
    """Trial 0 is more accurate, trial 1 more robust until the second look."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    first = outcome(trial(0, accuracy=0.95), trial(1, robust_accuracy=0.6), trial(2, mia_auc=0.55))
    first.confirmed = [confirmed(0), confirmed(1)]
    tracker = Tracker(uri, plan(), first)
    tracker.confirmed()
    assert tracker.close() == 0
    second = looked(first, {0: 0.5, 1: 0.4, 2: 0.1})
    third = looked(second, {0: 0.3, 1: 0.35, 2: 0.1}, {2: "in version 3: it broke"})
    seen = []
    for versions in ([second], [second, third], [second, third]):
        tracker = Tracker(uri, plan(), first)
        tracker.confirmed()
        tracker.versions(versions)
        assert tracker.close() == 0, tracker.last_error
        on = {t.number for t in versions[-1].front()}
        client, runs = children(uri)
        assert {int(number) for number, run in runs.items() if run.data.tags["pareto"] == "true"} == on
        assert {row["trial"] for row in front_from_runs(uri, "s-1")} == on
        assert {run.data.tags["front_version"] for run in runs.values()} == {str(versions[-1].version)}
        seen.append(state(uri))
    assert seen[1] == seen[2]  # the same told again changes nothing
    epochs = int(TrialConfig().params()["epochs"])
    assert histories(client, runs["0"], "robust_accuracy") == [(epochs, 0.5), (epochs + 1, 0.5), (epochs + 2, 0.3)]
    assert {number: run.data.metrics["robust_accuracy"] for number, run in runs.items()} == {"0": 0.3, "1": 0.35, "2": 0.1}
    assert histories(client, runs["1"], "confirmed/robust_accuracy") == [(0, 0.5), (1, 0.4), (2, 0.35)]
    assert [len(histories(client, runs["0"], name)) for name in ("accuracy", "flag/zero_gradients")] == [1, 2]
    assert (runs["2"].info.status, runs["2"].data.tags["error"]) == ("FAILED", "in version 3: it broke")
    (parent,) = client.search_runs([client.get_experiment_by_name("s").experiment_id], "tags.`trilemma.kind` = 'study'")
    assert parent.data.tags["front_version"] == "3" and parent.info.status == "FINISHED"
    assert parent.data.metrics["front_size"] == len(third.front()) and front_version(uri, plan()) == 3
    logged = Path(parent.info.artifact_uri.removeprefix("file://"))
    assert (
        (logged / "front.csv").read_text() == (logged / "versions/3/front.csv").read_text() == report.csv(report.front_rows(third))
    )
    assert (logged / "versions/2/front.csv").read_text() == report.csv(report.front_rows(second))
    assert (logged / "confirmed.csv").read_text() == report.csv(report.confirmed_rows(third))
    assert (logged / "versions/3/plots/front.png").exists() and (logged / "versions/3/report.html").exists()


def test_a_store_that_has_never_heard_of_the_study_is_told_all_of_it(tmp_path: Path):
    uris = [f"sqlite:///{tmp_path}/{name}/mlflow.db" for name in ("slowly", "at_once")]
    for uri in uris:
        Path(uri.removeprefix("sqlite:///")).parent.mkdir()
    first = outcome(trial(0), trial(1, robust_accuracy=0.6))
    second = looked(first, {0: 0.5, 1: 0.4})
    third = looked(second, {0: 0.2, 1: 0.3})
    for versions in ([], [second], [second, third]):
        tracker = Tracker(uris[0], plan(), first)
        tracker.versions(versions)
        assert tracker.close() == 0
    tracker = Tracker(uris[1], plan(), first)
    tracker.versions([second, third])
    assert tracker.close() == 0
    both = [{n: {m: histories(c, run, m) for m in run.data.metrics} for n, run in runs.items()} for c, runs in map(children, uris)]
    assert both[0] == both[1] and both[0]["1"]["robust_accuracy"][-1][1] == 0.3
    assert front_version(uris[1], plan()) == 3 and front_version(uris[1], replace(plan(), name="s-2")) == 0


def test_a_trial_that_is_looked_at_at_last_is_finished_again(tmp_path: Path):
    uri, first = f"sqlite:///{tmp_path}/mlflow.db", outcome(trial(0), trial(1))
    for second in (looked(first, {0: 0.4, 1: 0.4}, {1: "in version 2: it broke"}), looked(first, {0: 0.4, 1: 0.3})):
        tracker = Tracker(uri, plan(), first)
        tracker.versions([second])
        assert tracker.close() == 0
    client, runs = children(uri)
    assert runs["1"].info.status == "FINISHED" and runs["1"].data.metrics["robust_accuracy"] == 0.3
    assert [value for _, value in histories(client, runs["0"], "robust_accuracy")] == [0.5, 0.4]
    assert "error" not in runs["1"].data.tags
