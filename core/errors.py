"""The two ways in which things go wrong."""

import difflib
import re
from collections.abc import Iterable


class InputError(ValueError):
    """Something the user wrote cannot be used. The message is one line: what, where, what is allowed."""


class TrialError(RuntimeError):
    """One trial cannot go on (a loss that is not finite, say); the study can."""


def redacted(text: str) -> str:
    """The text with the user names and passwords of its URLs left out: it may end up in a log."""
    text = re.sub(r"://(?:[^/\s]+|[^/\s:]*:\S+)@", "://***@", text)  # a password may have a slash in it, though it should not
    return re.sub(r"(?i)((?:password|secret\w*|token|access_key)=)[^&\s]+", r"\1***", text)


def unknown(what: str, got: object, known: Iterable[str]) -> InputError:
    """The error for a name that does not exist, with the nearest that does."""
    known = list(known)
    near = difflib.get_close_matches(str(got), known, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return InputError(f"unknown {what} {str(got)!r}{hint}, expected one of: {', '.join(known)}")
