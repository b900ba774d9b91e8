"""Conclusions from the confirmed points of a study, in the words of report and terminal. Nothing is escaped for HTML."""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

from core.errors import InputError
from core.estimates import Difference
from core.front_estimates import STAYS
from core.study import Objective
from trainables.study.choosing import Chosen, Preference, choose_point
from trainables.study.contrasts import is_mismatched, side
from trainables.study.outcome import Confirmation, Confirmed, ContrastAnswer, Outcome, Verdict
from trainables.study.text import (
    comparison_text,
    counted,
    decimal,
    describe_change,
    difference_text,
    duration,
    label,
    listed,
    plural,
)
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


def why_chosen(chosen: Chosen, outcome: Outcome) -> str:
    """The criterion by which the point to ship is chosen, and among which points."""
    if outcome.require:
        wanted = " and ".join(map(str, outcome.require))
        count = f"{chosen.feasible} of {chosen.among}"
        return f"the balanced one (--balanced) of the points on the confirmed front with {wanted} ({count})"
    points = f"the {chosen.among} points" if chosen.among > 1 else "the only point"
    return f"the balanced compromise (--balanced) of {points} on the confirmed front, as no requirement was given"


def front_caveat(point: Confirmed) -> str:
    """The reservation about a point of which it is not decided that it stays on the front; empty if it stays."""
    if point.verdict is Verdict.STAYS:
        return ""
    probability = f"its probability of being on the front is {probability_text(point.probability)}"
    return f"the verdict on its place on the front is {point.verdict}: {probability}"


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
    """The name and the paired difference of each objective, that of the contrast's own first, without one that is matched."""
    others = [o for o in outcome.objectives if o.metric != answer.contrast.matched]
    ordered = sorted(others, key=lambda o: o.metric != answer.contrast.objective)
    return [(label(o), difference_text(answer.differences[o.metric])) for o in ordered]


def contrast_points(answer: ContrastAnswer, outcome: Outcome) -> str:
    """The two points of a contrast."""
    return f"{called(answer.treatment, outcome)} compared with {called(answer.control, outcome)}"


def matched_text(answer: ContrastAnswer, outcome: Outcome) -> str:
    """The values of both points in the metric in which a contrast matches them; empty if it matches none."""
    name, treatment, confirmation = answer.contrast.matched, answer.contrast.treatment, outcome.confirmation
    if isinstance(treatment, str) or confirmation is None:
        return ""
    own, other = (decimal(confirmation.estimates.mean(number, name)) for number in (answer.treatment, answer.control))
    settings = listed([f"{knob}={value}" for knob, value in treatment.items()])
    metric = label(next(o for o in outcome.objectives if o.metric == name))
    return (
        f"of the points with {settings}, trial {answer.treatment} is nearest to trial {answer.control} in {metric}: "
        f"{own} against {other}, {difference_text(answer.differences[name])}"
        f"{', which is too far for an answer' if is_mismatched(answer) else ''}"
    )


def contrast_line(answer: ContrastAnswer, outcome: Outcome) -> str:
    """The answer to a contrast in one line."""
    name, (one, other) = answer.contrast.objective, (f"trial {number}" for number in (answer.treatment, answer.control))
    found = comparison_text(name, one, other, answer.differences[name])
    return "; ".join(filter(None, (f"{answer.contrast.question} {answer.answer}: {found}", matched_text(answer, outcome))))


def probability_text(probability: float) -> str:
    """A probability with three decimals, which is not rounded to 0 or 1."""
    return "unknown" if math.isnan(probability) else f"{min(0.999, max(0.001, probability)):.3f}"


def certainty(chosen: Chosen, outcome: Outcome) -> str:
    """The probability that the chosen point is the best one, with its runners-up."""
    probability = f"Its probability of being the best choice is {probability_text(chosen.probability)}"
    if not chosen.runners_up:
        return f"{probability}; there are no runners-up."
    runners_up = [f"{called(r.point.number, outcome)}, {probability_text(r.probability)}" for r in chosen.runners_up]
    return f"{probability}. Runners-up, which cannot be distinguished from it, with theirs: {'; '.join(runners_up)}."


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
        f"An attacker with {audit} gives a random member a higher score than a random non-member in {_percent(auc)} of pairs "
        f"(AUC {auc:.2f}; guessing: {_percent(0.5)}); at the best threshold, the share of members that it calls members is "
        f"{about}{100 * gain:.0f} points above that of non-members; {_low_rate(point)}."
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
        return f"its true-positive rate at a false-positive rate of {_percent(0.01)} is not resolved by this many non-members"
    return f"at a false-positive rate of {_percent(0.01)}, it finds {_percent(max(rates), 1)} of the members"


def _percent(share: float, decimals: int = 0) -> str:
    return f"{100 * share:.{decimals}f}\N{NO-BREAK SPACE}%"


