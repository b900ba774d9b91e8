"""Early stopping: which trials are stopped at a rung, and which never are."""

from types import SimpleNamespace

import finished
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from ray.tune.schedulers import TrialScheduler
from searches import measured

from core import pareto
from core.config import TrialConfig
from trainables.search.early_stopping import ParetoHalving, dominated_at_rung
from trainables.search.reports import epochs_report
from trainables.study.plan import Plan
from trainables.study.trial import Trial

STOP, CONTINUE = TrialScheduler.STOP, TrialScheduler.CONTINUE
loss_tables = arrays(float, st.tuples(st.integers(1, 12), st.just(3)), elements=st.integers(0, 3).map(float))


def plan(rungs=(1, 3), **changes) -> Plan:
    """A plan of nine epochs with these rungs."""
    return finished.plan(**{"config": TrialConfig.of({"epochs": 9}), "rungs": rungs} | changes)


def tune_trial(number: int, baseline: str = "") -> SimpleNamespace:
    """Ray Tune's trial."""
    return SimpleNamespace(config={"number": number, "baseline": baseline})


def rows_at_rung(epoch: int, accuracy: float, robust: float = 0.3, mia: float = 0.6) -> list[dict[str, float]]:
    """The epoch before a rung, and the one of the rung with its interim evaluation."""
    return [{"epoch": epoch - 1}, {"epoch": epoch, "rung/accuracy": accuracy, "rung/robust_accuracy": robust, "rung/mia_auc": mia}]


def decide(scheduler: ParetoHalving, number: int, epoch: int, accuracy: float, baseline: str = "", **others: float) -> str:
    """The decision about a trial that reports a rung."""
    report = epochs_report(rows_at_rung(epoch, accuracy, **others))
    return scheduler.on_trial_result(None, tune_trial(number, baseline), report)


@settings(deadline=None)
@given(loss_tables)
def test_a_non_dominated_trial_is_never_stopped(values):
    non_dominated = pareto.non_dominated(values)
    for i in range(len(values)):
        if non_dominated[i]:
            assert not dominated_at_rung(values[i], np.delete(values, i, 0), 3)


@settings(deadline=None)
@given(loss_tables, st.integers(2, 4))
def test_a_stopped_trial_is_dominated_and_enough_trials_are_better(values, eta):
    for i in range(len(values)):
        others = np.delete(values, i, 0)
        if dominated_at_rung(values[i], others, eta):
            assert any((other <= values[i]).all() and (other < values[i]).any() for other in others)
            layer = np.array([_layer(values, j) for j in range(len(values))])
            assert (layer < layer[i]).sum() >= len(values) / eta


def _layer(values: np.ndarray, i: int) -> int:
    """Number of non-dominated fronts that must be removed before row i is non-dominated."""
    remaining, layer = list(range(len(values))), 0
    while True:
        front = [
            j for j in remaining if not any((values[k] <= values[j]).all() and (values[k] < values[j]).any() for k in remaining)
        ]
        if i in front:
            return layer
        remaining, layer = [j for j in remaining if j not in front], layer + 1


def test_the_best_third_of_a_chain_continues():
    chain = np.arange(9.0)[:, None].repeat(3, 1)
    assert [dominated_at_rung(chain[i], np.delete(chain, i, 0), 3) for i in range(9)] == [False] * 3 + [True] * 6


def test_trials_are_compared_only_at_the_same_rung():
    scheduler = ParetoHalving(plan(), [])
    assert decide(scheduler, 1, 3, accuracy=0.9) == CONTINUE
    assert decide(scheduler, 2, 1, accuracy=0.5) == CONTINUE  # dominated by trial 1, which had trained longer
    assert decide(scheduler, 3, 1, accuracy=0.4) == STOP
    assert decide(scheduler, 4, 1, accuracy=0.4, mia=0.55) == CONTINUE  # better in one objective
    assert decide(scheduler, 2, 3, accuracy=0.8) == STOP


def test_an_auc_below_the_chance_level_is_no_reason_to_continue_or_to_stop():
    scheduler = ParetoHalving(plan(), [])
    rows = {n: rows_at_rung(1, accuracy, mia=mia) for n, accuracy, mia in ((1, 0.9, 0.54), (2, 0.8, 0.51), (3, 0.9, 0.55))}
    for row in rows.values():
        row[-1]["rung/mia_auc_chance"] = 0.55
    decisions = [scheduler.on_trial_result(None, tune_trial(n), epochs_report(row)) for n, row in rows.items()]
    assert decisions == [CONTINUE, STOP, CONTINUE]


def test_no_trial_is_stopped_between_rungs():
    scheduler = ParetoHalving(plan(), [])
    assert decide(scheduler, 1, 1, accuracy=0.9) == CONTINUE
    assert scheduler.on_trial_result(None, tune_trial(2), epochs_report([{"epoch": 2, "epoch/loss": 9.0}])) == CONTINUE
    assert scheduler.on_trial_result(None, tune_trial(2), measured({"accuracy": 0.1})) == CONTINUE


def test_trials_are_compared_with_baselines_which_are_never_stopped():
    scheduler = ParetoHalving(plan(), [])
    assert decide(scheduler, 1, 1, accuracy=0.9) == CONTINUE
    assert decide(scheduler, 0, 1, accuracy=0.2, baseline="undefended") == CONTINUE
    assert decide(scheduler, 2, 1, accuracy=0.1) == STOP


def test_the_interim_evaluations_of_ended_trials_count_in_a_resumed_study():
    curve = [*rows_at_rung(1, 0.9)[1:], {"epoch": 2, "epoch/loss": 1.0}]
    scheduler = ParetoHalving(plan(), [Trial(number=1, params={}, curve=curve)])
    assert decide(scheduler, 2, 1, accuracy=0.8) == STOP


def test_a_resumed_trial_is_not_stopped_at_a_rung_that_it_has_passed():
    scheduler = ParetoHalving(plan(), [])
    assert decide(scheduler, 1, 1, accuracy=0.9) == CONTINUE
    report = epochs_report([*rows_at_rung(1, accuracy=0.1), {"epoch": 2, "epoch/loss": 1.0}])
    assert scheduler.on_trial_result(None, tune_trial(2), report) == CONTINUE
