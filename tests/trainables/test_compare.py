"""Fronts beside each other, read from a real MLflow store that real trackers wrote; nothing is trained."""

import csv
import io
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from mlflow import MlflowClient

from core import pareto
from core.config import Objective, TrialConfig, trilemma
from core.space import Uniform
from core.stats import Interval
from trainables import compare
from trainables.compare import epsilon, figure, standings
from trainables.outcome import Confirmed, Outcome, Trial, change
from trainables.plan import Plan
from trainables.tracking import Tracker

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]
ROOT = Path(__file__).resolve().parents[2]
OBJECTIVES = trilemma(10)
NAMES = [o.metric for o in OBJECTIVES]
ACCURATE, ROBUST, PRIVATE = (0.95, 0.2, 0.7), (0.7, 0.6, 0.65), (0.6, 0.1, 0.51)
DOMINATED = (0.69, 0.55, 0.66)
TOO_GOOD = (0.99, 0.99, 0.5)
BETTER = (0.8, 0.65, 0.6)
"""Dominates `ROBUST` and neither of the others."""


def measured(values: tuple[float, float, float], **more: float) -> dict[str, float]:
    return dict(zip(NAMES, values, strict=True)) | more


def confirmed(number: int, values: tuple[float, float, float], on_front: bool) -> Confirmed:
    means = measured(values)
    return Confirmed(number, 3, means, {name: Interval(value, value) for name, value in means.items()}, 0.5, on_front)


def written(
    uri: str, name: str, rows, points=(), objectives=OBJECTIVES, status="FINISHED", later=None, lost=(), **settings
) -> Outcome:
    """A study as its driver leaves it in MLflow, but for the report and its pictures; a row without metrics is a failure."""
    config = TrialConfig().set({"epochs": 3, **settings})
    plan = Plan(
        name=name, study="s", question="?", config=config, space={"optimizer.lr": Uniform(0.1, 0.2)}, objectives=objectives,
        baselines={}, trials=len(rows), sampler="random", seed=0, confirm={}, replicates=0,
    )  # fmt: skip
    trials = [
        Trial(i, config.params(), row, error="" if row else "it diverged", baseline="" if i else "plain")
        for i, row in enumerate(rows)
    ]
    outcome = Outcome(name, "s", "?", objectives, plan.space, len(rows), trials=trials, confirmed=list(points))
    tracker = Tracker(uri, plan, outcome)
    if points:
        tracker.confirmed()
    if later is not None:
        after = replace(
            outcome, trials=[replace(t, metrics=later[t.number], error="" if later[t.number] else "it broke") for t in trials]
        )
        changed = {i: tuple(row) for i, row in enumerate(later)}
        after.confirmed = [point for point in outcome.confirmed if point.number not in lost]
        after.changes = [change(outcome, after, "again", "2026-01-02 03:04:05 +0000", changed)]
        tracker.versions([after])
    assert tracker.close("KILLED") == 0, tracker.last_error
    MlflowClient(uri).set_terminated(tracker.parent, status)
    return outcome


