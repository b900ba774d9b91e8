"""Signals that ask a command to end: the first one raises `KeyboardInterrupt`, so that the command can end its runs and print how
to continue.

Shells and schedulers repeat their signals within milliseconds, so only Ctrl-C (and Ctrl-\\) escalates: a second one stops waiting
for MLflow, and a third one ends the process at once. Signals that are ignored when the command starts, as by `nohup`, stay ignored.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

EXIT_INTERRUPTED = 130
"""Exit code of a command that a signal interrupted."""
TERMINATIONS = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGXCPU, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM,
)  # fmt: skip
"""Signals that end a process by default, and that people, shells and schedulers send."""
BY_HAND = (signal.SIGINT, signal.SIGQUIT)
"""Signals of the keyboard."""
REPEAT_SECONDS = 2.0
"""Time within which the same request to end may arrive more than once."""


@dataclass
class _State:
    """The signals of this process."""

    dispositions: dict[signal.Signals, Any] = field(default_factory=dict)
    """Handler of each signal while the command runs."""
    first: signal.Signals | None = None
    """The signal that interrupted the command."""
    last_time: float = 0.0
    """Time of the latest signal."""
    repeats: int = 0
    """Number of signals of the keyboard after the first signal."""
    closing: bool = False
    """Whether the command is ending its runs."""
    skippable: bool = False
    """Whether it is doing what a second Ctrl-C skips."""
    exit_code: int | None = None
    """Exit code of a command that has ended."""


_state = _State()


def catch() -> None:
    """Interrupt this process when a signal asks it to end, unless the signal is ignored or has a handler already."""
    global _state
    _state = _State()
    if threading.current_thread() is threading.main_thread():
        ours = (signal.SIG_DFL, signal.default_int_handler, _handle)
        before = {number: signal.getsignal(number) for number in TERMINATIONS}
        _state.dispositions = {number: _handle if handler in ours else handler for number, handler in before.items()}
        renew()


def renew() -> None:
    """Install the handlers of `catch` again, because Ray and Ray Tune install their own."""
    if threading.current_thread() is threading.main_thread():
        for number, handler in _state.dispositions.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Start processes that signals of the terminal do not reach, by code that installs its own handlers.

    A closed terminal and Ctrl-\\ reach all of its processes; those of Ray would die before this one can end the study. They inherit
    the mask of blocked signals. This process has other threads, so it still receives them.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGQUIT})
    try:
        yield
    except SystemExit as end:
        if end.code == signal.SIGTERM:  # Ray's handler
            _handle(signal.SIGTERM, None)
        raise
    finally:
        renew()
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def description() -> str:
    """The interruption in words."""
    return f"interrupted by {_state.first.name}" if _state.first not in (None, signal.SIGINT) else "interrupted"


def close() -> None:
    """Note that the command is stopping; a repeated signal does not interrupt it again."""
    _state.closing = True


def unless_skipped(wait: Callable[[], object]) -> bool:
    """Call a function that waits for something, unless Ctrl-C is pressed or was pressed again; returns whether it has ended."""
    try:
        _state.skippable = True
        if not _state.repeats:
            wait()
            return True
    except KeyboardInterrupt:
        pass
    finally:
        _state.skippable = False
    return False


def end(exit_code: int) -> None:
    """Note that the command has ended: from now on, a signal ends the process at once, without a traceback."""
    _state.exit_code = exit_code


def _handle(signum: int, frame: FrameType | None) -> None:
    now, before = time.monotonic(), _state.last_time
    _state.last_time = now
    if _state.exit_code is not None:
        os._exit(_state.exit_code)
    if _state.first is None:
        _state.first = signal.Signals(signum)
        if not _state.closing or _state.skippable:
            raise KeyboardInterrupt
    if signum in BY_HAND:
        _state.repeats += 1
        if _state.repeats > 1:
            with contextlib.suppress(OSError):
                os.write(2, b"ended at once\n")
            os._exit(EXIT_INTERRUPTED)
        if _state.skippable:
            raise KeyboardInterrupt
    elif not _state.closing and now - before > REPEAT_SECONDS:  # the exception of the first one may have been lost
        raise KeyboardInterrupt
