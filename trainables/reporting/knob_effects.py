"""The effects of knobs as sentences and as rows of a table with drawn intervals."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from core.flags import FLAGS
from core.study import Objective
from trainables.reporting.importance import LEVEL, MIN_R2, Effect, KnobStep, Response, responses
from trainables.study.outcome import Outcome
from trainables.study.text import capital, counted, describe_change, label, listed, plural, show, signed

TRUSTED_FLAGS = ("at_chance",)
"""Excluding flags that do not make the metrics of a trial untrustworthy."""
MIN_SHARE = 0.05
"""Smallest importance of a knob that is mentioned."""


def knob_responses(outcome: Outcome) -> dict[str, Response]:
    """The response of each objective to the knobs, from the sampled trials.

    Baselines are left out because they were not drawn from the space, and flagged trials if their metrics are not trustworthy.
    """
    trials = [
        t for t in outcome.completed
        if not t.baseline and {f for f in t.flags if f in FLAGS and FLAGS[f].excludes} <= set(TRUSTED_FLAGS)
        and all(o.metric in t.metrics for o in outcome.objectives)
    ]  # fmt: skip
    trials.sort(key=lambda t: t.number)
    values = {o.metric: [t.metrics[o.metric] for t in trials] for o in outcome.objectives}
    return responses([t.params for t in trials], values, outcome.space)


def sentences(outcome: Outcome, by_metric: Mapping[str, Response], steps: Sequence[KnobStep]) -> list[Markup]:
    """The effects in sentences: importance by objective, then every significant effect by knob.

    Args:
        outcome: the outcome.
        by_metric: the response of each objective, from `knob_responses`.
        steps: the steps of all knobs.
    """
    trials = next(iter(by_metric.values())).trials
    lines = []
    if count := len(outcome.early_stopped):
        trials_that, are = counted(count, "trial that was", "trials that were"), plural(count, "is", "are")
        lines.append(Markup("{} stopped early {} not included, which may bias these effects.").format(trials_that, are))
    lines += [_describe_importance(o, by_metric[o.metric]) for o in outcome.objectives if by_metric[o.metric].importance]
    lines += [_describe_useless(o, by_metric[o.metric]) for o in outcome.objectives if not by_metric[o.metric].importance]
    significant = [s for s in steps if any(s in r.effects and r.effects[s].significant for r in by_metric.values())]
    lines += [_describe_effect(step, outcome, by_metric) for step in significant]
    if unclear := list(dict.fromkeys(s.knob for s in steps if s not in significant)):
        names = _listed(Markup("<code>{}</code>").format(knob) for knob in unclear)
        lines.append(Markup("{} trials are too few to detect an effect of {}.").format(trials, names))
    return lines


def _listed(parts: Iterable[Markup]) -> Markup:
    """Join HTML as `listed` joins text; a plain `join` would escape it."""
    *others, last = parts
    return Markup(" and ").join([Markup(", ").join(others), last]) if others else last


def _describe_importance(objective: Objective, response: Response) -> Markup:
    """The knobs on which an objective depends mainly, of those on which it depends significantly."""
    shares = sorted(response.importance.items(), key=lambda pair: -pair[1])
    found = [(knob, share) for knob, share in shares if share >= MIN_SHARE and response.p_values.get(knob, 1.0) <= LEVEL]
    parts = [Markup("<code>{}</code> ({})").format(knob, f"{share:.0%}") for knob, share in found]
    return Markup("<b>{}</b> depends mainly on {}. The forest predicts {} of the variance of left-out trials.").format(
        capital(label(objective)), _listed(parts) if parts else "no single knob that can be named", f"{response.r2:.0%}"
    )


def _describe_useless(objective: Objective, response: Response) -> Markup:
    """The reason why no effect on an objective is shown."""
    return Markup(
        "Effects on <b>{}</b> are not shown: the forest predicts {} of its variance on left-out trials (cross-validated R2), "
        "and below {} they would be no finding."
    ).format(label(objective), f"{max(0.0, response.r2):.0%}", f"{MIN_R2:.0%}")


def _describe_effect(step: KnobStep, outcome: Outcome, by_metric: Mapping[str, Response]) -> Markup:
    """The significant effects of a knob step, and the objectives for which its effect is unclear."""
    significant, unclear = [], []
    for o in outcome.objectives:
        effect = by_metric[o.metric].effects.get(step)
        if effect and effect.significant:
            sizes = sorted((abs(effect.interval.low), abs(effect.interval.high)))
            significant.append(f"{describe_change(o, effect.mean)} ({sizes[0]:.3f} to {sizes[1]:.3f})")
        else:
            unclear.append(label(o))
    rest = f"; the effect on {listed(unclear)} is unclear" if unclear else ""
    return Markup("{} {}{}.").format(_step_text(step), listed(significant), rest)


def _step_text(step: KnobStep) -> Markup:
    if isinstance(step.low, str | bool):
        return Markup("<code>{}={}</code> instead of <code>{}</code>").format(step.knob, show(step.high), show(step.low))
    return Markup("Raising <code>{}</code> from {} to {}").format(step.knob, show(step.low), show(step.high))


@dataclass(frozen=True)
class Cell:
    """The effect of a knob step on one objective, as text and as positions in a drawing of width 120, with 0 at 60."""

    effect: str
    interval: str
    importance: str
    significant: bool
    low: float
    """Position of the lower end of the interval."""
    high: float
    """Position of the upper end of the interval."""
    mean: float
    """Position of the mean."""

    @classmethod
    def of(cls, effect: Effect, share: float, reach: float) -> "Cell":
        """Format an effect; `reach` is the largest absolute end of an interval in the column."""
        low, high = effect.interval
        return cls(
            signed(effect.mean), f"{signed(low)} to {signed(high)}", f"{share:.0%}", effect.significant,
            *(60 + 55 * value / reach for value in (low, high, effect.mean)),
        )  # fmt: skip


def cells(step: KnobStep, objectives: Sequence[Objective], by_metric: Mapping[str, Response]) -> list[Cell | None]:
    """The cells of a table row, one per objective; None where the effect is unknown."""
    row: list[Cell | None] = []
    for o in objectives:
        response = by_metric[o.metric]
        ends = [abs(end) for effect in response.effects.values() for end in effect.interval]
        effect = response.effects.get(step)
        reach = max(ends, default=0.0) or 1.0
        row.append(Cell.of(effect, response.importance.get(step.knob, 0.0), reach) if effect else None)
    return row
