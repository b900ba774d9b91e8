"""Answers to the contrasts of a study, from paired differences between confirmed points."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from core.errors import InputError
from core.estimates import Difference, Estimates
from core.stats import normal_quantile
from core.study import Contrast, Objective
from trainables.study.outcome import Confirmed, ContrastAnswer
from trainables.study.plan import Plan
from trainables.study.trial import Trial


def answers(
    plan: Plan, trials: Sequence[Trial], points: Sequence[Confirmed], estimates: Estimates[int], not_confirmed: Mapping[int, str]
) -> tuple[tuple[ContrastAnswer, ...], dict[str, str]]:
    """Answer the contrasts of a plan.

    Args:
        plan: the plan.
        trials: ended trials of the study.
        points: confirmed points.
        estimates: their means.
        not_confirmed: reasons why other trials are not confirmed, by number.

    Returns:
        The answers, and the reasons why the other contrasts have none, by question.
    """
    answered, unanswered = [], {}
    usable = {point.number: point for point in points if not point.flags}
    flagged = {point.number: f"a flag excludes it: {', '.join(point.flags)}" for point in points if point.flags}
    reasons = {**not_confirmed, **flagged}
    for contrast in plan.contrasts:
        try:
            control = _baseline(contrast.control, trials, usable, reasons)
            if isinstance(contrast.treatment, str):
                treatment = _baseline(contrast.treatment, trials, usable, reasons)
            else:
                treatment = _matched(contrast, trials, usable, control, estimates)
        except InputError as reason:
            unanswered[contrast.question] = str(reason)
        else:
            answered.append(answer(contrast, plan.objectives, estimates, treatment, control))
    return tuple(answered), unanswered


def _baseline(name: str, trials: Sequence[Trial], usable: Mapping[int, Confirmed], reasons: Mapping[int, str]) -> int:
    """The number of a baseline's trial.

    Raises:
        InputError: it cannot be compared; the message is the reason.
    """
    number = next((trial.number for trial in trials if trial.baseline == name), None)
    if number is None:
        raise InputError(f"the baseline {name!r} was not run")
    if number not in usable:
        raise InputError(f"the baseline {name!r} (trial {number}) cannot be compared: {reasons.get(number, 'it is not confirmed')}")
    return number


def _matched(
    contrast: Contrast, trials: Sequence[Trial], usable: Mapping[int, Confirmed], control: int, estimates: Estimates[int]
) -> int:
    """The number of the point with the treatment's settings that is nearest to the control in the matched metric.

    Raises:
        InputError: no point has these settings.
    """
    assert isinstance(contrast.treatment, Mapping)
    settings = contrast.treatment.items()
    having = [t.number for t in trials if t.number in usable and t.number != control and settings <= t.params.items()]
    if not having:
        raise InputError(f"no confirmed point has {', '.join(f'{name}={value}' for name, value in settings)}")
    target = estimates.mean(control, contrast.matched)
    return min(having, key=lambda number: (abs(estimates.mean(number, contrast.matched) - target), number))


def answer(
    contrast: Contrast, objectives: Sequence[Objective], estimates: Estimates[int], treatment: int, control: int
) -> ContrastAnswer:
    """Answer a contrast between two confirmed points."""
    directions = {o.metric: 1 if o.direction == "max" else -1 for o in objectives}
    differences = {name: estimates.difference(treatment, control, name) for name in directions}
    own = differences[contrast.objective]
    given: Literal["yes", "no", "undecided"] = "undecided"
    if side(own, directions[contrast.objective]) > 0:
        given = "yes"
    elif side(own, directions[contrast.objective]) < 0 or max(map(abs, own.interval)) <= contrast.margin:
        given = "no"
    if contrast.matched:
        beyond = side(differences[contrast.matched], directions[contrast.matched], contrast.margin)
        if (given == "yes" and beyond < 0) or (given == "no" and beyond > 0):
            given = "undecided"
    needed = _replicates_needed(contrast, estimates, treatment, control, own)
    return ContrastAnswer(contrast, treatment, control, given, differences, needed)


def is_mismatched(answer: ContrastAnswer) -> bool:
    """Whether a contrast is undecided only because its points differ in the metric in which they are to be equal."""
    difference = answer.differences[answer.contrast.objective]
    is_clear = side(difference, 1) != 0 or max(map(abs, difference.interval)) <= answer.contrast.margin
    return answer.answer == "undecided" and is_clear


def side(difference: Difference, direction: int, margin: float = 0.0) -> int:
    """1 if a difference is decidedly better than `margin`, -1 if it is decidedly worse, otherwise 0."""
    low, high = sorted(direction * end for end in difference.interval)
    return 1 if low > margin else -1 if high < -margin else 0


def _replicates_needed(
    contrast: Contrast, estimates: Estimates[int], treatment: int, control: int, difference: Difference
) -> float:
    """Number of replicates of both points at which the interval of a difference of this size excludes 0, or is within the margin.

    More replicates reduce the error due to seeds and members, and not the error due to the judged images.
    """
    pair, j = [estimates.points.index(number) for number in (treatment, control)], estimates.metrics.index(contrast.objective)
    counts, scales = np.array([len(estimates.replicates[i]) for i in pair]), estimates.scale[pair, j] ** 2
    one = float((estimates.errors[j].own[pair] * scales).sum())  # error of the difference of one replicate each
    if math.isnan(one):
        return math.inf
    images = float(((estimates.influence[pair[0], j] - estimates.influence[pair[1], j]) ** 2).sum())
    images -= float((estimates.known[pair, j] * scales / counts).sum())  # the part that more replicates reduce, too
    distance = max(abs(difference.value), contrast.margin - abs(difference.value))
    allowed = (distance / normal_quantile(0.95)) ** 2 - max(0.0, images)
    return max(1, math.ceil(one / allowed)) if allowed > 0 else math.inf
