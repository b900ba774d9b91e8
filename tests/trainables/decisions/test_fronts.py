"""Fronts of several studies, read from a real MLflow store and compared."""

from dataclasses import replace

import numpy as np
import pytest
from compared import (
    ACCURATE,
    BETTER,
    NAMES,
    OBJECTIVES,
    PRIVATE,
    ROBUST,
    Point,
    measured,
    write_studies,
)  # fmt: skip

from core import pareto
from core.errors import InputError
from trainables.decisions.fronts import StudyFront, comparable, compare, epsilon_indicator, read_fronts

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> str:
    """URI of a store with the studies of `write_studies`."""
    write_studies(uri := f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db")
    return uri


def fronts(store: str, *names: str) -> list[StudyFront]:
    """The fronts of studies, with their objectives in the same order."""
    return comparable(read_fronts(store, names))


def volume(*points: Point) -> float:
    """Hypervolume of these points."""
    return pareto.hypervolume(pareto.losses([measured(p) for p in points], OBJECTIVES))


def test_the_hypervolume_of_a_sweep_is_that_of_its_points(store):
    three, better = fronts(store, "three", "better")
    assert three.sweep_hypervolume == pytest.approx(volume(ACCURATE, ROBUST, PRIVATE), abs=1e-12)
    assert better.sweep_hypervolume == pytest.approx(volume(BETTER), abs=1e-12)
    assert np.isnan(three.hypervolume) and three.interval == (-np.inf, np.inf)


def test_the_confirmed_hypervolume_is_that_of_the_version_with_its_interval(store):
    _, confirmed, excluded = fronts(store, "three", "confirmed", "excluded")
    assert (confirmed.hypervolume, confirmed.interval) == (0.5, (0.4, 0.6))
    assert confirmed.sweep_hypervolume == pytest.approx(volume(ACCURATE, ROBUST, PRIVATE), abs=1e-12)
    assert excluded.version == 2 and (excluded.hypervolume, excluded.interval) == (0.3, (0.25, 0.45))  # 0.5 before it was revised


def test_dominated_failed_and_excluded_trials_change_nothing(store):
    (three, *_), (more, *_) = fronts(store, "three", "better"), fronts(store, "more", "better")
    assert [(p.trial, p.values) for p in more.points] == [(p.trial, p.values) for p in three.points]
    assert [p.trial for p in three.points] == [0, 1, 2]
    both = [compare(fronts(store, name, "better")) for name in ("three", "more")]
    for a, b in zip(*both, strict=True):
        assert a.epsilon_indicator == b.epsilon_indicator
        assert a.non_dominated.tolist() == b.non_dominated.tolist()


def test_a_trial_that_could_not_be_reevaluated_does_not_count_by_its_earlier_metrics(store):
    _, lost = fronts(store, "three", "lost")
    assert [p.trial for p in lost.points] == [1, 2, 3] and lost.trials == 3


def test_a_point_that_a_point_of_another_study_dominates_is_not_non_dominated(store):
    three, better = compare(fronts(store, "three", "better"))
    assert three.non_dominated.tolist() == [True, False, True] and better.non_dominated.tolist() == [True]


def test_equal_points_of_two_studies_are_both_non_dominated(store):
    for comparison in compare(fronts(store, "three", "more")):
        assert comparison.non_dominated.all() and len(comparison.non_dominated) == 3 and comparison.epsilon_indicator == 0


def test_the_epsilon_indicator_is_the_smallest_shift_that_matches_all_points():
    random = np.random.default_rng(0)
    a, b = random.random((5, 3)), random.random((7, 3))
    matched = lambda shift: all(any((x - shift <= y).all() for x in a) for y in b)  # noqa: E731
    indicator = epsilon_indicator(a, b)
    assert matched(indicator + 1e-9) and not matched(indicator - 1e-9)
    assert epsilon_indicator(a, a[:2]) == 0 and np.isnan(epsilon_indicator(a[:0], b))


def test_confirmed_means_are_preferred_and_points_that_left_the_front_do_not_count(store):
    three, confirmed = fronts(store, "three", "confirmed")
    assert (three.kind, confirmed.kind) == ("sweep", "confirmed")
    points = [(p.trial, tuple(p.values.values())) for p in confirmed.points]
    assert points == [(0, (0.9, 0.15, 0.75)), (2, (0.5, 0.1, 0.55))]


def test_an_auc_below_the_largest_chance_level_of_all_points_makes_no_point_better(store):
    """`lucky` dominates `unlucky` by AUCs that are both below the chance level."""
    lucky, unlucky = fronts(store, "lucky", "unlucky")
    assert [p.levels for p in (*lucky.points, *unlucky.points)] == [{"mia_auc_chance": 0.56}, {"mia_auc_chance": 0.58}]
    assert [p.values["mia_auc"] for p in (*lucky.points, *unlucky.points)] == [0.51, 0.57]
    assert [c.non_dominated.tolist() for c in compare([lucky, unlucky])] == [[True], [True]]
    apart = replace(unlucky, points=(replace(unlucky.points[0], values=unlucky.points[0].values | {"mia_auc": 0.6}),))
    assert [c.non_dominated.tolist() for c in compare([lucky, apart])] == [[True], [False]]


def test_confirmed_points_that_a_reevaluation_has_excluded_or_lost_do_not_count(store):
    _, excluded = fronts(store, "three", "excluded")
    assert excluded.kind == "confirmed" and excluded.version == 2 and [p.trial for p in excluded.points] == [2]


def test_the_order_of_the_objectives_of_a_study_does_not_matter(store):
    assert [[o.metric for o in front.objectives] for front in fronts(store, "three", "better")] == [NAMES, NAMES]


def test_studies_of_other_images_under_the_same_name_cannot_be_compared(store):
    """A parquet folder whose pixels changed between two studies, for example."""
    three, better = fronts(store, "three", "better")
    assert comparable([three, better])
    with pytest.raises(InputError, match=r"they differ in pixels or labels of their images \(fingerprints\): three: ; better: abc"):
        comparable([three, replace(better, settings=better.settings | {"data": "abc"})])
