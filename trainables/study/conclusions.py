"""Conclusions from the confirmed points of a study, in the words of report and terminal. Nothing is escaped for HTML."""

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist

from core.errors import InputError
from core.estimates import Difference
from core.front_estimates import STAYS
from core.study import Objective
from trainables.study.choosing import Chosen, Preference, choose_point
from trainables.study.contrasts import side
from trainables.study.outcome import Confirmation, Confirmed, ContrastAnswer, Outcome, Verdict
from trainables.study.text import describe_change, difference_text, duration, label, listed, numbers
from trainables.study.trial_names import described

UNDEFENDED = "undefended"
"""Name of the baseline without a defence."""
MAX_REPLICATES = 50
"""Largest number of replicates per point that is suggested."""


def without_excluded(outcome: Outcome) -> Confirmation | None:
    """The confirmation, in which a point whose trial a flag excludes from the sweep's front is on no front."""
    if outcome.confirmation is None:
        return None
    kept = {trial.number for trial in outcome.completed if not trial.excluded}
    points = (replace(point, on_front=point.on_front and point.number in kept) for point in outcome.confirmation.points)
    return replace(outcome.confirmation, points=tuple(points))


def choice(outcome: Outcome) -> Chosen | str:
    """The point to ship for the study's constraints, the balanced one of those that meet them; or why there is none."""
    confirmation = without_excluded(outcome)
    if confirmation is None:
        return "no point is confirmed"
    try:
        return choose_point(confirmation, outcome.objectives, outcome.require, Preference())
    except InputError as reason:
        return str(reason)


def called(number: int, outcome: Outcome) -> str:
    """A trial with its number and what it is, in a few words."""
    trial = next(t for t in outcome.trials if t.number == number)
    return f"trial {number} ({described(trial, outcome).partition(' ')[2]})"


def pick_command(chosen: Chosen, outcome: Outcome) -> str:
    """The command that registers the chosen point's network."""
    return shlex.join(["python", "studies/pick.py", outcome.name, *chosen.words])


def undefended(outcome: Outcome) -> int | None:
    """Number of the confirmed baseline without a defence: the one of that name, or else the first; None if there is none."""
    confirmed = {point.number for point in outcome.confirmed}
    baselines = [t for t in outcome.trials if t.baseline and t.number in confirmed]
    baselines.sort(key=lambda t: (t.baseline != UNDEFENDED, t.number))
    return baselines[0].number if baselines else None


def side_word(difference: Difference, objective: Objective) -> str:
    """`better`, `worse`, or `undecided` if the interval contains 0."""
    return {1: "better", -1: "worse", 0: Verdict.UNDECIDED.value}[side(difference, 1 if objective.direction == "max" else -1)]


def contrast_numbers(answer: ContrastAnswer, outcome: Outcome) -> list[tuple[str, str]]:
    """The name and the paired difference of each objective, that of the contrast's own objective first."""
    ordered = sorted(outcome.objectives, key=lambda o: o.metric != answer.contrast.objective)
    return [(label(o), difference_text(answer.differences[o.metric])) for o in ordered]


def contrast_points(answer: ContrastAnswer, outcome: Outcome) -> str:
    """The two points of a contrast."""
    return f"{called(answer.treatment, outcome)} minus {called(answer.control, outcome)}"


def contrast_line(answer: ContrastAnswer, outcome: Outcome) -> str:
    """The answer to a contrast in one line."""
    own = next(o for o in outcome.objectives if o.metric == answer.contrast.objective)
    trials = f"trial {answer.treatment} minus trial {answer.control}"
    return f"{answer.contrast.question} {answer.answer}: {own.metric} {difference_text(answer.differences[own.metric])}, {trials}"


def probability_text(probability: float) -> str:
    """A probability with three decimals, which is not rounded to 0 or 1."""
    return "unknown" if math.isnan(probability) else f"{min(0.999, max(0.001, probability)):.3f}"


def certainty(chosen: Chosen, outcome: Outcome) -> str:
    """The probability that the chosen point is the best one, with its runners-up."""
    if not chosen.runners_up:
        return f"It is the best choice with probability {probability_text(chosen.probability)}; there are no runners-up."
    runners_up = [f"{called(r.point.number, outcome)}, {probability_text(r.probability)}" for r in chosen.runners_up]
    return (
        f"It is the best choice with probability {probability_text(chosen.probability)}. Runners-up, which cannot be distinguished "
        f"from it: {'; '.join(runners_up)}."
    )


def cost(chosen: Chosen, baseline: int, outcome: Outcome) -> str:
    """The price of the chosen point compared with a baseline, from paired differences."""
    assert outcome.confirmation is not None
    estimates, trials = outcome.confirmation.estimates, {t.number: t for t in outcome.trials}
    differences = [(o, estimates.difference(chosen.point.number, baseline, o.metric)) for o in outcome.objectives]
    decided = [describe_change(o, d.value) for o, d in differences if side_word(d, o) != Verdict.UNDECIDED]
    unclear = [label(o) for o, d in differences if side_word(d, o) == Verdict.UNDECIDED]
    name = trials[baseline].baseline
    control = f"no defence (trial {baseline})" if name == UNDEFENDED else f"the baseline {name} (trial {baseline})"
    parts = [f"it {listed(decided)}"] * bool(decided)
    parts += [f"whether it changes {' or '.join(unclear)} is undecided"] * bool(unclear)
    return f"Compared with {control}, {'; '.join(parts)}."


