"""Parallel coordinates: a line per trial through its knobs and objectives, and the filters that go with it.

Drawn here, so that it is there on paper and without JavaScript; `web/report.js` lets it filter the table of all trials.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from core import space
from core.space import LogUniform, Value
from trainables.details import status
from trainables.drawing import plotted
from trainables.outcome import Outcome, Trial
from trainables.words import label, named, show

STEP, TOP, HEIGHT, FOOT = 128, 64, 260, 34
"""Between axes, above them, along them, below them, in the picture's own units."""
LEFT = 70
WIDEST = 14
"""Knobs that have an axis, at most."""


@dataclass(frozen=True)
class Axis:
    """One knob or objective."""

    name: str
    title: str
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    flipped: bool = False
    """Smaller is better and stands at the top."""
    words: tuple[str, ...] = ()
    """The values, where they are no numbers, from the bottom up."""
    objective: bool = False

    def place(self, value: Value | None) -> float | None:
        """From 0 at the bottom to 1 at the top; None if the trial does not have it."""
        if value is None:
            return None
        if self.words:
            return (self.words.index(word(value)) + 0.5) / len(self.words)
        bend = math.log if self.log else float
        share = (bend(float(value)) - bend(self.low)) / (bend(self.high) - bend(self.low))
        return 1 - share if self.flipped else share


def word(value: Value) -> str:
    """As the page's script writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def axes(outcome: Outcome) -> list[Axis]:
    """The searched knobs that differ, then the objectives."""
    shown = plotted(outcome)
    found = []
    for name in space.names(outcome.space):
        values = [t.params[name] for t in shown if name in t.params]
        if len(set(values)) < 2:
            continue
        if any(isinstance(v, str | bool) for v in values):
            found.append(Axis(name, name, words=tuple(sorted({word(v) for v in values}))))
        else:
            numbers = [float(v) for v in values]
            log = isinstance(_range(outcome, name), LogUniform) and min(numbers) > 0
            found.append(Axis(name, name, min(numbers), max(numbers), log))
    found = found[:WIDEST]
    for o in outcome.objectives:
        values = [float(t.metrics[o.metric]) for t in shown]
        if values:
            low, high = min(values), max(values)
            end = high if high > low else low + 1
            found.append(Axis(o.metric, label(o), low, end, flipped=o.direction == "min", objective=True))
    return found


def _range(outcome: Outcome, name: str) -> space.Range | None:
    inner = [own for span in outcome.space.values() if isinstance(span, space.Switch) for own in span.options.values()]
    return next((own[name] for own in [outcome.space, *inner] if name in own), None)


def section(outcome: Outcome) -> str:
    """The picture, its key and the filters; HTML."""
    shown, made = plotted(outcome), axes(outcome)
    if len(shown) < 2 or len(made) < 2:
        return "<p>Too few trials for a picture.</p>"
    front = {t.number for t in outcome.front()}
    width = LEFT + STEP * (len(made) - 1) + LEFT
    order = sorted(shown, key=lambda t: (t.number in front, bool(t.baseline)))
    lines = "".join(_line(t, made, status(t, front)) for t in order)
    filters = "".join(_filter(axis, i) for i, axis in enumerate(made))
    told = f"A line for each of {len(shown)} trials through {len(made)} axes: {', '.join(axis.title for axis in made)}."
    return (
        '<p>Each line is a trial. <span class="live">Drag along an axis to keep the trials that pass there, click on it to let go, '
        "click on a line to see its trial. The table below shows what is kept.</span></p>"
        '<ul class="key"><li><svg class="dash" aria-hidden="true"><path class="front" d="M0 6h28"/></svg> front</li>'
        '<li><svg class="dash" aria-hidden="true"><path class="baseline" d="M0 6h28"/></svg> baseline</li>'
        '<li><svg class="dash" aria-hidden="true"><path class="barred" d="M0 6h28"/></svg> barred by a flag</li>'
        '<li><svg class="dash" aria-hidden="true"><path d="M0 6h28"/></svg> other trial</li></ul>'
        '<div class="scroll plain" role="region" aria-label="Parallel coordinates" tabindex="0">'
        f'<svg id="lines" viewBox="0 0 {width} {TOP + HEIGHT + FOOT}" style="min-width:{round(width * 0.72)}px" role="img" '
        f'aria-label="{escape(told)}">{lines}{"".join(_axis(axis, i) for i, axis in enumerate(made))}</svg></div>'
        f'<details class="filters live"><summary>Filter by numbers</summary><div>{filters}</div></details>'
        '<p class="live" id="kept" role="status"></p>'
    )


def _line(trial: Trial, made: Sequence[Axis], what: str) -> str:
    """A trial's path; it goes below the axes where the trial lacks the knob."""
    values = [trial.metrics.get(axis.name) if axis.objective else trial.params.get(axis.name) for axis in made]
    places = [axis.place(value) for axis, value in zip(made, values, strict=True)]
    points = [f"{LEFT + STEP * i} {_y(place):.1f}" for i, place in enumerate(places)]
    kinds = " ".join([what] * (what != "done") + ["baseline"] * bool(trial.baseline))
    name = escape(named(trial))
    return f'<path data-trial="{trial.number}" class="{kinds}" d="M{"L".join(points)}"><title>{name}</title></path>'


