"""The cost of a plan from measured configurations with known numbers."""

from dataclasses import replace

import pytest
from command_lines import plan
from costs import cost, evaluation

from core.footprint import Phase
from core.study import trilemma
from trainables.cost.configurations import pilots_of
from trainables.cost.confirmation import ConfirmationSize, Span, expected
from trainables.cost.estimate import (
    ATTACK_SHARE,
    COLUMNS,
    DATABASE_BYTES,
    DRIVER,
    EPOCH_BYTES,
    METRICS,
    POINT_BYTES,
    RAY_BYTES,
    REPORT_BYTES,
    RESULT_BYTES,
    ROW_BYTES,
    SUGGESTION_SECONDS,
    TRIAL_SECONDS,
    Estimate,
    estimate,
)  # fmt: skip
from trainables.cost.pilots import Audits, Cost, Measurements
from trainables.cost.place import Place

POINT = cost(10.0, evaluation(2.0, 1.0, files=100.0), evaluation(20.0, 4.0, outputs=3.0, files=1000.0), network=500.0)
"""A point of the search space: 13 s in the sweep, 34 s in the confirmation step."""
UNDEFENDED = cost(4.0, evaluation(1.0, 1.0, files=100.0), evaluation(2.0, 4.0, outputs=1.0, files=1000.0), network=500.0)
"""A baseline: 6 s in the sweep, 10 s in the confirmation step."""
STEP = ConfirmationSize(Span(5, 5), Span(6, 6), Span(2, 3))
"""Six confirmed points, of which four are the baselines, with two to three replicates each."""
PLACE = Place(at_a_time=2, start=2.0, driver_bytes=2e9, pool_bytes=1e6)


def estimated(
    *argv: str, audits: Audits | None = None, place: Place = PLACE, step: ConfirmationSize | None = STEP, **costs: Cost
) -> Estimate:
    """The estimate of a study of 10 trials in which all points and all baselines cost the same, unless they are given."""
    planned = replace(plan("--trials", "10", "--sampler", "random", *argv), objectives=trilemma(10))
    pilots = pilots_of(planned)
    known = {number: costs.get(pilot.name or "point", UNDEFENDED if pilot.name else POINT) for number, pilot in enumerate(pilots)}
    return estimate(planned, pilots, Measurements(known, audits, warm_up=0.5), place, step if planned.replicates else None)


def test_the_sweep_trains_attacks_and_audits_each_baseline_once_and_points_otherwise():
    assert estimated().sweep == pytest.approx(4 * 6 + 6 * 13)
    assert estimated("--seeds-per-trial", "4").sweep == pytest.approx(4 * (4 * 6 + 6 * 13))


def test_replicates_are_trained_attacked_and_audited_also_by_other_networks():
    """Four of the six confirmed points are baselines, so a network costs (4 * 10 + 2 * 34) / 6 s on average."""
    assert estimated().confirm == pytest.approx(Span(12 * 18, 18 * 18))
    assert estimated(audits=Audits(0.5, 0.0)).confirm == pytest.approx(Span(12 * 18.5, 18 * 18.5))
    assert estimated("--no-confirm").confirm == Span(0, 0)


def test_shadow_models_are_trained_and_queried_for_each_point_once():
    with_shadows = estimated("--shadows", "4")
    assert with_shadows.shadows == Span(24, 24)
    assert with_shadows.shadow == pytest.approx(Span(24 * (6 + 5 / 3), 24 * (6 + 5 / 3)))  # means over points and baselines
    assert with_shadows.device == pytest.approx(Span(102 + 216 + 184 + 10, 102 + 324 + 184 + 10))  # four processes, 2.5 s each


def test_each_step_starts_as_many_processes_as_run_at_a_time_and_ray_train_new_ones_for_each_network():
    assert estimated().starts == Span(4, 4) and estimated().start == 2.5 and estimated().starting == Span(10, 10)
    assert estimated("--no-confirm").starts == Span(2, 2)
    assert estimated(place=replace(PLACE, at_a_time=16)).starts == Span(10 + 12, 10 + 16)  # 10 trials, 12 to 18 replicates
    split = estimated(place=replace(PLACE, workers=4))
    assert split.starts == Span(4 * (10 + 12), 4 * (10 + 18))
    assert split.wall.low - estimated().wall.low == pytest.approx(2.5 * (11 - 2))  # four at a time for each of two networks


