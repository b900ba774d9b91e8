"""Style shared by all figures: colours, axis titles, axis ranges, and PNG files. matplotlib is imported when it is used."""

import contextlib
import io
import math
from collections.abc import Iterator, Sequence
from typing import Any

from core.study import Objective
from trainables.study.outcome import Confirmed, Outcome
from trainables.study.text import is_known, label
from trainables.study.trial import Trial

BLUE, ORANGE, PURPLE, GREY, INK = "#0072B2", "#D55E00", "#CC79A7", "#B4BAC1", "#1B1F24"
"""Colours of Okabe and Ito's palette, which differ for colour-blind readers and, by lightness, in black and white."""
COLORS = (BLUE, ORANGE, "#009E73", PURPLE, INK, "#56B4E9", "#E69F00")
"""Colours of studies or curves in one figure, in this order and then again."""
SHAPES = "os^DvPX*"
"""Markers of studies or curves. With 7 colours and 8 shapes, 56 of them differ in colour or shape, and 8 in black and white."""
GRID = "#ECEFF2"
"""Colour of grid lines."""
REACH = 0.3
"""Share of the points' extent by which intervals may extend an axis; longer ones are cut at its end and marked there."""


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Use the report's matplotlib style in a `with` block, independently of the user's configuration."""
    import matplotlib

    style: dict[Any, Any] = {"font.size": 9, "axes.edgecolor": "#8A929B", "axes.linewidth": 0.8, "axes.labelcolor": INK}
    style |= {"axes.spines.top": False, "axes.spines.right": False, "xtick.color": "#555D66", "ytick.color": "#555D66"}
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **style}):
        yield


def without_ticks(axis: Any, grid: str = "both") -> None:
    """Draw a light grid and no tick marks."""
    axis.grid(axis=grid, color=GRID, linewidth=0.7)
    axis.tick_params(length=0)


def axis_title(objective: Objective) -> str:
    """Title of an objective's axis, with an arrow towards better values; the arrow turns with a vertical title."""
    name = label(objective)
    return f"{name},  better \N{RIGHTWARDS ARROW}" if objective.direction == "max" else f"\N{LEFTWARDS ARROW} better,  {name}"


def png(figure: Any) -> bytes:
    """A matplotlib figure as a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    return file.getvalue()


def plotted(outcome: Outcome) -> list[Trial]:
    """The trials that figures of the front contain: those with all objectives."""
    return [t for t in outcome.completed if all(o.metric in t.metrics for o in outcome.objectives)]


def error_bars(points: Sequence[Confirmed], objective: Objective) -> list[list[float]]:
    """Lengths of the error bars below and above the means; 0 where the interval is unknown."""
    name = objective.metric
    pairs = [(c.means[name], c.intervals[name]) for c in points]
    lengths = [(mean - i.low, i.high - mean) if is_known(i) else (0.0, 0.0) for mean, i in pairs]
    return [[max(0.0, pair[end]) for pair in lengths] for end in (0, 1)]


def axis_range(outcome: Outcome, objective: Objective) -> tuple[float, float]:
    """Initial range of an objective's axis: all points, and intervals as far as they reach at most `REACH` beyond the points.

    Excluded trials do not count, because they are often far from the others.
    """
    name = objective.metric
    values = [t.metrics[name] for t in plotted(outcome) if not t.excluded] + [c.means[name] for c in outcome.confirmed]
    low, high = min(values, default=0.0), max(values, default=1.0)
    reach = REACH * (high - low)
    ends = [end for c in outcome.confirmed if is_known(c.intervals[name]) for end in c.intervals[name]]
    values += [end for end in ends if low - reach <= end <= high + reach]
    low, high = min(values, default=0.0), max(values, default=1.0)
    margin = 0.08 * (high - low) or 0.05
    return low - margin, high + margin


def cut_intervals(points: Sequence[Confirmed], outcome: Outcome, objective: Objective) -> tuple[list[Confirmed], list[Confirmed]]:
    """The points whose intervals pass the lower end of an objective's axis, and those whose intervals pass its upper end."""
    low, high = axis_range(outcome, objective)
    known = [(c, c.intervals[objective.metric]) for c in points if is_known(c.intervals[objective.metric])]
    return [c for c, interval in known if interval.low < low], [c for c, interval in known if interval.high > high]


def chance_line(outcome: Outcome, objective: Objective) -> float | None:
    """The chance level below which values of an objective cannot be distinguished; None if it has none.

    It is the largest among the confirmed points, or among the trials if nothing is confirmed, as for the fronts.
    """
    name = objective.metric
    levels = [c.chance for c in outcome.confirmed if name == "mia_auc" and math.isfinite(c.chance)]
    levels = levels or [t.metrics[f"{name}_chance"] for t in plotted(outcome) if f"{name}_chance" in t.metrics]
    return max(levels, default=None)