def attacker(point: Confirmed) -> str:
    """Describe in one sentence how a point's membership-inference AUC serves an attacker."""
    auc = point.means["mia_auc"]
    if not point.resolved:
        return (
            f"An attacker: the membership-inference AUC of {auc:.3f} does not exceed the chance level of {point.chance:.3f} (not "
            "resolved), so the audits find no leak that this many images can show."
        )
    gain, is_measured = _advantage(point)
    audit = point.audits[0] if point.audits else "an audit"
    about = "" if is_measured else "about "
    return (
        f"An attacker with {audit} gives a random member a higher score than a random non-member in {auc:.0%} of pairs (AUC "
        f"{auc:.2f}; guessing: 50%); at the best threshold, the share of members that it calls members is {about}{100 * gain:.0f} "
        f"points above that of non-members; {_low_rate(point)}."
    )


def _advantage(point: Confirmed) -> tuple[float, bool]:
    """The largest TPR - FPR, and whether the ROC curve shows it; otherwise it is that of two normal distributions."""
    for audit in point.audits[:1]:
        if curve := point.curves.get(audit):
            return max(tpr - fpr for fpr, tpr in curve), True
    normal = NormalDist()
    return 2 * normal.cdf(normal.inv_cdf(min(0.999999, point.means["mia_auc"])) / math.sqrt(2)) - 1, False


def _low_rate(point: Confirmed) -> str:
    """The true-positive rate at a false-positive rate of 1 %."""
    rates = [point.leaks[audit].tprs[0.01] for audit in point.audits if audit in point.leaks and 0.01 in point.leaks[audit].tprs]
    if not rates:
        return "its true-positive rate at a false-positive rate of 1\N{NO-BREAK SPACE}% is not resolved by this many non-members"
    return f"at a false-positive rate of 1\N{NO-BREAK SPACE}%, it finds {max(rates):.1%} of the members"


@dataclass(frozen=True)
class Undecided:
    """Open verdicts and contrasts, and the price of deciding them."""

    lines: tuple[str, ...]
    """Sentences."""
    command: str = ""
    """The command that decides it; empty if there is none."""


def undecided(outcome: Outcome) -> Undecided:
    """List the open verdicts and contrasts, with the price of deciding them."""
    confirmation = outcome.confirmation
    if confirmation is None:
        return Undecided(())
    points = [point for point in confirmation.points if point.verdict is Verdict.UNDECIDED]
    answers = [answer for answer in confirmation.contrasts if answer.answer == "undecided"]
    if not points and not answers:
        return Undecided(("Every verdict and every contrast is decided.",))
    needed = {point.number: _replicates_to_decide(point) for point in points}
    for answer in answers:
        for number in (answer.treatment, answer.control):
            needed[number] = max(needed.get(number, 0.0), answer.replicates_needed)
    parts = [f"{len(points)} of {len(confirmation.points)} verdicts on points"] * bool(points)
    parts += [f"{len(answers)} of {len(confirmation.contrasts)} contrasts"] * bool(answers)
    return _priced(f"Undecided: {' and '.join(parts)}.", outcome, confirmation, needed)


def _replicates_to_decide(point: Confirmed) -> float:
    """Number of replicates at which the point's probability would pass a threshold, if its distance from the others stays."""
    normal = NormalDist()
    distance = abs(normal.inv_cdf(min(0.999, max(0.001, point.probability))))
    return math.ceil(point.replicates * (normal.inv_cdf(STAYS) / distance) ** 2) if distance > 1e-3 else math.inf


def _priced(line: str, outcome: Outcome, confirmation: Confirmation, needed: Mapping[int, float]) -> Undecided:
    """The number of further replicates and their time, for the points that `MAX_REPLICATES` can decide."""
    present = {point.number: point.replicates for point in confirmation.points}
    extra = {n: max(1, int(r) - present[n]) for n, r in needed.items() if r <= MAX_REPLICATES}
    beyond = set(needed) - set(extra)
    lines, command = [line], ""
    if extra:
        total, seconds = sum(extra.values()), confirmation.seconds_per_replicate
        average = math.ceil((sum(present.values()) + total) / len(present))
        command = shlex.join([*command_words(outcome), "--replicates", str(average)])
        lines.append(
            f"To decide {'the others' if beyond else 'them'}, roughly {total} more replicates of "
            f"{duration(seconds)} are needed ({duration(total * seconds)} of computing; cached trainings are reused):"
        )
    if beyond:
        lines.insert(1, (
            f"Too close to call, with over {MAX_REPLICATES} replicates each or more judged images needed: "
            f"{'trial' if len(beyond) == 1 else 'trials'} {numbers(beyond)}."
        ))  # fmt: skip
    return Undecided(tuple(lines), command)


def command_words(outcome: Outcome) -> list[str]:
    """The words of the command that started the study, without those about the size of the confirmation step."""
    words = shlex.split(outcome.facts.get("command", f"python studies/{outcome.study}.py"))
    kept = [word for word in words if word != "--no-confirm"]
    for i in [i for i, word in enumerate(kept) if word == "--replicates"]:
        del kept[i : i + 2]
    return kept


def how_to_confirm(outcome: Outcome) -> tuple[str, str]:
    """The reason why nothing is confirmed, and the command to type."""
    resume = f"python studies/{outcome.study}.py --resume {outcome.name}"
    if not outcome.completed:
        return "No trial is completed yet.", resume
    if not outcome.front():
        return "The front is empty; change the constraints or the search space, and run", shlex.join(command_words(outcome))
    if "--no-confirm" in outcome.facts.get("command", ""):
        reason = "The confirmation step was skipped with --no-confirm. This runs it, and reuses the cached trainings"
        return reason, shlex.join(command_words(outcome))
    return "The confirmation step has not succeeded yet.", resume