@dataclass(frozen=True)
class Undecided:
    """Open verdicts and contrasts, and the price of deciding them."""

    lines: tuple[str, ...]
    """Sentences."""
    command: str = ""
    """The command that decides it; empty if there is none."""


@dataclass(frozen=True)
class _Open:
    """Open verdicts and contrasts with the number of replicates that each of their points needs in all."""

    verdicts: Mapping[int, float]
    """Replicates that decide the verdict on a point, by number of the trial."""
    contrasts: Sequence[ContrastAnswer]

    def where(self, affordable: bool) -> "_Open":
        """Those that at most `MAX_REPLICATES` of each point decide, or the other ones, without contrasts that none decide."""
        verdicts = {number: needed for number, needed in self.verdicts.items() if (needed <= MAX_REPLICATES) is affordable}
        matched = [answer for answer in self.contrasts if not is_mismatched(answer)]
        return _Open(verdicts, [answer for answer in matched if (answer.replicates_needed <= MAX_REPLICATES) is affordable])

    def __str__(self) -> str:
        pairs = [f"in {a.contrast.objective} between trials {a.treatment} and {a.control}" for a in self.contrasts]
        trials = listed([str(number) for number in sorted(self.verdicts)])
        parts = [f"the {plural(len(self.verdicts), 'verdict')} on {plural(len(self.verdicts), 'trial')} {trials}"] * bool(trials)
        parts += [f"the {plural(len(pairs), 'contrast')} {listed(pairs)}"] * bool(pairs)
        return ", and ".join(parts)

    @property
    def needed(self) -> dict[int, float]:
        """Replicates by number of the trial."""
        needed = dict(self.verdicts)
        for answer in self.contrasts:
            for number in (answer.treatment, answer.control):
                needed[number] = max(needed.get(number, 0.0), answer.replicates_needed)
        return needed


def undecided(outcome: Outcome) -> Undecided:
    """List the open verdicts and contrasts, with the price of deciding them."""
    confirmation = outcome.confirmation
    if confirmation is None:
        return Undecided(())
    points = [point for point in confirmation.points if point.verdict is Verdict.UNDECIDED]
    answers = [answer for answer in confirmation.contrasts if answer.answer == "undecided"]
    if not points and not answers:
        return Undecided(("Every verdict and every contrast is decided.",))
    parts = [f"{len(points)} of {counted(len(confirmation.points), 'verdict')} on points"] * bool(points)
    parts += [f"{len(answers)} of {counted(len(confirmation.contrasts), 'contrast')}"] * bool(answers)
    left = _Open({p.number: _replicates_to_decide(p) for p in points}, answers)
    return _priced(f"Undecided: {' and '.join(parts)}.", outcome, confirmation, left)


def _replicates_to_decide(point: Confirmed) -> float:
    """Number of replicates at which the point's probability would pass a threshold, if its distance from the others stays."""
    normal = NormalDist()
    distance = abs(normal.inv_cdf(min(0.999, max(0.001, point.probability))))
    return math.ceil(point.replicates * (normal.inv_cdf(STAYS) / distance) ** 2) if distance > 1e-3 else math.inf


def _priced(line: str, outcome: Outcome, confirmation: Confirmation, left: _Open) -> Undecided:
    """The number of further replicates and their time, for everything that `MAX_REPLICATES` per point can decide."""
    present = {point.number: point.replicates for point in confirmation.points}
    affordable, beyond = left.where(affordable=True), left.where(affordable=False)
    lines, command = [line], ""
    if mismatched := [answer for answer in left.contrasts if is_mismatched(answer)]:
        their = f"{plural(len(mismatched), 'its', 'their')} points"
        lines.append(f"No replicates decide {_Open({}, mismatched)}, as {their} differ in the metric that is to be the same.")
    if beyond.needed:
        lines.append(
            f"Too close to call, as more than {MAX_REPLICATES} replicates of a point, or more judged images, would be needed: "
            f"{beyond}."
        )
    if extra := {n: max(1, int(r) - present[n]) for n, r in affordable.needed.items()}:
        more, seconds = sum(extra.values()), confirmation.seconds_per_replicate
        total = sum(present.values()) + more
        mean, budget = total / len(present), math.ceil(total / len(present))
        command = shlex.join([*command_words(outcome), "--replicates", str(budget)])
        lines += [
            f"To decide {affordable}, roughly {counted(more, 'more replicate')} of {duration(seconds)} "
            f"{plural(more, 'is', 'are')} needed ({duration(more * seconds)} of computing).",
            f"With the {total - more} so far, these are {total} for {counted(len(present), 'point')}, {mean:.3g} per point on "
            f"average{', rounded up to' if budget > mean else ':'} --replicates {budget}. Stored trainings are not repeated:",
        ]
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
        reason = "The confirmation step was skipped with --no-confirm. This runs it; stored trainings are not repeated"
        return reason, shlex.join(command_words(outcome))
    return "The confirmation step has not succeeded yet.", resume
