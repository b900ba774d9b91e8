"""What the confirmed points of a study allow to be concluded, in the words of report and terminal. Nothing is escaped for HTML."""

import math
import shlex
from statistics import NormalDist

from core.errors import InputError
from core.estimates import Difference
from core.front_estimates import STAYS
from core.study import Objective
from trainables.study.choosing import Chosen, Preference, choose_point
from trainables.study.outcome import Confirmation, Confirmed, ContrastAnswer, Outcome, Verdict
from trainables.study.text import difference_text, duration, label, listed, named, numbers

UNDEFENDED = "undefended"
"""Name of the baseline without a defence."""
MAX_REPLICATES = 50
"""Largest number of replicates per point that is suggested."""


def choice(outcome: Outcome) -> Chosen | str:
    """The point to ship for the study's constraints, the balanced one of those that meet them; or why there is none."""
    if outcome.confirmation is None:
        return "no point is confirmed"
    try:
        return choose_point(outcome.confirmation, outcome.objectives, outcome.require, Preference())
    except InputError as reason:
        return str(reason)


def pick_command(chosen: Chosen, outcome: Outcome) -> str:
    """The command that registers the chosen point's network."""
    return shlex.join(["python", "studies/pick.py", outcome.name, *chosen.words])


def undefended(outcome: Outcome) -> int | None:
    """Number of the confirmed baseline without a defence: the one of that name, or else the first; None if there is none."""
    confirmed = {point.number for point in outcome.confirmed}
    baselines = [t for t in outcome.trials if t.baseline and t.number in confirmed]
    baselines.sort(key=lambda t: (t.baseline != UNDEFENDED, t.number))
    return baselines[0].number if baselines else None


def side(difference: Difference, objective: Objective) -> str:
    """`better`, `worse`, or `undecided` if the interval contains 0."""
    low, high = difference.interval
    if not (low > 0 or high < 0):
        return Verdict.UNDECIDED.value
    return "better" if (low > 0) == (objective.direction == "max") else "worse"


def contrast_numbers(answer: ContrastAnswer, outcome: Outcome) -> str:
    """The paired differences of a contrast, that of its own objective first, and the two points."""
    trials = {t.number: t for t in outcome.trials}
    ordered = sorted(outcome.objectives, key=lambda o: o.metric != answer.contrast.objective)
    differences = ", ".join(f"{label(o)} {difference_text(answer.differences[o.metric])}" for o in ordered)
    return f"{differences}; {named(trials[answer.treatment])} minus {named(trials[answer.control])}"


def contrast_line(answer: ContrastAnswer, outcome: Outcome) -> str:
    """The answer to a contrast in one line."""
    own = next(o for o in outcome.objectives if o.metric == answer.contrast.objective)
    trials = f"trial {answer.treatment} minus trial {answer.control}"
    return f"{answer.contrast.question} {answer.answer}: {own.metric} {difference_text(answer.differences[own.metric])}, {trials}"


def probability_text(probability: float) -> str:
    """A probability with two decimals, of which none is rounded to 0 or 1."""
    return "unknown" if math.isnan(probability) else f"{min(0.99, max(0.01, probability)):.2f}"


def certainty(chosen: Chosen, outcome: Outcome) -> str:
    """How certain it is that the chosen point is the best one, with its runners-up."""
    trials = {t.number: t for t in outcome.trials}
    if not chosen.runners_up:
        return f"No other point can be the better choice (probability {probability_text(chosen.probability)})."
    names = listed([f"{named(trials[r.point.number])} ({probability_text(r.probability)})" for r in chosen.runners_up])
    return (
        f"It is the best choice with probability {probability_text(chosen.probability)}; the runners-up {names} cannot be "
        "distinguished from it."
    )


def attacker(point: Confirmed) -> str:
    """What a point's membership-inference AUC allows an attacker to do, in one sentence."""
    auc = point.means["mia_auc"]
    if not point.resolved:
        return (
            f"An attacker: the membership-inference AUC of {auc:.3f} does not exceed the chance level of {point.chance:.3f} (not "
            "resolved), so the audits find no leak that this many images can show."
        )
    gain, is_measured = _advantage(point)
    audit = point.audits[0] if point.audits else "an audit"
    return (
        f"An attacker with {audit} gives a random member a higher score than a random non-member in {auc:.0%} of pairs (AUC "
        f"{auc:.2f}, guessing 50%); at the best threshold, the share of members that it calls members is {'' if is_measured else 'about '}"
        f"{100 * gain:.0f} points above that of non-members; {_low_rate(point)}."
    )