THREE = [measured(ACCURATE), measured(ROBUST), measured(PRIVATE)]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> str:
    """Studies by name; the ones that start with `not-` cannot be compared with `three`."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"
    written(uri, "three", THREE)
    written(uri, "more", [*THREE, measured(DOMINATED), {}, measured(TOO_GOOD, **{"flag/zero_gradients": 1.0})])
    written(uri, "better", [measured(BETTER, **{"flag/more_steps_help": 1.0})], objectives=OBJECTIVES[::-1])
    points = [confirmed(0, (0.9, 0.15, 0.75), True), confirmed(1, TOO_GOOD, False), confirmed(2, (0.5, 0.1, 0.55), True)]
    written(uri, "confirmed", THREE, points)
    masked = [measured(BETTER, **{"flag/zero_gradients": 1.0}), *THREE[1:]]
    points = [confirmed(0, BETTER, True), confirmed(1, ROBUST, True), confirmed(2, PRIVATE, True)]
    written(uri, "barred", [measured(BETTER), *THREE[1:]], points, later=masked, lost=(1,))
    written(uri, "lost", [measured(BETTER), *THREE], later=[{}, *THREE])
    written(uri, "empty", [{}])
    written(uri, "strong", THREE, **{"judge.suite": "strong"})
    written(uri, "not-over", THREE, status="RUNNING")
    written(uri, "not-dataset", [], dataset="mnist")
    written(uri, "not-pool", [], pool=500)
    written(uri, "not-norm", [], **{"judge.norm": "l2"})
    written(uri, "not-epsilon", [], **{"judge.epsilon": 0.1})
    written(uri, "not-part", [], **{"judge.part": "test"})
    written(uri, "not-classes", [], objectives=trilemma(100))
    written(uri, "not-metrics", [], objectives=OBJECTIVES[:2])
    away = Objective("mia_auc", "max", reference=0.5, ideal=1.0)
    written(uri, "not-direction", [], objectives=(*OBJECTIVES[:2], away))
    return uri


def run(capsys, *argv: str) -> tuple[int, str, str]:
    """Exit code, output and errors."""
    with pytest.raises(SystemExit) as left:
        compare.main(argv)
    said = capsys.readouterr()
    return int(left.value.code or 0), said.out, said.err


def fronts(store: str, *names: str) -> list[compare.Front]:
    return compare.alike(compare.read(store, names))


def volume(*points: tuple[float, float, float]) -> float:
    return pareto.hypervolume(pareto.losses([measured(p) for p in points], OBJECTIVES))


def test_hypervolume_is_that_of_the_same_points_and_of_the_study_itself(store):
    three, better = standings(fronts(store, "three", "better"))
    assert three.hypervolume == pytest.approx(volume(ACCURATE, ROBUST, PRIVATE), abs=1e-12)
    assert better.hypervolume == pytest.approx(volume(BETTER), abs=1e-12)
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("s").experiment_id
    (parent,) = client.search_runs([experiment], "tags.`trilemma.name` = 'three' and tags.`trilemma.kind` = 'study'")
    assert three.hypervolume == pytest.approx(parent.data.metrics["hypervolume"], abs=1e-12)


def test_no_study_moves_the_hypervolume_of_another(store):
    alone = [standings(fronts(store, "three", other))[0].hypervolume for other in ("better", "more", "empty", "confirmed")]
    assert len(set(alone)) == 1


def test_dominated_failed_and_barred_trials_change_nothing(store):
    (three, *_), (more, *_) = fronts(store, "three", "better"), fronts(store, "more", "better")
    assert [(p.trial, p.values) for p in more.points] == [(p.trial, p.values) for p in three.points]
    assert [p.trial for p in three.points] == [0, 1, 2]
    both = [standings(fronts(store, name, "better")) for name in ("three", "more")]
    for a, b in zip(*both, strict=True):
        assert (a.hypervolume, a.behind, a.stands.tolist()) == (b.hypervolume, b.behind, b.stands.tolist())


def test_what_a_later_look_could_not_look_at_does_not_count_by_its_old_numbers(store):
    _, lost = fronts(store, "three", "lost")
    assert [p.trial for p in lost.points] == [1, 2, 3] and lost.trials == 3


def test_a_point_that_another_study_dominates_is_told_apart(store):
    three, better = standings(fronts(store, "three", "better"))
    assert three.stands.tolist() == [True, False, True] and better.stands.tolist() == [True]


def test_equal_points_of_two_studies_both_stand(store):
    for standing in standings(fronts(store, "three", "more")):
        assert standing.stands.all() and len(standing.stands) == 3 and standing.behind == 0


def test_epsilon_is_the_least_shift_that_leaves_nothing_unmatched():
    random = np.random.default_rng(0)
    a, b = random.random((5, 3)), random.random((7, 3))
    matched = lambda shift: all(any((x - shift <= y).all() for x in a) for y in b)  # noqa: E731
    found = epsilon(a, b)
    assert matched(found + 1e-9) and not matched(found - 1e-9)
    assert epsilon(a, a[:2]) == 0 and np.isnan(epsilon(a[:0], b))


def test_confirmed_means_are_preferred_and_what_left_the_front_does_not_count(store):
    three, sure = fronts(store, "three", "confirmed")
    assert (three.kind, sure.kind) == ("sweep", "confirmed")
    assert [(p.trial, tuple(p.values.values())) for p in sure.points] == [(0, (0.9, 0.15, 0.75)), (2, (0.5, 0.1, 0.55))]
    assert standings([three, sure])[1].hypervolume == pytest.approx(volume((0.9, 0.15, 0.75), (0.5, 0.1, 0.55)), abs=1e-12)


def test_confirmed_points_that_a_later_look_has_barred_or_lost_do_not_count(store):
    _, barred = fronts(store, "three", "barred")
    assert barred.kind == "confirmed" and barred.version == 2 and [p.trial for p in barred.points] == [2]


def test_objectives_in_another_order_are_the_same_objectives(store):
    assert [[o.metric for o in front.objectives] for front in fronts(store, "three", "better")] == [NAMES, NAMES]


def test_table_csv_and_picture_say_the_same_twice(store, tmp_path, capsys):
    made = []
    for folder in (tmp_path / "a/b", tmp_path / "again"):
        code, out, _ = run(capsys, "three", "better", "confirmed", "empty", "--tracking-uri", store, "--output", str(folder))
        assert code == 0
        made.append([out.replace(str(folder), ""), *((folder / name).read_bytes() for name in ("compare.csv", "compare.png"))])
    assert made[0] == made[1]
    out = made[0][0]
    lines = {
        line.split("│")[1].strip(): [cell.strip() for cell in line.split("│")[2:-1]] for line in out.splitlines() if "│" in line
    }
    three, union = volume(ACCURATE, ROBUST, PRIVATE), volume(ACCURATE, BETTER, PRIVATE)
    behind = epsilon(
        *(pareto.losses([measured(p) for p in points], OBJECTIVES) for points in ([ACCURATE, ROBUST, PRIVATE], [BETTER]))
    )
    assert lines["three"] == [
        "sweep", "3", "3", f"{three:.4f}", "0.950 (0)", "0.600 (1)", "0.510 (2)", "2/3 (67%)", f"{behind:.3f}",
    ]  # fmt: skip
    assert lines["confirmed"][:3] == ["confirmed", "3", "2"]
    assert lines["empty"] == ["sweep", "0", "0", "0.0000", "-", "-", "-", "-", "-"]
    assert lines["all together"][:3] == ["", "7", "3"] and lines["all together"][3] == f"{union:.4f}"
    assert "accuracy 0.1 to 1, robust_accuracy 0 to 1, mia_auc 1 to 0.5" in out
    rows = list(csv.DictReader(io.StringIO(made[0][1].decode())))
    assert [(row["study"], row["points"], row["trial"], row["non_dominated"]) for row in rows] == [
        ("three", "sweep", "0", "True"), ("three", "sweep", "1", "False"), ("three", "sweep", "2", "True"),
        ("better", "sweep", "0", "True"), ("confirmed", "confirmed", "0", "False"), ("confirmed", "confirmed", "2", "False"),
    ]  # fmt: skip
    assert [float(rows[1][name]) for name in NAMES] == list(ROBUST)
    assert [row["flags"] for row in rows[2:4]] == ["", "more_steps_help"] and rows[0]["baseline"] == "plain"
    assert MlflowClient(store).get_run(rows[3]["run"]).data.metrics["accuracy"] == BETTER[0]


def test_the_picture_is_one_and_shapes_tell_the_studies_apart_without_colour(store, monkeypatch):
    both = fronts(store, "three", "better")
    picture = imread(io.BytesIO(figure(both, standings(both))))
    assert picture.shape[1] == 1500 and picture[..., :3].std() > 0.05
    grey = lambda shapes: monkeypatch.setattr(compare, "SHAPES", shapes) or figure(both, standings(both))  # noqa: E731
    monkeypatch.setattr(compare, "COLORS", ("#000000",))
    assert grey("os") != grey("oo")


def test_as_many_studies_as_there_are_looks_look_different():
    count = len(compare.SHAPES) * len(compare.COLORS)
    assert (
        len({(compare.SHAPES[i % len(compare.SHAPES)], compare.COLORS[i % len(compare.COLORS)]) for i in range(count)})
        == count
        == 56
    )


def test_names_are_text_and_not_markup(store):
    both = [replace(front, name=f"$x^[bold]{front.name}$") for front in fronts(store, "three", "better")]
    assert figure(both, standings(both)).startswith(b"\x89PNG")
    assert next(iter(compare.table(both, standings(both)).columns[0].cells)) == r"$x^\[bold]three$"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("not-dataset", "they differ in dataset: three: digits; not-dataset: mnist"),
        ("not-pool", "they differ in pool: three: 0; not-pool: 500"),
        ("not-norm", "they differ in judge.norm: three: linf; not-norm: l2"),
        ("not-epsilon", "they differ in judge.epsilon: three: 0.03137254901960784; not-epsilon: 0.1"),
        ("not-part", "they differ in judge.part: three: val; not-part: test"),
        ("not-classes", "they differ in references and ideals: three: accuracy 0.1 to 1"),
        ("not-metrics", "they differ in objectives: three: accuracy (max), mia_auc (min), robust_accuracy (max)"),
        ("not-direction", "not-direction: accuracy (max), mia_auc (max), robust_accuracy (max)"),
        ("not-over", "not-over is not finished, MLflow says RUNNING"),
        ("bettter", "'bettter' (did you mean 'better'?), expected one of: barred, better, confirmed, empty, lost, more"),
        ("three", "three is named twice"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused_in_one_line(store, tmp_path, capsys, name, said):
    code, out, err = run(capsys, "three", name, "--tracking-uri", store, "--output", str(tmp_path / "out"))
    assert (code, out) == (2, "") and said in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_one_study_a_missing_store_and_a_file_for_a_folder_are_refused(store, tmp_path, capsys):
    missing = f"sqlite:///{tmp_path}/none.db"
    (tmp_path / "file").write_text("")
    for argv, said in (
        (("three", "--tracking-uri", store), "one study is not a comparison, got three"),
        (("three", "better", "--tracking-uri", missing), "there is no MLflow store at"),
        (("three", "better", "--tracking-uri", store, "--output", str(tmp_path / "file")), "cannot write to --output"),
        ((), "required: NAME"),
    ):
        code, out, err = run(capsys, *argv)
        assert (code, out) == (2, "") and said in err and err.count("\n") == 1, argv
    assert not (tmp_path / "none.db").exists()


def test_what_is_less_than_fair_is_said_and_goes_on(store, tmp_path, capsys):
    code, out, _ = run(capsys, "three", "strong", "barred", "--tracking-uri", store, "--output", str(tmp_path))
    assert code == 0 and [line for line in out.splitlines() if line.startswith("warning: ")] == [
        "warning: judge.suite differs, three: quick; strong: strong; barred: quick",
        "warning: front_version differs, three: 1; strong: 1; barred: 2; a front that met more attacks or audits looks worse",
        "warning: a sweep's front is picked from noisy trials and looks better than a confirmed one, "
        "three: sweep; strong: sweep; barred: confirmed",
    ]
    _, out, _ = run(capsys, "three", "more", "--tracking-uri", store, "--output", str(tmp_path))
    assert "warning" not in out


def test_the_script_compares(store, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["compare.py", "three", "better", "--tracking-uri", store, "--output", str(tmp_path)])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(ROOT / "studies/compare.py"), run_name="__main__")
    assert left.value.code == 0 and "all together" in capsys.readouterr().out
