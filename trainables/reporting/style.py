"""Style shared by all figures: colours, axis titles, axis ranges, and PNG files. matplotlib is imported when it is used."""

import contextlib
import io
import math
from collections.abc import Iterator, Sequence
from typing import Any

from core.study import Objective
from trainables.study.outcome import Confirmed, Outcome
from trainables.study.text import label
from trainables.study.trial import Trial

BLUE, ORANGE, PURPLE, GREY, INK = "#0072B2", "#D55E00", "#CC79A7", "#B4BAC1", "#1B1F24"
"""Colours of Okabe and Ito's palette, which differ for colour-blind readers and, by lightness, in black and white."""
GRID = "#ECEFF2"
"""Colour of grid lines."""


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
    """Lengths of the error bars below and above the means; 0 where the interval is infinite."""
    name = objective.metric
    lengths = [[c.means[name] - c.intervals[name].low, c.intervals[name].high - c.means[name]] for c in points]
    return [[max(0.0, pair[end]) if math.isfinite(pair[end]) else 0.0 for pair in lengths] for end in (0, 1)]


def axis_range(outcome: Outcome, objective: Objective) -> tuple[float, float]:
    """Initial range of an objective's axis; excluded trials do not count, because they are often far from the others."""
    name = objective.metric
    values = [t.metrics[name] for t in plotted(outcome) if not t.excluded] + [c.means[name] for c in outcome.confirmed]
    low, high = min(values, default=0.0), max(values, default=1.0)
    margin = 0.08 * (high - low) or 0.05
    return low - margin, high + margin
