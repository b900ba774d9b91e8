"""The outcome of a study in sentences, as HTML."""

from collections.abc import Iterable, Iterator

from markupsafe import Markup

from core import pareto
from core.flags import FLAGS
from trainables.study.conclusions import called, choice, front_caveat, why_chosen
from trainables.study.outcome import FrontRevision, Outcome, Verdict
from trainables.study.text import (
    capital,
    counted,
    counted_verdicts,
    decimal,
    directed,
    flagged,
    flags_on_all,
    knee,
    label,
    listed,
    named,
    plural,
)


def summary(outcome: Outcome) -> Iterator[Markup]:
    """The outcome in sentences, the most important first."""
    front, completed = outcome.front(), outcome.completed
    yield Markup("<b>{} of {} {} completed, {} failed{}.</b> {} on the front of the sweep.").format(
        len(completed), counted(outcome.planned, "planned trial"), plural(len(completed), "is", "are"), len(outcome.failed),
        _early_stopped(outcome), counted(len(front), "is", "are"),
    )  # fmt: skip
    if outcome.require:
        violating = sum(any(pareto.violations(t.metrics, outcome.require)) for t in completed)
        wanted = " and ".join(map(str, outcome.require))
        text = Markup("Every point of the front must meet <b>{}</b>; {} of the {} {} not.")
        yield text.format(wanted, violating, counted(len(completed), "trial"), plural(violating, "does", "do"))
    yield from _knee_sentences(outcome)
    if baselines := [t for t in completed if t.baseline]:
        on, off = ([t.baseline for t in baselines if (t in front) == kept] for kept in (True, False))
        yield Markup("Baselines on the front of the sweep: {}; not on it: {}.").format(listed(on) or "none", listed(off) or "none")
    yield from _confirmation_sentences(outcome)
    for revision in outcome.revisions:
        yield _revision_sentence(revision, outcome)
    yield from _flag_sentences(outcome)


def _early_stopped(outcome: Outcome) -> str:
    count = len(outcome.early_stopped)
    return f", {counted(count, 'was', 'were')} stopped early as dominated" if count else ""


def _knee_sentences(outcome: Outcome) -> Iterator[Markup]:
    """The knee of the sweep if nothing is confirmed, when there is no better point to start from."""
    balanced = knee(outcome)
    if balanced and not outcome.confirmed:
        numbers = ", ".join(f"{decimal(balanced.metrics[o.metric])} {label(o)}" for o in outcome.objectives)
        yield Markup("The knee of the sweep is <b>{}</b>: {}. It is not confirmed.").format(named(balanced), numbers)


def _flag_sentences(outcome: Outcome) -> Iterator[Markup]:
    """Flags on the front, flags that every trial raises, and trials that a flag excludes."""
    common = flags_on_all(outcome)
    if trials := flagged(outcome):
        parts = [f"{named(t)}: {', '.join(f for f in t.flags if f not in common)}" for t in trials]
        yield Markup("On the front of the sweep but flagged there, to be read with care: {}.").format("; ".join(parts))
    if common:
        yield Markup("Flagged in the sweep on every trial: {}; see the table of flags.").format(", ".join(common))
    if excluded := outcome.excluded():
        parts = [f"{named(t)}: {', '.join(f for f in t.flags if f in FLAGS and FLAGS[f].excludes)}" for t in excluded]
        yield Markup("Excluded from the front of the sweep by their flags: {}.").format("; ".join(parts))


def _revision_sentence(revision: FrontRevision, outcome: Outcome) -> Markup:
    """The effect of a re-evaluation on the front."""
    trials = {t.number: t for t in outcome.trials}

    def names(numbers: Iterable[int]) -> str:
        return ", ".join(named(trials[n]) for n in numbers) or "none"

    shifts = [
        f"{label(o)} {directed(shift.mean)} on average, largest change {directed(shift.largest)} ({names([shift.trial])})"
        for o in outcome.objectives
        if (shift := revision.shifts.get(o.metric))
    ]
    return Markup("<b>Version {} of the front</b>, from the stored networks {}: {}. Left the front: {}; entered it: {}.").format(
        revision.version, revision.how, "; ".join(shifts) or "no objective changed", names(revision.left), names(revision.entered)
    )


def _confirmation_sentences(outcome: Outcome) -> Iterator[Markup]:
    """The verdicts of the confirmation step."""
    if not outcome.confirmed:
        yield Markup("Nothing is confirmed: all numbers are those of the sweep, on <code>val</code>.")
        return
    trials = {t.number: t for t in outcome.trials}
    groups = {verdict: [named(trials[c.number]) for c in outcome.confirmed if c.verdict is verdict] for verdict in Verdict}
    parts = [
        f"{counted_verdicts(verdict, len(names))}{f' ({listed(names)})' if names and verdict is not Verdict.UNDECIDED else ''}"
        for verdict, names in groups.items()
    ]  # fmt: skip
    replicates = sum(c.replicates for c in outcome.confirmed)
    yield Markup("Confirmation trained {} again, {} in all, and evaluated them on <code>test</code>: {}.").format(
        counted(len(outcome.confirmed), "point"), counted(replicates, "replicate"), "; ".join(parts)
    )
    if not isinstance(chosen := choice(outcome), str):
        caveat = f" {capital(text)}." if (text := front_caveat(chosen.point)) else ""
        sentence = Markup("The point to ship is <b>{}</b>, {}.{}")
        yield sentence.format(called(chosen.point.number, outcome), why_chosen(chosen, outcome), caveat)
