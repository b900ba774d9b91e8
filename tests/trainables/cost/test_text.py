"""The cost of a plan as text."""

from dataclasses import replace

import pytest
from command_lines import plan
from conditional_study import STUDY as CONDITIONAL
from costs import cost, evaluation

from core.footprint import Phase
from core.study import Study, trilemma
from studies.crl_tradeoff import STUDY
from trainables.cost.configurations import pilots_of
from trainables.cost.confirmation import Span
from trainables.cost.estimate import estimate
from trainables.cost.pilots import Cost, Measurements
from trainables.cost.place import Place
from trainables.cost.text import cost_lines, counted_span, duration, measured_lines, pilot_line, size, span, unmeasured_line
from trainables.study.site import Site

WHOLE = cost(10.0, evaluation(2.0, 1.0), evaluation(20.0, 4.0))


def lines(
    *argv: str, of: Cost = WHOLE, first: Cost | None = None, missing: int = 0, skipped: int = 0, address: str = "",
    workers: int = 0, study: Study = STUDY,
) -> str:  # fmt: skip
    planned = plan("--sampler", "random", *argv, study=study)
    planned = replace(planned, objectives=trilemma(10))
    pilots = pilots_of(planned)
    found = Measurements(dict.fromkeys(range(len(pilots) - missing - skipped), of), skipped=skipped)
    found.costs[0] = first or of
    place = Place(at_a_time=2, workers=workers, start=3.0, driver_bytes=0, pool_bytes=0)
    total = estimate(planned, pilots, found, place)
    measured = measured_lines(found, len(pilots), seconds=33.3)
    return "\n".join(measured + cost_lines(planned, Site(address=address, workers_per_trial=workers), total, 503))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.256, "0.26 s"), (4.26, "4.3 s"), (119.2, "119 s"), (150, "2 min"), (7140, "119 min"), (9000, "2.5 h"), (1e7, "2,778 h")],
)
def test_a_duration_has_the_unit_that_suits_it(seconds, text):
    assert duration(seconds) == text


def test_sizes_and_ranges_as_text():
    assert [size(count) for count in (15.4e6, 2.34e9)] == ["15 MB", "2.3 GB"]
    assert span(Span(4.4, 6.6)) == "4 to 7" and span(Span(5.9, 6.1)) == "6"
    spans = (Span(0.9, 1.1), Span(1, 1e4), Span(2, 2))
    assert [counted_span(ends, "trial") for ends in spans] == ["1 trial", "1 to 10,000 trials", "2 trials"]


def test_a_configuration_is_described_by_the_cost_of_its_phases():
    first, second, *_ = pilots_of(plan())
    phases = "training 10 s, evaluation in the sweep 3.0 s, evaluation in the confirmation step 24 s"
    assert pilot_line(second, WHOLE) == f"undefended: {phases}"
    bound = replace(WHOLE, sweep=evaluation(2.0, 1.0, share=0.0))
    assert pilot_line(first, bound) == f"a point of the search space: {phases} (at most; not all attacks were run)"


def test_what_was_not_measured_is_said():
    assert "7 of 7 configurations measured in 33 s, with networks that were trained for 100 % of their epochs" in lines()
    assert "that were trained for a few steps only" in lines(of=replace(WHOLE, training=replace(WHOLE.training, trained=0.0)))
    text = lines(missing=2)
    assert "5 of 7 configurations" in text and "2 were not measured in time; they are assumed to cost as much as the mean" in text
    assert "1 was not measured in time; it is assumed to cost" in lines(missing=1)
    assert "1 cannot be trained on these images; such trials fail and cost little" in lines(skipped=1)
    assert not any(words in lines() for words in ("not measured", "cannot be trained", "the attacks of the"))


def test_if_nothing_was_measured_the_reason_and_the_remedy_are_said():
    unknown = "so device time and wall time are not known"
    assert unmeasured_line(Measurements(), 7, limit=36) == (
        f"nothing was measured within 36 s, {unknown}: try again when this machine is less busy, or measure for longer with "
        "--dry-run 400"
    )
    assert "--dry-run 6000" in unmeasured_line(Measurements(), 7, limit=600)
    assert unmeasured_line(Measurements(lost=2), 7, limit=36).startswith("the processes that measure ended without a result")
    assert unmeasured_line(Measurements(skipped=7), 7, limit=36).startswith("none of the 7 configurations can be trained")


def test_evaluations_that_were_not_run_on_all_images_are_said():
    bound, part = (replace(WHOLE, confirm=evaluation(20.0, 4.0, share=share)) for share in (0.0, 0.25))
    attacks = "the attacks of the confirmation step"
    assert f"no time to run {attacks}: they are assumed to take 50 % of the time that they would take if none succeeded" in lines(
        of=bound
    )
    assert "the attacks of the sweep" not in lines(of=bound)
    assert f"{attacks} were run on 25 % of the images or more" in lines(of=part)
    assert f"{attacks} were not run on 1 of 7 networks; they are assumed to succeed as early as on the others" in lines(first=bound)


def test_the_sweep_counts_images_and_device_time():
    text = lines("--trials", "10", "--set", "epochs=20")
    assert "sweep: 10 trials x 20 epochs x 503 members = 100,600 training images" in text
    assert "10 networks, each 10 s of training and 3.0 s of attacks and audits: 2 min of device time" in text  # 130 s
    assert "sweep: 10 trials x 2 seeds x 30 epochs" in lines("--trials", "10", "--seeds-per-trial", "2")
    assert "these are means over the options of loss and perturbation that were measured" in lines(study=CONDITIONAL)
    assert "early stopping saves a part of this" in lines("--early-stopping")
    assert "they are searched" in lines("--space", "epochs=5:10")


def test_the_confirmation_step_is_counted_unless_there_is_none():
    text = lines("--trials", "10", "--shadows", "3")
    assert "10 s of training, 20 s of attacks and 4.0 s of audits:" in text and "shadow models: 3 per point" in text
    assert "each of them is audited on its own, and then by 1 other replicate of its point and 3 shadow models" in text
    assert "by 1 other replicate of its point\n" in lines() and "audited" not in lines("--replicates", "1")
    without = lines("--no-confirm")
    assert "confirmation: none" in without and "shadow models" not in without and "front:" not in without


def test_memory_is_mostly_that_of_the_batches_of_large_networks():
    large = replace(WHOLE, phase=Phase("attacks", 256, 1e7, "judge.images"))
    assert "memory: about 2.2 GiB in total; 0.93 GiB for each of 2 trials at a time, mostly for libraries" in lines()
    total = "memory: at least 5.1 GiB in total; 2.4 GiB for each of 2 trials at a time"
    assert f"{total}, mostly for attacks on batches of 256 images" in lines(of=large)


def test_a_cluster_may_run_more_trials_at_a_time():
    assert "2 trials at a time; the cluster may run more at a time, on other hardware than this machine's; " in lines(
        address="head:6379"
    )
    assert "the cluster" not in lines()
    assert "; 4 workers per trial shorten this" in lines(workers=4) and "workers per trial" not in lines()
