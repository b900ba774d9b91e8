"""Knobs: frozen dataclasses whose annotations carry the legal values and the range worth searching.

    @knobs
    class Penalty:
        lambda_: Annotated[float, Bounds(0), LogUniform(1e-3, 10)] = 0.1
        '''Weight of the penalty.'''

`Bounds` is what the method can work with and is checked at birth; a range is the author's opinion of what is worth
trying, and a study may replace it. The trailing underscore of a reserved word is dropped in flat names.

A space is `{flat name: range}`. Where it is searched which filling a slot has, the slot's range is a `Switch`:

    {"loss": switch("loss", LOSSES), "optimizer.lr": LogUniform(1e-3, 0.3)}
"""

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, TypeVar, dataclass_transform, get_args, get_origin, get_type_hints

from core.errors import InputError, unknown

Value = str | int | float | bool


@dataclass(frozen=True)
class Bounds:
    """Legal values, both ends included; `hint` ends the error message."""

    low: float = -math.inf
    high: float = math.inf
    hint: str = ""


@dataclass(frozen=True)
class Uniform:
    """Every real number between two ends is equally likely."""

    low: float
    high: float

    def __post_init__(self):
        _ordered(self.low, self.high)


@dataclass(frozen=True)
class LogUniform:
    """Every order of magnitude between two positive ends is equally likely."""

    low: float
    high: float

    def __post_init__(self):
        _ordered(self.low, self.high)
        if self.low <= 0:
            raise InputError(f"a log range needs a positive lower end, got {self.low:g}")


@dataclass(frozen=True)
class IntRange:
    """Every whole number between two ends, both included."""

    low: int
    high: int

    def __post_init__(self):
        _ordered(self.low, self.high)


@dataclass(frozen=True)
class Choice:
    """One of a few numbers or words."""

    options: tuple[Value, ...]

    def __post_init__(self):
        if len(set(self.options)) != len(self.options) or not self.options:
            raise InputError(f"a choice needs different options, got {self.options}")


@dataclass(frozen=True)
class Switch:
    """One of a slot's fillings, by name, each with the ranges of knobs that are searched only where it is chosen.

    The filling that the study's configuration has keeps its other knobs from there; any other has its defaults.
    """

    options: Mapping[str, Mapping[str, "Range"]]
    """`{"crl": {"loss.lambda": LogUniform(1e-3, 10)}, "cross_entropy": {}}`; ranges of one knob may differ."""

    def __post_init__(self):
        if not self.options:
            raise InputError("a switch needs options")
        if any(isinstance(span, Switch) for knobs_ in self.options.values() for span in knobs_.values()):
            raise InputError("a switch in a switch; a slot's knobs are numbers and words")


Range = Uniform | LogUniform | IntRange | Choice | Switch