def test_by_default_the_confirmation_step_has_the_expected_size():
    planned = replace(plan("--trials", "10"), objectives=trilemma(10))
    assert estimated(step=None).confirmation == expected(planned)


def test_a_baseline_that_was_not_measured_costs_the_mean_of_the_others():
    planned = replace(plan("--trials", "10"), objectives=trilemma(10))
    pilots = pilots_of(planned)
    known = {n: UNDEFENDED if pilot.name else POINT for n, pilot in enumerate(pilots) if pilot.name in ("", "undefended")}
    found = estimate(planned, pilots, Measurements(known), PLACE, STEP)
    mean = (3 * 13 + 6) / 4
    assert found.sweep == pytest.approx(6 + 3 * mean + 6 * 13)


def test_attacks_that_were_not_run_take_the_same_share_of_their_longest_time_as_the_others():
    """Attacks of three points took 20 of at most 50 s, those of two baselines 2 of 10 s, those of one 2 of 2 s: 66 of 172 s."""
    point = replace(POINT, confirm=evaluation(20.0, 4.0, longest=50.0))
    quick = replace(UNDEFENDED, confirm=evaluation(2.0, 4.0, longest=10.0))
    counted = replace(UNDEFENDED, confirm=evaluation(30.0, 4.0, longest=30.0, share=0.0))
    found = estimated(**{"point": point, "undefended": quick, "CRL alone": quick, "adversarial training alone": counted})
    assert found.point.attack == pytest.approx((2 * 20 + 2 + 2 + 2 + 30 * 66 / 172) / 6)


def test_if_no_attacks_were_run_they_take_half_of_their_longest_time():
    """Those of the sweep were run."""
    counted = replace(POINT, confirm=evaluation(30.0, 4.0, longest=30.0, share=0.0))
    found = estimated(**dict.fromkeys(["point", *plan().baselines], counted))
    assert ATTACK_SHARE == 0.5 and found.point.attack == pytest.approx(15.0)
    assert found.trial.sweep == pytest.approx(3.0)


def test_the_wall_time_is_that_of_the_driver_and_of_jobs_in_rounds():
    found = estimated(place=replace(PLACE, at_a_time=4))
    first, growth = SUGGESTION_SECONDS["random"]
    driver = [DRIVER * 2.0 + 6 * first + growth * sum(range(4, 10)) + TRIAL_SECONDS * (10 + jobs) for jobs in (12, 18)]
    assert found.driver == pytest.approx(Span(*driver))
    rounds = [10.2 * 3 + 18 * 3, 10.2 * 3 + 18 * 5]  # 10 in 3 rounds of 4
    assert found.wall == pytest.approx(Span(*(own + jobs + 2 * 2.5 for own, jobs in zip(driver, rounds, strict=True))))


def test_the_disk_holds_networks_evidence_results_report_and_database():
    found = estimated("--set", "epochs=100", audits=Audits(0.5, 50.0))
    text = RESULT_BYTES + 100 * EPOCH_BYTES
    networks = [10 * (600 + text) + count * (1500 + 50 + 2 * text) for count in (12, 18)]
    report = 2 * (REPORT_BYTES + 6 * POINT_BYTES)
    database = DATABASE_BYTES + ROW_BYTES * 10 * (100 * COLUMNS + 2 * METRICS)
    assert found.disk == pytest.approx(Span(*(files + report + database for files in networks)))


def test_memory_is_that_of_all_trials_at_a_time_of_the_driver_of_ray_and_of_the_pool():
    found = estimated(place=replace(PLACE, at_a_time=3)).memory
    assert found.trial == 1e9 and found.total == pytest.approx(3 * 1e9 + 2e9 + RAY_BYTES + 2e6)
    shared = estimated(place=replace(PLACE, at_a_time=3, shared_bytes=4e8)).memory
    assert shared.trial == 1e9 and shared.total == pytest.approx(found.total - 3 * 4e8)
    large = replace(POINT, phase=Phase("attacks", 256, 1e7, "judge.images"))
    assert estimated(point=large).memory.trial == 2.56e9 and estimated(point=large).memory.phase.name == "attacks"
