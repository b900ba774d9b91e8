"""Names and numbers as people read them, and what a study found in sentences. What is HTML says so, and is escaped here."""

from collections.abc import Iterable, Sequence
from html import escape

from core import pareto, space
from core.config import Objective
from core.space import Value
from trainables.outcome import Change, Outcome, Trial

LABELS = {"mia_auc": "membership-inference AUC"}
"""Names for people, where the metric's own name does not read well."""


def label(objective: Objective) -> str:
    """The objective's name for people."""
    return LABELS.get(objective.metric, objective.metric.replace("_", " "))


def knee(outcome: Outcome) -> Trial | None:
    """The balanced compromise of the sweep's front, if there is a front."""
    front = outcome.front()
    return front[pareto.knee(pareto.losses([t.metrics for t in front], outcome.objectives))] if front else None


def show(value: Value) -> str:
    """A value as a table shows it: four digits of a number, words as they are. Not escaped."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def named(trial: Trial) -> str:
    """`trial 3`, with its baseline's name if it has one. Not escaped."""
    return f"trial {trial.number}" + (f" ({trial.baseline})" if trial.baseline else "")


def everywhere(outcome: Outcome) -> list[str]:
    """Flags that are up on every trial: they say something about the study, and set no trial off from the others."""
    done = outcome.done
    return [flag for flag, trials in outcome.flags().items() if len(trials) == len(done) > 1]


def marked(outcome: Outcome) -> list[Trial]:
    """The trials of the front with a flag that others do not have."""
    usual = set(everywhere(outcome))
    return [t for t in outcome.front() if set(t.flags) - usual]


def columns(outcome: Outcome) -> list[str]:
    """What sets trials apart: the searched knobs first, then what baselines change; not the seed, which is always another."""
    searched = space.names(outcome.space)
    found = [c for c in outcome.columns() if c != "seed" and len({t.params[c] for t in outcome.trials if c in t.params}) > 1]
    return sorted(found, key=lambda c: searched.index(c) if c in searched else len(searched))


def capital(text: str) -> str:
    """With a large first letter, and the others as they are."""
    return text[:1].upper() + text[1:]


def answer(outcome: Outcome) -> Iterable[str]:
    """The outcome in sentences, most important first; HTML."""
    front, done, failed = outcome.front(), outcome.done, outcome.failed
    yield (
        f"<b>{len(done)} of {outcome.planned} planned trials are done, {len(failed)} failed{_given_up(outcome)}.</b> "
        f"{len(front)} {'is' if len(front) == 1 else 'are'} on the front, "
        f"which dominates {outcome.hypervolume():.3f} of the box between the ideal and the reference (hypervolume)."
    )
    if outcome.require:
        missing = sum(any(pareto.lacks(t.metrics, outcome.require)) for t in done)
        wanted = escape(" and ".join(map(str, outcome.require)))
        yield f"Required of every point: <b>{wanted}</b>; {missing} of the {len(done)} trials miss it."
    for objective in outcome.objectives if front else ():
        best = min(front, key=lambda t: objective.loss(t.metrics[objective.metric]))
        yield f"Best {escape(label(objective))}: {_numbers(best, [objective])}, {escape(named(best))}."
    if balanced := knee(outcome):
        yield (
            f"The knee, the balanced compromise, is <b>{escape(named(balanced))}</b>: "
            f"{_numbers(balanced, outcome.objectives, names=True)}."
        )
        if baselines := [t for t in done if t.baseline and t != balanced and not t.barred]:
            yield f"Against the baseline {escape(baselines[0].baseline)} it {_traded(baselines[0], balanced, outcome.objectives)}."
    if baselines := [t for t in done if t.baseline]:
        parts = [f"{escape(t.baseline)} {'is' if t in front else 'is not'}" for t in baselines]
        yield f"Baselines on the front: {', '.join(parts)}."
    yield from _confirm_changed(outcome)
    for change in outcome.changes:
        yield _changed(change, outcome)
    flags = everywhere(outcome)
    if flagged := marked(outcome):
        parts = [f"{escape(named(t))}: {escape(', '.join(f for f in t.flags if f not in flags))}" for t in flagged]
        yield f"On the front but flagged, to be read with care: {'; '.join(parts)}."
    if flags:
        yield f"Flagged on every trial: {escape(', '.join(flags))}; the table of flags says what that means."
    if kept_off := outcome.kept_off():
        parts = [f"{escape(named(t))}: {escape(', '.join(t.flags))}" for t in kept_off]
        yield f"Kept off the front by their flags: {'; '.join(parts)}."


