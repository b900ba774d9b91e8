"""What all still pictures share: colours, style, axis titles, and the way into a PNG file; matplotlib loads when it is used."""

import contextlib
import io
from collections.abc import Iterator
from typing import Any

from core.config import Objective
from trainables import page

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
    name = page.label(objective)
    return f"{name},  better \N{RIGHTWARDS ARROW}" if objective.direction == "max" else f"\N{LEFTWARDS ARROW} better,  {name}"


def png(figure: Any) -> bytes:
    """A figure as a file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    return file.getvalue()
