"""Parallel coordinates: the axes of knobs and objectives, and the path of each trial through them.

The figure is drawn as SVG rather than by plotly, so that it exists on paper and without JavaScript, too; `web/report.js` uses it to
filter the table of all trials.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from core import space
from core.space import LogUniform, Value
from trainables.reporting.page_data import status
from trainables.reporting.style import plotted
from trainables.study.outcome import Outcome
from trainables.study.text import label, show
from trainables.study.trial import Trial
from trainables.study.trial_names import described

STEP, TOP, HEIGHT, FOOT, LEFT = 128, 64, 260, 34, 70
"""Lengths in units of the drawing: between axes, above them, along them, below them, and left of the first axis."""
MAX_KNOBS = 14
"""Largest number of knobs with an axis."""


@dataclass(frozen=True)
class Axis:
    """The axis of one knob or objective."""

    name: str
    title: str
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    """Whether the axis is logarithmic."""
    flipped: bool = False
    """Whether smaller values are better and at the top."""
    options: tuple[str, ...] = ()
    """Options of a knob that is not a number, from the bottom up."""
    objective: bool = False
    """Whether the axis is that of an objective rather than a knob."""

    def place(self, value: Value | None) -> float | None:
        """Position of a value, from 0 at the bottom to 1 at the top; None if the trial does not have it."""
        if value is None:
            return None
        if self.options:
            return (self.options.index(option_text(value)) + 0.5) / len(self.options)
        scale = math.log if self.log else float
        share = (scale(float(value)) - scale(self.low)) / (scale(self.high) - scale(self.low))
        return 1 - share if self.flipped else share

    @property
    def titles(self) -> tuple[str, str, str]:
        """The title in up to three lines: a lighter one, the name, and for an objective the better direction."""
        if self.objective:
            words = self.title.rpartition(" ")
            return words[0], words[2], "\N{UPWARDS ARROW} better"
        head, dot, tail = self.title.partition(".")
        return (f"{head}{dot}", tail, "") if tail else ("", head, "")

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Vertical positions and texts of the labels along the axis."""
        if self.options:
            return [(_y(self.place(option)), option) for option in self.options]
        ends = (self.high, self.low) if not self.flipped else (self.low, self.high)
        return [(TOP + 4, show(ends[0])), (TOP + HEIGHT, show(ends[1]))]


@dataclass(frozen=True)
class Path:
    """The path of one trial."""

    trial: int
    name: str
    kinds: str
    """CSS classes of the path, separated by spaces: `front` or `excluded`, and `baseline`."""
    data: str
    """Value of the SVG attribute `d`."""


def option_text(value: Value) -> str:
    """The text of an option, as the page's script writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def axes_of(outcome: Outcome) -> list[Axis]:
    """The axes of searched knobs with different values, then those of the objectives."""
    trials = plotted(outcome)
    axes = []
    for name in space.searched_names(outcome.space):
        values = [t.params[name] for t in trials if name in t.params]
        if len(set(values)) < 2:
            continue
        if any(isinstance(v, str | bool) for v in values):
            axes.append(Axis(name, name, options=tuple(sorted({option_text(v) for v in values}))))
        else:
            numbers = [float(v) for v in values]
            log = isinstance(_range(outcome, name), LogUniform) and min(numbers) > 0
            axes.append(Axis(name, name, min(numbers), max(numbers), log))
    axes = axes[:MAX_KNOBS]
    for o in outcome.objectives:
        values = [float(t.metrics[o.metric]) for t in trials]
        if values:
            low, high = min(values), max(values)
            high = high if high > low else low + 1
            axes.append(Axis(o.metric, label(o), low, high, flipped=o.direction == "min", objective=True))
    return axes


def _range(outcome: Outcome, name: str) -> space.Range | None:
    inner = [own for span in outcome.space.values() if isinstance(span, space.Switch) for own in span.options.values()]
    return next((own[name] for own in [outcome.space, *inner] if name in own), None)


def paths_of(outcome: Outcome, axes: Sequence[Axis]) -> list[Path]:
    """The paths of the plotted trials, with those of the front and of baselines on top."""
    front = {t.number for t in outcome.front()}
    order = sorted(plotted(outcome), key=lambda t: (t.number in front, bool(t.baseline)))
    return [_path(trial, described(trial, outcome), axes, status(trial, front)) for trial in order]


def _path(trial: Trial, name: str, axes: Sequence[Axis], kind: str) -> Path:
    """The path of a trial; it passes below the axes of knobs that the trial does not have."""
    values = [trial.metrics.get(axis.name) if axis.objective else trial.params.get(axis.name) for axis in axes]
    points = [f"{LEFT + STEP * i} {_y(axis.place(value)):.1f}" for i, (axis, value) in enumerate(zip(axes, values, strict=True))]
    kinds = " ".join([kind] * (kind != "completed") + ["baseline"] * bool(trial.baseline))
    return Path(trial.number, name, kinds, f"M{'L'.join(points)}")


def _y(place: float | None) -> float:
    return TOP + HEIGHT * (1 - place) if place is not None else TOP + HEIGHT + FOOT - 10