def _given_up(outcome: Outcome) -> str:
    count = len(outcome.stopped)
    return f", {count} {'was' if count == 1 else 'were'} given up early as dominated" if count else ""


def moved(objective: Objective, change: float) -> str:
    """What a change of an objective is to its owner: `costs 0.031 accuracy`. Not escaped."""
    better = (change > 0) == (objective.direction == "max")
    name, size = label(objective), f"{abs(change):.3f}"
    if objective.direction == "max":
        return f"{'gains' if better else 'costs'} {size} {name}"
    return f"takes {size} off the {name}" if better else f"adds {size} to the {name}"


def listed(parts: Sequence[str]) -> str:
    """`a, b and c`."""
    return ", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else "".join(parts)


def _traded(before: Trial, after: Trial, objectives: Sequence[Objective]) -> str:
    """What one trial gives and takes compared with another; HTML."""
    moves = [(o, after.metrics[o.metric] - before.metrics[o.metric]) for o in objectives if o.metric in before.metrics]
    parts = [moved(o, change) for o, change in moves if round(change, 3)]
    same = [f"leaves the {label(o)} as it is" for o, change in moves if not round(change, 3)]
    return escape(listed(parts + same))


def _changed(change: Change, outcome: Outcome) -> str:
    """What a later look did to the front; HTML."""
    trials = {t.number: t for t in outcome.trials}
    names = lambda numbers: ", ".join(escape(named(trials[n])) for n in numbers) or "none"  # noqa: E731
    moves = [
        f"{escape(label(o))} moved by {signed(move.mean)} on average, at most by {signed(move.largest)} ({names([move.trial])})"
        for o in outcome.objectives
        if (move := change.moves.get(o.metric))
    ]
    return (
        f"<b>Version {change.version} of the front</b>, from the stored networks {escape(change.how)}: "
        f"{'; '.join(moves) or 'no objective moved'}. Left the front: {names(change.left)}; entered it: {names(change.entered)}."
    )


def _numbers(trial: Trial, objectives: Sequence[Objective], names: bool = False) -> str:
    parts = (f"{trial.metrics[o.metric]:.3f}" + (f" {escape(label(o))}" if names else "") for o in objectives)
    return ", ".join(parts)


def _confirm_changed(outcome: Outcome) -> Iterable[str]:
    """What the second look did to the first."""
    if not outcome.confirmed:
        yield "Nothing is confirmed: every number here is a first look, on <code>val</code>."
        return
    trials = {t.number: t for t in outcome.trials}
    gone = [escape(named(trials[c.number])) for c in outcome.confirmed if not c.on_front]
    kept = len(outcome.confirmed) - len(gone)
    yield (
        f"Confirm re-trained {len(outcome.confirmed)} front trials and judged them on <code>test</code>: "
        f"{kept} stayed on the front, {len(gone)} left it{': ' + ', '.join(gone) if gone else ''}."
    )
    shifts = []
    for o in outcome.objectives:
        moves = [c.means[o.metric] - trials[c.number].metrics[o.metric] for c in outcome.confirmed]
        shifts.append(f"{escape(label(o))} by {signed(sum(moves) / len(moves))}")
    yield f"From sweep to confirm the means moved: {', '.join(shifts)}."


def signed(value: float) -> str:
    """With its sign, three digits."""
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")