def _ordered(low: float, high: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(f"a range needs finite ends with low < high, got {low:g}:{high:g}")


def contains(span: Range, value: Value) -> bool:
    """Whether a range can produce the value."""
    if isinstance(span, Choice | Switch):
        return value in span.options
    return isinstance(value, int | float) and span.low <= value <= span.high


def ends(span: Range) -> tuple[Value, ...]:
    """The extreme values of a range: what must be legal if the whole range is to be."""
    return tuple(span.options) if isinstance(span, Choice | Switch) else (span.low, span.high)


def parse_range(text: str) -> Range:
    """`LOW:HIGH`, `LOW:HIGH:log` or `A,B,C`; numbers may be fractions such as 8/255.

    Raises:
        InputError: the text is none of these.
    """
    parts = text.split(":")
    if len(parts) == 1 and "," in text:
        return Choice(tuple(_number_or_word(word) for word in text.rstrip(",").split(",")))
    if len(parts) not in (2, 3) or parts[2:] not in ([], ["log"]):
        raise InputError(f"cannot read the range {text!r}, expected LOW:HIGH, LOW:HIGH:log or A,B,C")
    low, high = (number(part) for part in parts[:2])
    if parts[2:]:
        return LogUniform(low, high)
    whole = all(part.strip().lstrip("-").isdigit() for part in parts)
    return IntRange(int(low), int(high)) if whole else Uniform(low, high)


def text(span: Range) -> str:
    """The text that `parse_range` reads as this range; of a switch, a line for people."""
    if isinstance(span, Switch):
        inner = {option: ", ".join(f"{name}={text(s)}" for name, s in own.items()) for option, own in span.options.items()}
        return " | ".join(option + (f" ({knobs_})" if knobs_ else "") for option, knobs_ in inner.items())
    if isinstance(span, Choice):
        return ",".join(map(str, span.options)) + ("," if len(span.options) == 1 else "")
    low, high = (span.low, span.high) if isinstance(span, IntRange) else (float(span.low), float(span.high))
    return f"{low!r}:{high!r}" + (":log" if isinstance(span, LogUniform) else "")


def plain(span: Range) -> list:
    """Plain data from which `of_plain` makes the range again, types and all."""
    if isinstance(span, Switch):
        return ["Switch", {option: {name: plain(s) for name, s in own.items()} for option, own in span.options.items()}]
    return [type(span).__name__, *dataclasses.astuple(span)]


def of_plain(data: list) -> Range:
    """The inverse of `plain`, also after JSON has made lists of tuples."""
    if data[0] == "Switch":
        return Switch({option: {name: of_plain(s) for name, s in own.items()} for option, own in data[1].items()})
    kinds = {kind.__name__: kind for kind in get_args(Range)}
    return kinds[data[0]](*(tuple(part) if isinstance(part, list) else part for part in data[1:]))


def number(text: str) -> float:
    """A finite number; 8/255 is a number too."""
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


T = TypeVar("T")


@dataclass_transform(kw_only_default=True, frozen_default=True)
def knobs(cls: type[T]) -> type[T]:
    """Make a frozen, keyword-only dataclass that refuses values of the wrong type or outside their `Bounds`.

    A method `check(self)`, where the class has one, then refuses combinations.
    """

    def validate(self) -> None:
        for name, knob in of(type(self)).items():
            knob.check(name, getattr(self, knob.attribute))
        if hasattr(self, "check"):
            self.check()

    cls.__post_init__ = validate  # pyright: ignore[reportAttributeAccessIssue]
    return dataclass(frozen=True, kw_only=True)(cls)


@dataclass(frozen=True)
class Knob:
    """One field of a `knobs` class, under its flat name."""

    attribute: str
    type: Any
    default: Any
    bounds: Bounds
    span: Range | None

    @property
    def options(self) -> tuple[Value, ...]:
        """The legal words of a `Literal`; empty for every other type."""
        return get_args(self.type) if get_origin(self.type) is Literal else ()

    def check(self, name: str, value: Any) -> None:
        """Refuse a value that is not legal here.

        Raises:
            InputError: wrong type, not one of the options, or outside the bounds.
        """
        if self.options:
            if value not in self.options:
                raise unknown(f"value of {name}", value, map(str, self.options))
        elif self.type in (int, float, str, bool):
            number_like = isinstance(value, int | float) and not isinstance(value, bool)
            right = number_like if self.type is float else type(value) is self.type
            if not right:
                raise InputError(f"{name} takes {self.type.__name__}, got {value!r}")
            if number_like and not math.isfinite(value):
                raise InputError(f"{name}={value} is not a finite number")
            if number_like and not self.bounds.low <= value <= self.bounds.high:
                raise InputError(f"{name}={value:g} is outside {_interval(self.bounds)}{self.bounds.hint}")

    def read(self, name: str, value: Value) -> Any:
        """The value in this knob's type; text is read as a person would write it (8/255, true, 1e-3).

        Raises:
            InputError: the text does not read as this type.
        """
        if self.type is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if not isinstance(value, str) or self.type is str or self.options:
            return value
        if self.type is bool and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if self.type in (int, float):
            try:
                return int(value) if self.type is int else number(value)
            except (ValueError, InputError):
                pass
        raise InputError(f"{name} takes {self.type.__name__}, got {value!r}")


def _interval(bounds: Bounds) -> str:
    left = "(-inf" if bounds.low == -math.inf else f"[{bounds.low:g}"
    right = "inf)" if bounds.high == math.inf else f"{bounds.high:g}]"
    return f"{left}, {right}"


@functools.cache
def of(cls: type) -> dict[str, Knob]:
    """The knobs of a class by flat name, in order."""
    hints = get_type_hints(cls, include_extras=True)
    found = {}
    for field in dataclasses.fields(cls):
        marks = getattr(hints[field.name], "__metadata__", ())
        found[field.name.rstrip("_")] = Knob(
            attribute=field.name,
            type=get_args(hints[field.name])[0] if marks else hints[field.name],
            default=field.default,
            bounds=next((m for m in marks if isinstance(m, Bounds)), Bounds()),
            span=next((m for m in marks if isinstance(m, Range)), None),
        )
    return found


def ranges(cls: type, prefix: str = "", only: tuple[str, ...] = ()) -> dict[str, Range]:
    """The author's search ranges of a class: `{prefix + name: range}`, all of them or `only` some.

    Raises:
        InputError: a name in `only` has no range.
    """
    found = {name: knob.span for name, knob in of(cls).items() if knob.span is not None}
    for name in only:
        if name not in found:
            raise unknown(f"searched knob of {cls.__name__}", name, found)
    return {prefix + name: span for name, span in found.items() if not only or name in only}


def switch(
    slot: str,
    family: Mapping[str, type],
    only: Iterable[str] | Mapping[str, tuple[str, ...]] = (),
    limits: Mapping[str, Mapping[str, Range]] | None = None,
) -> Switch:
    """Which filling a slot has, each with its author's ranges.

    Args:
        slot: "loss", say. family: its fillings by name (`LOSSES`).
        only: the fillings to choose from, or `{filling: knobs of it to search}`; where that is empty, all.
        limits: `{filling: {knob: range}}`, instead of its author's range or where it has none. Knobs without their slot.

    Raises:
        InputError: no such filling, or a name in `only` has no range.
    """
    limits = limits or {}
    picked = only if isinstance(only, Mapping) else dict.fromkeys(only, ())
    picked = picked or dict.fromkeys(family, ())
    for name in (*picked, *limits):
        if name not in family or name not in picked:
            raise unknown(slot, name, picked if name in family else family)
    own = {name: {f"{slot}.{knob}": span for knob, span in limits.get(name, {}).items()} for name in picked}
    return Switch({name: ranges(family[name], f"{slot}.", only=knobs_) | own[name] for name, knobs_ in picked.items()})


def within(slot: str, option: str, knob: str) -> str:
    """The name in `flat` of a knob of one option: `loss.crl/lambda` for loss=crl and `loss.lambda`."""
    return f"{slot}.{option}/{knob.removeprefix(slot + '.')}"


def flat(space: Mapping[str, Range]) -> dict[str, Range]:
    """Every range under a name of its own; a switch is a choice of words, followed by the knobs of its options."""
    found: dict[str, Range] = {}
    for name, span in space.items():
        found[name] = Choice(tuple(span.options)) if isinstance(span, Switch) else span
        if isinstance(span, Switch):
            found |= {within(name, option, knob): s for option, own in span.options.items() for knob, s in own.items()}
    return found


def names(space: Mapping[str, Range]) -> list[str]:
    """What is searched: flat names of slots and knobs, each once."""
    found: dict[str, None] = {}
    for name, span in space.items():
        found[name] = None
        if isinstance(span, Switch):
            found |= {knob: None for own in span.options.values() for knob in own}
    return list(found)
