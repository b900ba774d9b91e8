"""Delivery of writes to MLflow: in order, from one thread, repeated until they succeed.

MLflow on a new SQLite file does not support several writers, and a server that is down for a while must not stop a study. If the
reply to a write is lost, the write is repeated although it may have succeeded, so every write must be idempotent: its timestamp is
fixed when it is enqueued, and MLflow keeps one value per metric, step and timestamp.
"""

import logging
import queue
import threading
import time
import traceback
from collections.abc import Callable

from core.errors import first_line
from core.redaction import redacted
from trainables.storage.store import Lease, Superseded

NON_RETRYABLE = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "PERMISSION_DENIED", "UNAUTHENTICATED", "RESOURCE_DOES_NOT_EXIST")
"""MLflow's error codes of writes that fail however often they are repeated."""
SHUTDOWN_TIMEOUT_SECONDS = 60.0
"""Time without a successful write after which the end of a study stops waiting for MLflow."""
MAX_PAUSE_SECONDS = 10.0
"""Longest pause between two attempts."""

Write = Callable[[int], object]
"""A write to MLflow; its argument is the time at which it was enqueued, in milliseconds since the epoch."""


class Delivery:
    """A queue of writes and the thread that delivers them. Its methods never raise."""

    def __init__(self, lease: Lease | None = None, opening: Write | None = None):
        """Prepare an empty queue.

        Args:
            lease: nothing is delivered once another driver has the lease, because the runs belong to that driver.
            opening: the write that all others need. It is repeated after any error, and nothing is delivered before it succeeds.
        """
        self.lease = lease
        now = _now()
        self.opening = (lambda: opening(now)) if opening else None
        """The opening write until it succeeds, then None."""
        self.queue: queue.Queue[Callable[[], object] | threading.Event | None] = queue.Queue()
        """Writes in order; events mark places that `drain` waits for, and None is the end."""
        self.shutting_down = threading.Event()
        self.deadline = float("inf")
        self.undelivered = 0
        """Number of writes that were abandoned."""
        self.last_error = self.last_logged = ""
        self.thread = threading.Thread(target=self._deliver_all, name="mlflow", daemon=True)

    def start(self) -> None:
        """Start delivering, with the opening write."""
        if self.opening:
            self.queue.put(lambda: None)  # it has a place of its own in the queue, so `drain` waits for it
        self.thread.start()

    def enqueue(self, write: Write) -> None:
        """Enqueue a write. Its timestamp is fixed here, so that retries are idempotent."""
        now = _now()
        if self.shutting_down.is_set():  # what followed `drain`, such as rendering, may have taken longer than the timeout
            self._renew_deadline()
        self.queue.put(lambda: write(now))

    def drain(self) -> bool:
        """Wait until everything enqueued so far is delivered; return False if MLflow did not answer for too long."""
        reached = threading.Event()
        self.queue.put(reached)
        self._begin_shutdown()
        while not reached.wait(0.05) and self.thread.is_alive():
            pass
        return reached.is_set()

    def close(self) -> int:
        """Deliver the rest and stop; return the number of writes that could not be delivered."""
        self.queue.put(None)
        self._begin_shutdown()
        self.thread.join()
        if not self.superseded():
            self.undelivered += self._discard_rest()
        return self.undelivered

    def superseded(self) -> bool:
        """Whether another driver has the lease."""
        try:
            if self.lease:
                self.lease.check()
        except Superseded:
            return True
        except (OSError, ValueError):  # unreadable storage does not mean that there is another driver
            pass
        return False

    def _begin_shutdown(self) -> None:
        self._renew_deadline()
        self.shutting_down.set()

    def _renew_deadline(self) -> None:
        self.deadline = time.monotonic() + SHUTDOWN_TIMEOUT_SECONDS

    def _deliver_all(self) -> None:
        while (write := self.queue.get()) is not None and not self.superseded():
            if isinstance(write, threading.Event):
                write.set()
                continue
            pause = 0.5
            while not self._attempt(write):
                if self.superseded():
                    return
                if time.monotonic() > self.deadline:
                    self.undelivered += 1 + self._discard_rest()
                    return
                time.sleep(0.5 if self.shutting_down.is_set() else pause)
                pause = min(2 * pause, MAX_PAUSE_SECONDS)
            if self.shutting_down.is_set():
                self._renew_deadline()

    def _discard_rest(self) -> int:
        """Empty the queue; return the number of writes that were in it."""
        count = 0
        while not self.queue.empty():
            count += callable(self.queue.get())
        return count

    def _attempt(self, write: Callable[[], object]) -> bool:
        """Try a write; return False if it is worth trying again."""
        from mlflow.exceptions import MlflowException

        try:
            if self.opening:
                self.opening()
                self.opening = None
            write()
        except Exception as error:
            self.last_error = redacted(first_line(error))
            expected = isinstance(error, (MlflowException, OSError))  # another error is ours; the study is more important
            if expected and getattr(error, "error_code", "") not in NON_RETRYABLE:
                return False
            if self.opening is None:
                self.undelivered += 1
            self._log(error, with_traceback=not expected)
            return self.opening is None
        return True

    def _log(self, error: Exception, with_traceback: bool) -> None:
        """Log the reason of a write that failed for a lasting reason, once."""
        text = redacted("".join(traceback.format_exception(error)) if with_traceback else str(error))
        if text != self.last_logged:
            logging.getLogger(__name__).error("could not be logged to MLflow: %s", text.strip())
        self.last_logged = text


def _now() -> int:
    """The time in milliseconds since the epoch."""
    return int(time.time() * 1000)
