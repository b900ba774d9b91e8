"""The allocation of replicates to points, with synthetic evidence."""

import re
from collections import Counter

import numpy as np
import planted_replicates
import pytest

from trainables.execution.confirm import announcement, confirm
from trainables.storage.arrays import to_npz
from trainables.storage.versions import outcomes
from trainables.study.outcome import Verdict

PLANTED = {
    0: {"accuracy": 0.9, "robust": 0.6, "leak": 0.8}, 1: {"accuracy": 0.6, "robust": 0.2, "leak": 1.4},
    2: {"accuracy": 0.7, "robust": 0.3, "leak": 0.2}, 3: {"accuracy": 0.7, "robust": 0.3, "leak": 0.2},
}  # fmt: skip
"""Trial 0 is on the front, trial 1 is dominated by it, and trials 2 and 3 are equal."""
SWEPT = {0: (0.9, 0.6, 0.7), 1: (0.6, 0.2, 0.8), 2: (0.7, 0.3, 0.55), 3: (0.7, 0.3, 0.55)}
BASELINES = {1: "plain"}


def study(replicates: int, swept=SWEPT, **changes):
    """A plan and the outcome of its sweep, in which trial 1 is a baseline that is not on the front."""
    plan = planted_replicates.plan(replicates, **changes)
    return plan, planted_replicates.outcome(plan, swept, BASELINES)


def counts(executor) -> Counter:
    """Number of replicates that were trained, by trial."""
    return Counter(number for number, _ in executor.trained)


def test_every_point_and_baseline_gets_two_replicates_and_undecided_points_get_the_rest(tmp_path):
    lines: list[str] = []
    plan, outcome = study(5)
    executor = planted_replicates.executor(tmp_path, PLANTED, lines=lines)
    found = confirm(plan, outcome, executor)
    assert found and [point.number for point in found.points] == [0, 2, 3, 1]
    assert [point.from_front for point in found.points] == [True, True, True, False]
    trained = counts(executor)
    assert trained[0] == trained[1] == 2 and trained[2] + trained[3] == 16  # of 5 x 4
    assert abs(trained[2] - trained[3]) <= 1
    verdicts = {point.number: point.verdict for point in found.points}
    assert (verdicts[0], verdicts[1]) == (Verdict.STAYS, Verdict.LEAVES) and Verdict.UNDECIDED in verdicts.values()
    assert lines[0] == "confirmation: [1/at most 20] trial 0, replicate 1"
    reopening = "; a verdict can become undecided again when further replicates come in"
    assert re.fullmatch(rf"confirmation: \d of 4 points (is|are) decided; undecided: trials? [\d, ]+{reopening}", lines[8])
    assert not any(reopening in line for line in lines[9:])  # once is enough
    assert lines[-1].startswith("confirmation: 20 replicates used; ")


def test_the_step_is_announced_with_everything_that_is_trained():
    rivals = "then of undecided points and of their rivals (the points that come nearest to dominating them), at most"
    first = "confirming the 3 trials of the front and 1 other baseline on the test part: 2 trainings of each"
    assert announcement(*study(5)) == f"{first}, {rivals} 20 in all"
    assert announcement(*study(2)) == first
    only = "confirming the 1 trial of the front on the test part: 1 training of each"
    assert announcement(*study(1, {0: SWEPT[0]})) == only


def test_confirmation_stops_when_every_point_is_decided(tmp_path):
    plan, outcome = study(9, {n: SWEPT[n] for n in (0, 1, 2)})
    executor = planted_replicates.executor(tmp_path, PLANTED)
    found = confirm(plan, outcome, executor)
    assert found and Verdict.UNDECIDED not in {point.verdict for point in found.points}
    assert counts(executor) == {0: 2, 1: 2, 2: 2}


@pytest.mark.parametrize("budget, expected", [(1, 4), (2, 8), (3, 12)])
def test_the_budget_is_an_average_over_points(tmp_path, budget, expected):
    executor = planted_replicates.executor(tmp_path, PLANTED)
    confirm(*study(budget), executor)
    assert len(executor.trained) == expected


