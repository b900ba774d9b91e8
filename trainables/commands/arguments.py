"""Parsing shared by all commands: the parser, the options of `Site`, and `NAME=VALUE` assignments."""

import argparse
import sys
import traceback
from collections.abc import Callable, Collection, Sequence
from typing import NoReturn

from core.errors import InputError, first_line
from core.redaction import redacted
from trainables.study.options import add_options, options_of
from trainables.study.site import Site
from trainables.terminal import signals, streams

STUDY_HELP = "name of the study's run, as for --resume: its folder below --storage"


class Parser(argparse.ArgumentParser):
    """A parser that reports errors in one line, without usage."""

    def error(self, message: str) -> NoReturn:
        """Raise argparse's error message.

        Raises:
            InputError: always.
        """
        raise InputError(message)


def exit_with(work: Callable[[], int]) -> NoReturn:
    """Call `work` and exit with its exit code; invalid input, interrupts and lost storage are reported in one line."""
    with streams.losable():
        signals.catch()
        try:
            code = work()
        except InputError as error:
            print("error:", redacted(" ".join(str(error).splitlines())), file=sys.stderr)
            code = 2
        except KeyboardInterrupt:
            signals.close()
            print(f"{signals.description()}; repeat the command to continue", file=sys.stderr)
            code = signals.EXIT_INTERRUPTED
        except OSError as error:  # a study reports it itself
            print(f"error: {redacted(first_line(error))}; repeat the command to continue", file=sys.stderr)
            code = 3
        except SystemExit as stop:  # --help
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        except Exception:  # an error of ours; Python would print the URIs in its message with their credentials
            print(redacted(traceback.format_exc()), end="", file=sys.stderr)
            code = 1
    signals.end(code)
    sys.exit(code)


def add_site_options(parser: argparse.ArgumentParser, without: Collection[str] = (), only: Collection[str] = ()) -> None:
    """Add the options of `Site` to a parser.

    Args:
        parser: the parser.
        without: fields whose options are left out.
        only: fields whose options are added; empty for all.
    """
    group = parser.add_argument_group("where to run")
    for name, declared in options_of(Site).items():
        if name not in without and (not only or name in only):
            add_options(group, declared)


def site_of(args: argparse.Namespace) -> Site:
    """The site that a command line describes; fields whose options are not given keep their defaults."""
    names = {name: declared[0].name for name, declared in options_of(Site).items()}
    return Site(**{name: getattr(args, option) for name, option in names.items() if hasattr(args, option)})


def assignments(pairs: Sequence[str], flag: str) -> dict[str, str]:
    """Parse NAME=VALUE pairs.

    Raises:
        InputError: a pair has no equals sign, or a name occurs twice.
    """
    values: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name or not value:
            raise InputError(f"{flag} takes NAME=VALUE, got {pair!r}")
        if name in values:
            raise InputError(f"{flag} names {name} twice")
        values[name] = value
    return values
