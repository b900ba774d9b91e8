"""Standard streams that a command can lose: a closed pipe or terminal, or a full disk, does not stop it."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast


class LosableStream:
    """A standard stream that drops its output from the first error on."""

    def __init__(self, stream: TextIO, name: str):
        self.stream, self.name = stream, name
        self.lost = False
        """Whether the stream could not be written."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write a text, with characters that the stream cannot encode as escapes."""
        try:
            self.stream.write(text)
        except UnicodeEncodeError:
            encoding = self.stream.encoding
            return self.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except (OSError, ValueError) as error:
            self._lose(error)
        return len(text)

    def flush(self) -> None:
        """Write what is in the buffer."""
        try:
            self.stream.flush()
        except (OSError, ValueError) as error:
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        """Send the rest of the output, what is still in the buffer, and that of other libraries to nowhere."""
        if self.lost:
            return
        self.lost = True
        with contextlib.suppress(OSError, ValueError):
            number = self.stream.fileno()
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, number)
            os.close(null)
        if self.name == "stdout":
            reason = getattr(error, "strerror", None) or str(error)
            print(f"standard output is lost ({reason}); the command continues without it", file=sys.stderr)


@contextlib.contextmanager
def losable() -> Iterator[None]:
    """Make standard output and error losable for the code inside."""
    _open_missing()
    before = {name: getattr(sys, name) for name in ("stdout", "stderr")}
    for name, stream in before.items():
        losable_stream = LosableStream(stream or open(os.devnull, "w"), name)  # noqa: SIM115
        losable_stream.lost = stream is None
        setattr(sys, name, cast(TextIO, losable_stream))
    try:
        yield
    finally:
        for name, stream in before.items():
            getattr(sys, name).flush()
            setattr(sys, name, stream)


def is_lost() -> bool:
    """Whether standard output could not be written."""
    sys.stdout.flush()
    return getattr(sys.stdout, "lost", False)


def _open_missing() -> None:
    """Open closed standard streams, so that no other file gets their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
