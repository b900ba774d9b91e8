"""What all still pictures share: colours, style, axis titles, and the way into a PNG file; matplotlib loads when it is used."""

import contextlib
import io
import math
from collections.abc import Iterator, Sequence
from typing import Any

from core.config import Objective
from trainables.outcome import Confirmed, Outcome, Trial
from trainables.words import label

BLUE, ORANGE, PURPLE, GREY, INK = "#0072B2", "#D55E00", "#CC79A7", "#B4BAC1", "#1B1F24"
"""Of the palette by Okabe and Ito: told apart by colour-blind readers, and by lightness in black and white."""


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """matplotlib as these pictures want it, whatever the user has set."""
    import matplotlib

    style: dict[Any, Any] = {"font.size": 9, "axes.edgecolor": "#8A929B", "axes.linewidth": 0.8, "axes.labelcolor": INK}
    style |= {"axes.spines.top": False, "axes.spines.right": False, "xtick.color": "#555D66", "ytick.color": "#555D66"}
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **style}):
        yield


def axis_title(objective: Objective) -> str:
    """Along the axis; turned by 90 degrees, as on a vertical one, the arrow turns too."""
    name = label(objective)
    return f"{name},  better \N{RIGHTWARDS ARROW}" if objective.direction == "max" else f"\N{LEFTWARDS ARROW} better,  {name}"


def png(figure: Any) -> bytes:
    """A figure as a file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    return file.getvalue()


def plotted(outcome: Outcome) -> list[Trial]:
    """The trials that have a place in every picture."""
    return [t for t in outcome.done if all(o.metric in t.metrics for o in outcome.objectives)]


def bars(points: Sequence[Confirmed], objective: Objective) -> list[list[float]]:
    """Lengths of the error bars below and above the means; none where the interval is infinite."""
    name = objective.metric
    lengths = [[c.means[name] - c.intervals[name].low, c.intervals[name].high - c.means[name]] for c in points]
    return [[max(0.0, pair[end]) if math.isfinite(pair[end]) else 0.0 for pair in lengths] for end in (0, 1)]


def frame(outcome: Outcome, objective: Objective) -> tuple[float, float]:
    """The part of an axis that pictures show first: barred trials do not count, which are often far off."""
    name = objective.metric
    values = [t.metrics[name] for t in plotted(outcome) if not t.barred] + [c.means[name] for c in outcome.confirmed]
    low, high = min(values, default=0.0), max(values, default=1.0)
    edge = 0.08 * (high - low) or 0.05
    return low - edge, high + edge