def test_a_round_has_one_replicate_for_each_undecided_point_and_as_many_as_run_at_a_time(tmp_path):
    equal = {n: PLANTED[2] for n in PLANTED}
    for limit, size in ((1, 1), (3, 3), (8, 4)):
        lines: list[str] = []
        executor = planted_replicates.executor(tmp_path / str(limit), equal, limit, lines)
        confirm(*study(3, dict.fromkeys(SWEPT, SWEPT[2])), executor)
        rounds = [i for i, line in enumerate(lines) if "points are decided" in line]
        undecided = 4 - int(lines[rounds[0]].split()[1])
        assert rounds[1] - rounds[0] - 1 == min(size, undecided)


@pytest.mark.parametrize("limit", [1, 3])
@pytest.mark.parametrize("interrupted_after", [1, 5, 9, 11])
def test_an_interrupted_confirmation_ends_with_the_same_replicates_and_verdicts(tmp_path, interrupted_after, limit):
    plan, outcome = study(4)
    whole = planted_replicates.executor(tmp_path / "whole", PLANTED, limit)
    expected = confirm(plan, outcome, whole)
    first = planted_replicates.executor(tmp_path / "cut", PLANTED, limit, at_most=interrupted_after)
    with pytest.raises(KeyboardInterrupt):
        confirm(plan, outcome, first)
    second = planted_replicates.executor(tmp_path / "cut", PLANTED, limit)
    resumed = confirm(plan, outcome, second)
    assert expected and resumed and len(first.trained) + len(second.trained) == len(whole.trained)
    if limit == 1:
        assert first.trained + second.trained == whole.trained and resumed.points == expected.points
    stored = planted_replicates.executor(tmp_path / "cut", PLANTED, limit)
    again = confirm(plan, outcome, stored)
    assert again and not stored.trained and again.points == resumed.points


def test_a_failed_replicate_counts_as_used_and_its_point_gets_another_one_first(tmp_path):
    executor = planted_replicates.executor(tmp_path, PLANTED, fails=frozenset({(0, 2), (2, 1), (2, 2)}))
    found = confirm(*study(3), executor)
    assert found and executor.trained[8] == (0, 3)
    by_number = {point.number: point for point in found.points}
    assert (by_number[0].replicates, by_number[0].failed) == (2, 1)
    assert 2 not in by_number and found.not_confirmed[2] == "every replicate failed: it diverged"


def test_the_stored_study_has_the_confirmation_that_the_driver_had(tmp_path):
    plan, outcome = study(3)
    executor = planted_replicates.executor(tmp_path, PLANTED)
    found, store = confirm(plan, outcome, executor), executor.workspace.store
    for trial in outcome.trials:
        suggestion = {"number": trial.number, "baseline": trial.baseline, "params": trial.params}
        store.write_json(f"trials/{trial.number:05d}/params.json", suggestion)
        result = {"metrics": dict(trial.metrics), "curve": [], "error": "", "seconds": 1.0, "reused_from": ""}
        store.write_json(f"trials/{trial.number:05d}/result.json", result | {"stopped_epoch": 0, "key": "", "outputs_key": ""})
    (stored,) = outcomes(plan, store, {}, [])
    assert found and stored.confirmation and stored.confirmation.points == found.points
    store.discard("confirm/00000/2/result.json")
    (stored,) = outcomes(plan, store, {}, [])
    point = {p.number: p for p in stored.confirmed}[0]
    assert (point.replicates, point.failed) == (1, 1)


def test_a_replicate_whose_evidence_is_damaged_counts_as_failed(tmp_path):
    plan, outcome = study(2)
    executor = planted_replicates.executor(tmp_path, PLANTED)
    confirm(plan, outcome, executor)
    executor.workspace.store.write("confirm/00002/1/predictions.npz", to_npz({"rows": np.arange(3), "labels": np.arange(3)}))
    found = confirm(plan, outcome, executor)
    assert found and not found.points[0].failed and (found.points[1].replicates, found.points[1].failed) == (1, 1)
