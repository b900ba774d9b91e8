"""Plain data from files as dataclasses, with a check of names and types; and names from files that become parts of paths."""

import functools
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from core.errors import InputError

Record = TypeVar("Record")


def record(cls: type[Record], plain: Any) -> Record:
    """Make a dataclass of plain data that has exactly its fields, with their types; nothing is converted.

    Raises:
        InputError: a field is missing, unknown or of another type.
    """
    checked(typing.get_type_hints(cls), plain)
    return cls(**plain)


def checked(hints: Mapping[str, Any], plain: Any) -> Any:
    """Check that plain data has exactly these names with these types, and return it.

    Raises:
        InputError: a name is missing or unknown, or its value is of another type.
    """
    try:
        _adapter(tuple(hints.items())).validate_python(plain)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"{where}: {first['msg']}" if where else first["msg"]) from None
    return plain


def is_name(name: str) -> bool:
    """Whether a name stands for something below a folder on every file system: no `..`, no absolute path, no empty part."""
    parts = name.split("/")
    return not ({"", ".", ".."} & set(parts) or set("\\\0") & set(name)) and name.isprintable()


@functools.cache
def _adapter(hints: tuple[tuple[str, Any], ...]) -> TypeAdapter:
    shape = with_config(ConfigDict(strict=True, extra="forbid"))(TypedDict("Plain", dict(hints)))  # pyright: ignore[reportArgumentType]
    return TypeAdapter(shape)
