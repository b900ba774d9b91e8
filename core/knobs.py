"""Knobs: frozen dataclasses whose annotations carry each knob's legal values and its search range.

    @knobs
    class Penalty:
        lambda_: Annotated[float, Bounds(0), LogUniform(1e-3, 10)] = 0.1
        '''Weight of the penalty.'''

`Bounds` are the values that the method accepts; they are checked on construction. A range is the default range of a search, which
a study may replace. Flat names drop the trailing underscore of a reserved word (`lambda_` -> `lambda`).
"""

import dataclasses
import functools
import math
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar, dataclass_transform, get_args, get_origin, get_type_hints

from core.errors import InputError, unknown
from core.space import Range, Value, number


@dataclass(frozen=True)
class Bounds:
    """Legal values of a knob, both ends included; `hint` is appended to the error message.

    With `l2`, `high` holds for all norms but L2: lengths in Linf end where images do, and lengths in L2 grow with the images.
    """

    low: float = -math.inf
    high: float = math.inf
    hint: str = ""
    l2: bool = False


T = TypeVar("T")


@dataclass_transform(kw_only_default=True, frozen_default=True)
def knobs(cls: type[T]) -> type[T]:
    """Make a frozen, keyword-only dataclass that rejects values of the wrong type or outside their `Bounds`.

    If the class has a method `check(self)`, it is called afterwards to reject illegal combinations.
    """

    def validate(self) -> None:
        for name, knob in knobs_of(type(self)).items():
            knob.check(name, getattr(self, knob.attribute), getattr(self, "norm", ""))
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
        """The legal values of a `Literal`; empty for every other type."""
        return get_args(self.type) if get_origin(self.type) is Literal else ()

    def check(self, name: str, value: Any, norm: str = "") -> None:
        """Reject a value that is not legal for this knob of a component, whose norm decides on the bound of a length.

        Raises:
            InputError: the value has the wrong type, is not one of the options, or is outside the bounds.
        """
        if self.options:
            if value not in self.options:
                raise unknown(f"value of {name}", value, map(str, self.options))
        elif self.type in (int, float, str, bool):
            numeric = isinstance(value, int | float) and not isinstance(value, bool)
            type_ok = numeric if self.type is float else type(value) is self.type
            if not type_ok:
                raise InputError(f"{name} takes {self.type.__name__}, got {value!r}")
            if numeric and not math.isfinite(value):
                raise InputError(f"{name}={value} is not a finite number")
            bounds = replace(self.bounds, high=math.inf) if self.bounds.l2 and norm == "l2" else self.bounds
            if numeric and not bounds.low <= value <= bounds.high:
                raise InputError(f"{name}={value:g} is outside {_interval(bounds)}{bounds.hint}")

    def read(self, name: str, value: Value) -> Any:
        """Convert a value to this knob's type; text may be written as 8/255, true or 1e-3.

        Raises:
            InputError: the text cannot be read as this type.
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
def knobs_of(cls: type) -> dict[str, Knob]:
    """The knobs of a class by flat name, in the order of its fields."""
    hints = get_type_hints(cls, include_extras=True)
    knobs_: dict[str, Knob] = {}
    for field in dataclasses.fields(cls):
        marks = getattr(hints[field.name], "__metadata__", ())
        knobs_[field.name.rstrip("_")] = Knob(
            attribute=field.name,
            type=get_args(hints[field.name])[0] if marks else hints[field.name],
            default=field.default,
            bounds=next((m for m in marks if isinstance(m, Bounds)), Bounds()),
            span=next((m for m in marks if isinstance(m, Range)), None),
        )
    return knobs_
