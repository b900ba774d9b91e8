"""The outcome of a study in sentences, as HTML."""

from collections.abc import Iterable, Iterator, Sequence

from markupsafe import Markup

from core import pareto
from core.study import Objective
from trainables.study.outcome import FrontRevision, Outcome
from trainables.study.text import flagged, flags_on_all, knee, label, listed, named, signed
from trainables.study.trial import Trial


def summary(outcome: Outcome) -> Iterator[Markup]:
    """The outcome in sentences, the most important first."""
    front, completed = outcome.front(), outcome.completed
    yield Markup(
        "<b>{} of {} planned trials are completed, {} failed{}.</b> {} on the front, "
        "which dominates {:.3f} of the box between the ideal and the reference (hypervolume)."
    ).format(
        len(completed), outcome.planned, len(outcome.failed), _early_stopped(outcome), _count(len(front)), outcome.hypervolume()
    )
    if outcome.require:
        violating = sum(any(pareto.violations(t.metrics, outcome.require)) for t in completed)
        wanted = " and ".join(map(str, outcome.require))
        text = Markup("Every point of the front must meet <b>{}</b>; {} of the {} trials do not.")
        yield text.format(wanted, violating, len(completed))
    for objective in outcome.objectives if front else ():
        best = min(front, key=lambda t: objective.loss(t.metrics[objective.metric]))
        yield Markup("Best {}: {}, {}.").format(label(objective), _numbers(best, [objective]), named(best))
    yield from _knee_sentences(outcome)
    if baselines := [t for t in completed if t.baseline]:
        on, off = ([t.baseline for t in baselines if (t in front) == kept] for kept in (True, False))
        yield Markup("Baselines on the front: {}; not on it: {}.").format(listed(on) or "none", listed(off) or "none")
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
    """The knee, and its differences from the first baseline that no flag excludes."""
    balanced = knee(outcome)
    if not balanced:
        return
    yield Markup("The knee, a balanced compromise, is <b>{}</b>: {}.").format(
        named(balanced), _numbers(balanced, outcome.objectives, names=True)
    )
    if baselines := [t for t in outcome.completed if t.baseline and t != balanced and not t.excluded]:
        difference = _difference(baselines[0], balanced, outcome.objectives)
        yield Markup("Compared with the baseline {} it {}.").format(baselines[0].baseline, difference)


def _flag_sentences(outcome: Outcome) -> Iterator[Markup]:
    """Flags on the front, flags that every trial raises, and trials that a flag excludes."""
    common = flags_on_all(outcome)
    if trials := flagged(outcome):
        parts = [f"{named(t)}: {', '.join(f for f in t.flags if f not in common)}" for t in trials]
        yield Markup("On the front but flagged, to be read with care: {}.").format("; ".join(parts))
    if common:
        yield Markup("Flagged on every trial: {}; see the table of flags.").format(", ".join(common))
    if excluded := outcome.excluded():
        parts = [f"{named(t)}: {', '.join(t.flags)}" for t in excluded]
        yield Markup("Excluded from the front by their flags: {}.").format("; ".join(parts))


def describe_change(objective: Objective, change: float) -> str:
    """Describe a change of an objective as a gain or a cost, such as `costs 0.031 accuracy`."""
    better = (change > 0) == (objective.direction == "max")
    name, size = label(objective), f"{abs(change):.3f}"
    if objective.direction == "max":
        return f"{'gains' if better else 'costs'} {size} {name}"
    return f"{'lowers' if better else 'raises'} the {name} by {size}"


def _difference(before: Trial, after: Trial, objectives: Sequence[Objective]) -> str:
    """The differences between two trials by objective."""
    changes = [(o, after.metrics[o.metric] - before.metrics[o.metric]) for o in objectives if o.metric in before.metrics]
    parts = [describe_change(o, change) for o, change in changes if round(change, 3)]
    same = [f"does not change the {label(o)}" for o, change in changes if not round(change, 3)]
    return listed(parts + same)


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


def _numbers(trial: Trial, objectives: Sequence[Objective], names: bool = False) -> str:
    """Values of a trial by objective, with the objectives' names if `names`."""
    return ", ".join(f"{trial.metrics[o.metric]:.3f}" + (f" {label(o)}" if names else "") for o in objectives)


def _confirmation_sentences(outcome: Outcome) -> Iterator[Markup]:
    """The effect of the confirmation step on the front."""
    if not outcome.confirmed:
        yield Markup("Nothing is confirmed: all numbers are those of the sweep, on <code>val</code>.")
        return
    trials = {t.number: t for t in outcome.trials}
    left = [named(trials[c.number]) for c in outcome.confirmed if not c.on_front]
    yield Markup(
        "Confirmation trained {} front trials again and evaluated them on <code>test</code>: {} stayed on the front, {} left it{}."
    ).format(
        len(outcome.confirmed), len(outcome.confirmed) - len(left), len(left), f": {', '.join(left)}" if left else ""
    )  # fmt: skip
    shifts = []
    for o in outcome.objectives:
        changes = [c.means[o.metric] - trials[c.number].metrics[o.metric] for c in outcome.confirmed]
        shifts.append(f"{label(o)} by {signed(sum(changes) / len(changes))}")
    yield Markup("From the sweep to confirmation the means changed: {}.").format(", ".join(shifts))