def _advantage(point: Confirmed) -> tuple[float, bool]:
    """The largest TPR - FPR, and whether it is from the ROC curve; otherwise it is that of two normal distributions of equal width."""
    for audit in point.audits[:1]:
        if curve := point.curves.get(audit):
            return max(tpr - fpr for fpr, tpr in curve), True
    normal = NormalDist()
    return 2 * normal.cdf(normal.inv_cdf(min(0.999999, point.means["mia_auc"])) / math.sqrt(2)) - 1, False


def _low_rate(point: Confirmed) -> str:
    """The true-positive rate at a false-positive rate of 1 %."""
    rates = [point.leaks[audit].tprs[0.01] for audit in point.audits if audit in point.leaks and 0.01 in point.leaks[audit].tprs]
    if not rates:
        return "its true-positive rate at a false-positive rate of 1 % is not resolved by this many non-members"
    return f"at a false-positive rate of 1 %, it finds {max(rates):.1%} of the members"


def undecided_lines(outcome: Outcome) -> list[str]:
    """What is undecided, and what it costs to decide it."""
    confirmation = outcome.confirmation
    if confirmation is None:
        return []
    needed: dict[int, float] = {}
    lines = []
    if points := [point for point in confirmation.points if point.verdict is Verdict.UNDECIDED]:
        needed |= {point.number: _replicates_to_decide(point) for point in points}
        lines.append(f"Undecided whether on the front: trials {numbers({p.number for p in points})}.")
    if answers := [answer for answer in confirmation.contrasts if answer.answer == "undecided"]:
        for answer in answers:
            for number in (answer.treatment, answer.control):
                needed[number] = max(needed.get(number, 0.0), answer.replicates_needed)
        lines.append(f"Undecided contrasts: {len(answers)} of {len(confirmation.contrasts)}.")
    return [*lines, *_costs(outcome, confirmation, needed)] if lines else ["Everything is decided."]


def _replicates_to_decide(point: Confirmed) -> float:
    """Number of replicates at which the point's probability would pass a threshold, if its distance from the others stays."""
    normal = NormalDist()
    distance = abs(normal.inv_cdf(min(0.999, max(0.001, point.probability))))
    return math.ceil(point.replicates * (normal.inv_cdf(STAYS) / distance) ** 2) if distance > 1e-3 else math.inf


def _costs(outcome: Outcome, confirmation: Confirmation, needed: dict[int, float]) -> list[str]:
    """The number of further replicates and their time, for points that this many replicates can decide."""
    present = {point.number: point.replicates for point in confirmation.points}
    extra = {n: max(1, int(r) - present[n]) for n, r in needed.items() if r <= MAX_REPLICATES}
    beyond = sorted(set(needed) - set(extra))
    lines = []
    if extra:
        total = sum(extra.values())
        average = math.ceil((sum(present.values()) + total) / len(present))
        lines.append(
            f"To decide {'the others' if beyond else 'them'}, roughly {total} more replicates of {duration(confirmation.seconds_per_replicate)} "
            f"are needed, {duration(total * confirmation.seconds_per_replicate)} of computing: run the study's command again with "
            f"--replicates {average} (cached trainings are reused)."
        )
    if beyond:
        lines.append(
            f"Trials {numbers(set(beyond))} are too close to call: over {MAX_REPLICATES} replicates each, or more judged images, would "
            "be needed."
        )
    return lines


def how_to_confirm(outcome: Outcome) -> tuple[str, str]:
    """The reason why nothing is confirmed, and the command to type."""
    command = outcome.facts.get("command", f"python studies/{outcome.study}.py")
    if not outcome.completed:
        return "No trial is completed yet.", f"python studies/{outcome.study}.py --resume {outcome.name}"
    if not outcome.front():
        return "The front is empty.", command
    if "--no-confirm" in command:
        words = [word for word in shlex.split(command) if word != "--no-confirm"]
        return "The confirmation step was skipped with --no-confirm. Cached trainings are reused by", shlex.join(words)
    return "The confirmation step has not succeeded yet.", f"python studies/{outcome.study}.py --resume {outcome.name}"
