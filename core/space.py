"""Search ranges, and spaces made of them.

A space is a mapping `{flat knob name: range}`. A slot whose component is itself searched has a `Switch` as its range:

    {"loss": switch("loss", LOSSES), "optimizer.lr": LogUniform(1e-3, 0.3)}

`core.search_space` builds spaces from the ranges that components declare, and checks them against a configuration.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import get_args

from core.errors import InputError

Value = str | int | float | bool


@dataclass(frozen=True)
class Uniform:
    """A uniform distribution over the real numbers between two ends."""

    low: float
    high: float

    def __post_init__(self):
        _check_ends(self.low, self.high)


@dataclass(frozen=True)
class LogUniform:
    """A log-uniform distribution between two positive ends."""

    low: float
    high: float

    def __post_init__(self):
        _check_ends(self.low, self.high)
        if self.low <= 0:
            raise InputError(f"a log range needs a positive lower end, got {self.low:g}")


@dataclass(frozen=True)
class IntRange:
    """A uniform distribution over the integers between two ends, both included."""

    low: int
    high: int

    def __post_init__(self):
        _check_ends(self.low, self.high)


@dataclass(frozen=True)
class Choice:
    """A choice among a few numbers or strings."""

    options: tuple[Value, ...]

    def __post_init__(self):
        if len(set(self.options)) != len(self.options) or not self.options:
            raise InputError(f"a choice needs different options, got {self.options}")


@dataclass(frozen=True)
class Switch:
    """A choice among the components of a slot, each with ranges for its own knobs.

    The component of the study's base configuration keeps the values that are set there for knobs without a range. Any other
    component starts from its defaults.
    """

    options: Mapping[str, Mapping[str, "Range"]]
    """Ranges by option, `{"crl": {"loss.lambda": LogUniform(1e-3, 10)}, "cross_entropy": {}}`; a knob may have
    different ranges in different options."""

    def __post_init__(self):
        if not self.options:
            raise InputError("a switch needs options")
        if any(isinstance(span, Switch) for ranges in self.options.values() for span in ranges.values()):
            raise InputError("a switch cannot contain a switch: the knobs of a component are numbers and strings")


Range = Uniform | LogUniform | IntRange | Choice | Switch


def _check_ends(low: float, high: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(f"a range needs finite ends with low < high, got {low:g}:{high:g}")


def contains(span: Range, value: Value) -> bool:
    """Whether a range can produce a value."""
    if isinstance(span, Choice | Switch):
        return value in span.options
    return isinstance(value, int | float) and span.low <= value <= span.high


def ends(span: Range) -> tuple[Value, ...]:
    """The values that must be legal for the whole range to be legal: all options, or both ends."""
    return tuple(span.options) if isinstance(span, Choice | Switch) else (span.low, span.high)


def parse_range(text: str) -> Range:
    """Parse `LOW:HIGH`, `LOW:HIGH:log` or `A,B,C`; numbers may be fractions such as 8/255.

    Raises:
        InputError: the text has none of these forms.
    """
    parts = text.split(":")
    if len(parts) == 1 and "," in text:
        return Choice(tuple(_number_or_word(word) for word in text.rstrip(",").split(",")))
    if len(parts) not in (2, 3) or parts[2:] not in ([], ["log"]):
        raise InputError(f"cannot read the range {text!r}, expected LOW:HIGH, LOW:HIGH:log or A,B,C")
    low, high = (number(part) for part in parts[:2])
    if parts[2:]:
        return LogUniform(low, high)
    integral = all(part.strip().lstrip("-").isdigit() for part in parts)
    return IntRange(int(low), int(high)) if integral else Uniform(low, high)


def range_text(span: Range) -> str:
    """Format a range as the text that `parse_range` reads; a switch becomes a readable summary."""
    if isinstance(span, Switch):
        inner = {option: ", ".join(f"{name}={range_text(s)}" for name, s in own.items()) for option, own in span.options.items()}
        return " | ".join(option + (f" ({ranges})" if ranges else "") for option, ranges in inner.items())
    if isinstance(span, Choice):
        return ",".join(map(str, span.options)) + ("," if len(span.options) == 1 else "")
    low, high = (span.low, span.high) if isinstance(span, IntRange) else (float(span.low), float(span.high))
    return f"{low!r}:{high!r}" + (":log" if isinstance(span, LogUniform) else "")


def range_to_json(span: Range) -> list:
    """Convert a range to plain data from which `range_of_json` restores it, types included."""
    if isinstance(span, Switch):
        return ["Switch", {option: {name: range_to_json(s) for name, s in own.items()} for option, own in span.options.items()}]
    return [type(span).__name__, *dataclasses.astuple(span)]


def range_of_json(data: list) -> Range:
    """Restore a range from `range_to_json`, also after JSON has turned tuples into lists."""
    if data[0] == "Switch":
        return Switch({option: {name: range_of_json(s) for name, s in own.items()} for option, own in data[1].items()})
    kinds = {kind.__name__: kind for kind in get_args(Range)}
    return kinds[data[0]](*(tuple(part) if isinstance(part, list) else part for part in data[1:]))


def number(text: str) -> float:
    """Parse a finite number; fractions such as 8/255 are allowed.

    Raises:
        InputError: the text is not a finite number.
    """
    try:
        value = float(Fraction(text.strip())) if "/" in text else float(text)
    except (ValueError, ZeroDivisionError):
        raise InputError(f"{text!r} is not a number") from None
    if not math.isfinite(value):
        raise InputError(f"{text!r} is not a finite number")
    return value


def _number_or_word(text: str) -> Value:
    try:
        value = number(text)
    except InputError:
        return text.strip()
    return int(value) if text.strip().lstrip("-").isdigit() else value


def within(slot: str, option: str, knob: str) -> str:
    """The name in `flat` of a knob of one option: `loss.crl/lambda` for loss=crl and `loss.lambda`."""
    return f"{slot}.{option}/{knob.removeprefix(slot + '.')}"


def flat(space: Mapping[str, Range]) -> dict[str, Range]:
    """Give every range a unique name; a switch becomes a choice, followed by the knobs of its options."""
    ranges: dict[str, Range] = {}
    for name, span in space.items():
        ranges[name] = Choice(tuple(span.options)) if isinstance(span, Switch) else span
        if isinstance(span, Switch):
            ranges |= {within(name, option, knob): s for option, own in span.options.items() for knob, s in own.items()}
    return ranges


def searched_names(space: Mapping[str, Range]) -> list[str]:
    """The flat names of all searched slots and knobs, without duplicates."""
    names: dict[str, None] = {}
    for name, span in space.items():
        names[name] = None
        if isinstance(span, Switch):
            names |= {knob: None for own in span.options.values() for knob in own}
    return list(names)
