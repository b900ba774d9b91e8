"""The two kinds of expected errors, and helpers for their messages."""

import difflib
import re
from collections.abc import Iterable


class InputError(ValueError):
    """Invalid input from the user. The message is one line: what is invalid, where, and what is allowed."""


class TrialError(RuntimeError):
    """A trial that cannot continue, for example because its loss is not finite. The study continues without it."""


def unknown(what: str, got: object, known: Iterable[str]) -> InputError:
    """The error for an unknown name, with the known names and the most similar one."""
    known = list(known)
    similar = difflib.get_close_matches(str(got), known, n=1)
    hint = f" (did you mean {similar[0]!r}?)" if similar else ""
    return InputError(f"unknown {what} {str(got)!r}{hint}, expected one of: {', '.join(known)}")


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its type if the message is empty; addresses of objects are removed."""
    line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return re.sub(r"<([\w.]+)(?: object)? at 0x[0-9a-fA-F]+>", r"\1", line)
