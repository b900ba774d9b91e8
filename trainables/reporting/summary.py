"""The outcome of a study in sentences, as HTML."""

from collections.abc import Iterable, Iterator

from markupsafe import Markup

from core import pareto
from core.flags import FLAGS
from trainables.study.outcome import FrontRevision, Outcome, Verdict
from trainables.study.text import flagged, flags_on_all, knee, label, listed, named, signed


def summary(outcome: Outcome) -> Iterator[Markup]:
    """The outcome in sentences, the most important first."""
    front, completed = outcome.front(), outcome.completed
    yield Markup("<b>{} of {} planned trials are completed, {} failed{}.</b> {} on the front of the sweep.").format(
        len(completed), outcome.planned, len(outcome.failed), _early_stopped(outcome), _count(len(front))
    )
    if outcome.require:
        violating = sum(any(pareto.violations(t.metrics, outcome.require)) for t in completed)
        wanted = " and ".join(map(str, outcome.require))
        text = Markup("Every point of the front must meet <b>{}</b>; {} of the {} trials do not.")
        yield text.format(wanted, violating, len(completed))
    yield from _knee_sentences(outcome)
    if baselines := [t for t in completed if t.baseline]:
        on, off = ([t.baseline for t in baselines if (t in front) == kept] for kept in (True, False))
        yield Markup("Baselines on the front of the sweep: {}; not on it: {}.").format(listed(on) or "none", listed(off) or "none")
    yield from _confirmation_sentences(outcome)
    for revision in outcome.revisions:
        yield _revision_sentence(revision, outcome)
    yield from _flag_sentences(outcome)


def _count(trials: int) -> str:
    return f"{trials} {'is' if trials == 1 else 'are'}"


def _early_stopped(outcome: Outcome) -> str:
    count = len(outcome.early_stopped)
    return f", {count} {'was' if count == 1 else 'were'} stopped early as dominated" if count else ""


def _knee_sentences(outcome: Outcome) -> Iterator[Markup]:
    """The knee of the sweep if nothing is confirmed, when there is no better point to start from."""
    balanced = knee(outcome)
    if balanced and not outcome.confirmed:
        numbers = ", ".join(f"{balanced.metrics[o.metric]:.3f} {label(o)}" for o in outcome.objectives)
        yield Markup("The knee of the sweep is <b>{}</b>: {}. It is not confirmed.").format(named(balanced), numbers)


def _flag_sentences(outcome: Outcome) -> Iterator[Markup]:
    """Flags on the front, flags that every trial raises, and trials that a flag excludes."""
    common = flags_on_all(outcome)
    if trials := flagged(outcome):
        parts = [f"{named(t)}: {', '.join(f for f in t.flags if f not in common)}" for t in trials]
        yield Markup("On the front but flagged, to be read with care: {}.").format("; ".join(parts))
    if common:
        yield Markup("Flagged on every trial: {}; see the table of flags.").format(", ".join(common))
    if excluded := outcome.excluded():
        parts = [f"{named(t)}: {', '.join(f for f in t.flags if f in FLAGS and FLAGS[f].excludes)}" for t in excluded]
        yield Markup("Excluded from the front by their flags: {}.").format("; ".join(parts))


def _revision_sentence(revision: FrontRevision, outcome: Outcome) -> Markup:
    """The effect of a re-evaluation on the front."""
    trials = {t.number: t for t in outcome.trials}

    def names(numbers: Iterable[int]) -> str:
        return ", ".join(named(trials[n]) for n in numbers) or "none"

    shifts = [
        f"{label(o)} changed by {signed(shift.mean)} on average, at most by {signed(shift.largest)} ({names([shift.trial])})"
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
        f"{len(names)} {verdict}{f' ({listed(names)})' if names and verdict is not Verdict.UNDECIDED else ''}"
        for verdict, names in groups.items()
    ]  # fmt: skip
    replicates = sum(c.replicates for c in outcome.confirmed)
    yield Markup("Confirmation trained {} points again, {} replicates in all, and evaluated them on <code>test</code>: {}.").format(
        len(outcome.confirmed), replicates, "; ".join(parts)
    )
