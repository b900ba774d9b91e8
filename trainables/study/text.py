"""Names and numbers as text, for terminal, report and model cards. Nothing here is escaped for HTML.

A negative number has a minus sign (U+2212) in text for people, which `decimal` writes, and a hyphen (ASCII) in everything that
programs read: CSV, JSON, tags of MLflow, settings and commands.
"""

import math
from collections.abc import Collection, Sequence

from core import pareto
from core.estimates import Difference
from core.space import Value, searched_names
from core.stats import Interval
from core.study import Objective
from trainables.study.outcome import Outcome, Verdict
from trainables.study.trial import Trial

MINUS = "\N{MINUS SIGN}"
"""Minus sign of text for people."""
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


def decimal(value: float, decimals: int = 3, plus: str = "") -> str:
    """Format a number for people: a negative one has a minus sign, unless it is rounded to zero.

    Args:
        value: the number.
        decimals: number of decimals.
        plus: `+` for a sign of positive numbers, too.
    """
    return f"{value:{plus}z.{decimals}f}".replace("-", MINUS)


def signed(value: float) -> str:
    """Format a number with its sign and three decimals."""
    return decimal(value, plus="+")


def plus_minus(mean: float, interval: Interval) -> str:
    """Format a mean with the half-width of its interval, or alone if the interval is infinite."""
    half = interval.high - mean
    return decimal(mean) + (f" \u00b1 {half:.3f}" if math.isfinite(half) else "")


def interval_text(interval: Interval, infinite: str = "none", decimals: int = 4) -> str:
    """Format an interval as `LOW to HIGH`; `infinite` is the text of an infinite interval."""
    low, high = interval
    return f"{decimal(low, decimals)} to {decimal(high, decimals)}" if math.isfinite(high - low) else infinite


def is_known(interval: Interval) -> bool:
    """Whether an interval says anything; that of a single replicate is infinite, or the whole of [0, 1] for a share."""
    return math.isfinite(interval.high - interval.low) and tuple(interval) != (0.0, 1.0)


def estimate_text(mean: float, interval: Interval) -> str:
    """Format an estimate as `MEAN (LOW to HIGH)`."""
    return f"{decimal(mean)} ({interval_text(interval, decimals=3) if is_known(interval) else 'no interval'})"


def directed(value: float, decimals: int = 3) -> str:
    """Describe a difference by its size and its direction, such as `0.033 lower`; one that is rounded to zero is `about equal`."""
    size = f"{abs(value):.{decimals}f}"
    return f"{size} {'higher' if value > 0 else 'lower'}" if float(size) else "about equal"


def difference_text(difference: Difference, decimals: int = 3) -> str:
    """Describe a difference with its interval: `0.033 lower (0.000 to 0.066)`, or `0.012 higher (0.005 lower to 0.029 higher)`."""
    return f"{directed(difference.value, decimals)} ({_ends(difference, decimals) or 'no interval'})"


def comparison_text(metric: str, one: str, other: str, difference: Difference, decimals: int = 3) -> str:
    """Compare two values, as in `the accuracy of A is 0.033 lower than that of B (95 % interval 0.000 to 0.066)`."""
    amount, ends = directed(difference.value, decimals), _ends(difference, decimals)
    than = "than" if amount[0].isdigit() else "to"
    return f"the {metric} of {one} is {amount} {than} that of {other} ({f'95 % interval {ends}' if ends else 'no interval'})"


def _ends(difference: Difference, decimals: int) -> str:
    """The ends of a difference's interval in its direction, or each with its own if it contains 0; empty if it is infinite."""
    low, high = difference.interval
    if not math.isfinite(high - low):
        return ""
    if low < 0 < high:
        return f"{-low:.{decimals}f} lower to {high:.{decimals}f} higher"
    smallest, largest = sorted((abs(low), abs(high)))
    return f"{smallest:.{decimals}f} to {largest:.{decimals}f}"


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


def numbers(values: Collection[int]) -> str:
    """Join numbers in ascending order, or `none`."""
    return ", ".join(map(str, sorted(values))) or "none"


def plural(count: int, one: str, many: str = "") -> str:
    """The word that agrees with a number: `one` for 1, otherwise `many`, which is by default `one` with an s."""
    return one if count == 1 else many or f"{one}s"


def counted(count: int, one: str, many: str = "") -> str:
    """A number with a word that agrees with it, such as `1 trial` or `3 trials`."""
    return f"{count:,} {plural(count, one, many)}"


def numbered_trials(values: Collection[int]) -> str:
    """Trials by their numbers, such as `trial 4` or `trials 0, 2`."""
    return f"{plural(len(values), 'trial')} {numbers(values)}"


def counted_verdicts(verdict: Verdict, count: int) -> str:
    """A number of points with their verdict, such as `1 stays`, `2 stay` or `2 undecided`."""
    return counted(count, verdict.value, {Verdict.STAYS: "stay", Verdict.LEAVES: "leave"}.get(verdict, verdict.value))


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