def _y(place: float | None) -> float:
    return TOP + HEIGHT * (1 - place) if place is not None else TOP + HEIGHT + FOOT - 10


def _axis(axis: Axis, index: int) -> str:
    x = LEFT + STEP * index
    if axis.objective:
        upper, lower, better = _broken(axis.title)
    else:
        head, dot, tail = axis.title.partition(".")
        upper, lower, better = (f"{head}{dot}", tail, "") if tail else ("", head, "")
    title = f'<text class="soft" y="14">{escape(upper)}</text><text class="name" y="30">{escape(lower)}</text>'
    title += f'<text class="soft" y="45">{better}</text>' if better else ""
    ticks = "".join(f'<text class="tick" x="6" y="{y:.1f}">{escape(text)}</text>' for y, text in _ticks(axis))
    return (
        f'<g class="axis" data-axis="{index}" transform="translate({x} 0)">{title}<path d="M0 {TOP}v{HEIGHT}"/>{ticks}'
        f'<rect class="brush" x="-9" width="18" y="{TOP}" height="0"/>'
        f'<rect class="hit" x="-18" width="36" y="{TOP - 8}" height="{HEIGHT + 16}"/></g>'
    )


def _broken(title: str) -> tuple[str, str, str]:
    """An objective's name in two lines, and which way is better."""
    words = title.rpartition(" ")
    return words[0], words[2], "\N{UPWARDS ARROW} better"


def _ticks(axis: Axis) -> list[tuple[float, str]]:
    if axis.words:
        return [(_y(axis.place(word)), word) for word in axis.words]
    ends = (axis.high, axis.low) if not axis.flipped else (axis.low, axis.high)
    return [(TOP + 4, show(ends[0])), (TOP + HEIGHT, show(ends[1]))]


def _filter(axis: Axis, index: int) -> str:
    """The same as dragging, for keyboards and screen readers; the script reads the axis from it, too."""
    about = f'data-axis="{index}" data-name="{escape(axis.name)}" data-objective="{int(axis.objective)}"'
    if axis.words:
        options = "".join(f"<option>{escape(word)}</option>" for word in axis.words)
        choice = f"<label>is <select><option></option>{options}</select></label>"
        return f"<fieldset {about}><legend>{escape(axis.title)}</legend>{choice}</fieldset>"
    numbers = f'data-low="{axis.low!r}" data-high="{axis.high!r}" data-log="{int(axis.log)}" data-flipped="{int(axis.flipped)}"'
    inputs = "".join(f'<label>{word} <input type="number" step="any"></label>' for word in ("from", "to"))
    return f"<fieldset {about} {numbers}><legend>{escape(axis.title)}</legend>{inputs}</fieldset>"
