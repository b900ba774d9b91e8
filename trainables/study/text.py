"""Names and numbers as text, for terminal, report, MLflow and model cards. Nothing here is escaped for HTML."""

import math
from collections.abc import Sequence

from core import pareto
from core.estimates import Difference
from core.space import Value, searched_names
from core.stats import Interval
from core.study import Objective
from trainables.study.outcome import Outcome
from trainables.study.trial import Trial

LABELS = {"mia_auc": "membership-inference AUC"}
"""Readable names of metrics whose own name does not read well."""


def label(objective: Objective) -> str:
    """A readable name of an objective."""
    return LABELS.get(objective.metric, objective.metric.replace("_", " "))


def show(value: Value) -> str:
    """Format a value for a table: four significant digits of a float, anything else unchanged."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def short(value: Value) -> str:
    """Format a value in little space: three significant digits of a float, anything else unchanged."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def signed(value: float) -> str:
    """Format a number with its sign and three decimals."""
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def plus_minus(mean: float, interval: Interval) -> str:
    """Format a mean with the half-width of its interval, or alone if the interval is infinite."""
    half = interval.high - mean
    return f"{mean:.3f}" + (f" \u00b1 {half:.3f}" if math.isfinite(half) else "")


def interval_text(interval: Interval, infinite: str = "none", decimals: int = 4) -> str:
    """Format an interval as `LOW to HIGH`; `infinite` is the text of an infinite interval."""
    low, high = interval
    return f"{low:.{decimals}f} to {high:.{decimals}f}" if math.isfinite(high - low) else infinite


def is_known(interval: Interval) -> bool:
    """Whether an interval says anything; that of a single replicate is infinite, or the whole of [0, 1] for a share."""
    return math.isfinite(interval.high - interval.low) and tuple(interval) != (0.0, 1.0)


def estimate_text(mean: float, interval: Interval) -> str:
    """Format an estimate as `MEAN (LOW to HIGH)`."""
    return f"{mean:.3f} ({interval_text(interval, decimals=3) if is_known(interval) else 'no interval'})"


def difference_text(difference: Difference) -> str:
    """Format a difference as `+VALUE (LOW to HIGH)`, with signs."""
    low, high = difference.interval
    between = f"{signed(low)} to {signed(high)}" if math.isfinite(high - low) else "no interval"
    return f"{signed(difference.value)} ({between})"


def describe_change(objective: Objective, change: float) -> str:
    """Describe a change of an objective as a gain or a cost, such as `costs 0.031 accuracy`."""
    better = (change > 0) == (objective.direction == "max")
    name, size = label(objective), f"{abs(change):.3f}"
    if objective.direction == "max":
        return f"{'gains' if better else 'costs'} {size} {name}"
    return f"{'lowers' if better else 'raises'} the {name} by {size}"


def unbroken(text: str) -> str:
    """The text with spaces at which no line breaks."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def duration(seconds: float) -> str:
    """Format a time in seconds, minutes or hours."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def listed(parts: Sequence[str], conjunction: str = "and") -> str:
    """Join parts as `a, b and c`."""
    return f"{', '.join(parts[:-1])} {conjunction} {parts[-1]}" if len(parts) > 1 else "".join(parts)


def numbers(values: Sequence[int] | set[int]) -> str:
    """Join numbers in ascending order, or `none`."""
    return ", ".join(map(str, sorted(values))) or "none"


def capital(text: str) -> str:
    """Capitalise the first letter and keep the others."""
    return text[:1].upper() + text[1:]


def named(trial: Trial) -> str:
    """Name of a trial: `trial 3`, followed by its baseline's name if it has one."""
    return f"trial {trial.number}" + (f" ({trial.baseline})" if trial.baseline else "")


def knee(outcome: Outcome) -> Trial | None:
    """The knee of the sweep's front, a balanced compromise; None if the front is empty."""
    front = outcome.front()
    return front[pareto.knee(pareto.losses([t.metrics for t in front], outcome.objectives))] if front else None


def flags_on_all(outcome: Outcome) -> list[str]:
    """Flags that every trial raises; they concern the study and do not distinguish trials."""
    completed = outcome.completed
    return [flag for flag, trials in outcome.flags().items() if len(trials) == len(completed) > 1]


def flagged(outcome: Outcome) -> list[Trial]:
    """Trials of the front with a flag that not every trial raises."""
    common = set(flags_on_all(outcome))
    return [t for t in outcome.front() if set(t.flags) - common]


def columns(outcome: Outcome) -> list[str]:
    """Parameters that distinguish trials: searched knobs first, then those that baselines change; without the seed."""
    searched = searched_names(outcome.space)
    differing = [c for c in outcome.columns() if c != "seed" and len({t.params[c] for t in outcome.trials if c in t.params}) > 1]
    return sorted(differing, key=lambda c: searched.index(c) if c in searched else len(searched))
