"""Command-line options, declared on the fields of `Plan` and `Site` that they set.

The parser, the defaults, the check of `--resume` and the printed commands are all derived from these declarations.
"""

import argparse
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core import space
from core.errors import InputError


@dataclass(frozen=True)
class Option:
    """One command-line option. An empty flag stands for the name of the field that declares the option."""

    flag: str
    help: str
    default: Any = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Further keyword arguments of `ArgumentParser.add_argument`."""

    @property
    def name(self) -> str:
        """Name of the option's value among the parsed arguments."""
        return self.settings.get("dest", self.flag.removeprefix("--").replace("-", "_"))

    def words(self, value: Any) -> list[str]:
        """The words on a command line that give the option this value; none for the default."""
        constant = self.settings.get("const", True)
        if value == self.default or (self.is_switch and value != constant):
            return []
        if self.is_switch:
            return [self.flag]
        if self.settings.get("action") == "append":
            return [word for item in value for word in (self.flag, str(item))]
        return [self.flag, *map(str, value if isinstance(value, list | tuple) else [value])]

    @property
    def is_switch(self) -> bool:
        """Whether the option takes no value on the command line."""
        return self.settings.get("action") in ("store_true", "store_const")


def option(default: Any, help: str, flag: str = "", **settings: Any) -> Any:
    """A dataclass field whose value is that of one option; the option's flag is the field's name unless `flag` is given.

    Args:
        default: default of the field and of the option.
        help: help text; `{default}` in it is replaced by the default.
        flag: the option's flag, such as "--seeds-per-trial".
        settings: further keyword arguments of `ArgumentParser.add_argument`.
    """
    return dataclasses.field(default=default, metadata=options(Option(flag, help, default, settings)))


def options(*declared: Option) -> dict[str, tuple[Option, ...]]:
    """Metadata of a dataclass field whose value is computed from these options."""
    return {"options": declared}


def options_of(cls: type) -> dict[str, list[Option]]:
    """The options that each field of a dataclass declares, by field name."""
    declared: dict[str, list[Option]] = {}
    for field in dataclasses.fields(cls):
        own = field.metadata.get("options", ())
        flag = f"--{field.name.replace('_', '-')}"
        declared[field.name] = [o if o.flag else dataclasses.replace(o, flag=flag) for o in own]
    return {name: own for name, own in declared.items() if own}


def all_options(cls: type) -> Iterator[Option]:
    """All options that the fields of a dataclass declare, in order."""
    for own in options_of(cls).values():
        yield from own


def given_options(cls: type, args: argparse.Namespace) -> list[tuple[Option, Any]]:
    """The options of a dataclass that were given on a command line, with their values."""
    return [(o, getattr(args, o.name)) for o in all_options(cls) if hasattr(args, o.name)]


def with_defaults(cls: type, args: argparse.Namespace) -> argparse.Namespace:
    """Parsed arguments, with the defaults of the options of a dataclass that were not given."""
    return argparse.Namespace(**{o.name: o.default for o in all_options(cls)} | vars(args))


def add_options(group: Any, declared: Sequence[Option], texts: Mapping[str, object] = {}) -> None:
    """Add the options of one field to a parser or group; switches with the same destination exclude each other.

    An option that is not given has no value among the parsed arguments, so that it differs from one that is given its default.

    Args:
        group: parser or argument group.
        declared: options of one field.
        texts: replacements of further placeholders in help texts, such as {presets}.
    """
    exclusive = len(declared) > 1 and len({o.name for o in declared}) == 1
    target = group.add_mutually_exclusive_group() if exclusive else group
    for o in declared:
        text = o.help
        for name, value in {"default": o.default, **texts}.items():
            text = text.replace(f"{{{name}}}", str(value))
        target.add_argument(o.flag, help=text.replace("%", "%%"), default=argparse.SUPPRESS, **o.settings)


def integer(low: int) -> Callable[[str], int]:
    """An argument type that parses integers of at least `low`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not an integer") from None
        if value < low:
            raise argparse.ArgumentTypeError(f"{value} is less than {low}")
        return value

    return parse


def share(text: str) -> float:
    """Parse an amount of a resource: a fraction of one, or an integer.

    Raises:
        ArgumentTypeError: the number is neither.
    """
    try:
        value = space.number(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if value < 0 or (value > 1 and value != int(value)):
        raise argparse.ArgumentTypeError(f"{value:g} is neither a fraction of one nor an integer")
    return value


def positive_share(text: str) -> float:
    """Parse an amount of a resource that is not 0.

    Raises:
        ArgumentTypeError: the number is 0, or not a share.
    """
    value = share(text)
    if value == 0:
        raise argparse.ArgumentTypeError("0 would start all trials at once; expected more than 0")
    return value
