"""Jobs that cannot start: a study that waits for resources or for Ray's worker processes prints what it waits for.

A job reports its start to Ray's key-value store. As long as none of the outstanding jobs runs, a line is printed after a minute,
and then at growing intervals.
"""

import time
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import ray
from ray.experimental import internal_kv

from trainables.execution import session
from trainables.execution.resources import Share

CHECK_SECONDS = 2.0
"""Interval at which Ray is asked which jobs have started."""
NAMESPACE = "trilemma"
"""Namespace of the keys in Ray's key-value store."""


def report_start(ticket: str) -> None:
    """Report from a worker process that the job with this ticket has started on its node; no ticket, no report."""
    if ticket:
        internal_kv._internal_kv_put(f"{ticket}@{ray.get_runtime_context().get_node_id()}", b"", namespace=NAMESPACE)


@dataclass
class StartWatch:
    """Watches the jobs of a sweep or of a call of `Executor.map`."""

    share: Share
    """Resources of each job."""
    report: Callable[[str], None]
    """Prints a line."""
    prefix: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Beginning of the tickets of its jobs."""
    last_running: float = field(default_factory=time.monotonic)
    """Latest time at which a job was running, or at which none was outstanding."""
    last_check: float = 0.0
    lines: int = 0
    """Number of lines printed since then."""

    def ticket(self, job: object) -> str:
        """The ticket of a job."""
        return f"{self.prefix}/{job}"

    def check(self, outstanding: Callable[[], Collection[object]]) -> None:
        """Print a line if no job has been running for too long.

        Args:
            outstanding: the jobs that were submitted and have not ended.
        """
        now = time.monotonic()
        if now - self.last_check < min(CHECK_SECONDS, session.WAITING_SECONDS / 4):
            return
        self.last_check = now
        jobs = outstanding()
        if not jobs or {self.ticket(job) for job in jobs} & self._started():
            self.see_running()
        elif now - self.last_running >= session.WAITING_SECONDS * 2**self.lines:
            self.lines += 1
            self.report(f"waiting for {now - self.last_running:.0f} s: {len(jobs)} submitted, none is running; {self._reason()}")

    def see_running(self) -> None:
        """Note that a job is running or has just ended."""
        self.last_running, self.lines = time.monotonic(), 0

    def close(self) -> None:
        """Remove the reports of its jobs."""
        internal_kv._internal_kv_del(self.prefix, del_by_prefix=True, namespace=NAMESPACE)

    def _started(self) -> set[str]:
        """Tickets of the jobs that have started on a node that is alive."""
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        keys = [key.decode() for key in internal_kv._internal_kv_list(self.prefix, namespace=NAMESPACE)]
        return {ticket for ticket, _, node in (key.rpartition("@") for key in keys) if node in alive}

    def _reason(self) -> str:
        workers, free, total = max(1, self.share.workers), ray.available_resources(), ray.cluster_resources()
        amounts = [(name, amount * workers) for name, amount in (("CPU", self.share.cpus), ("GPU", self.share.gpus)) if amount]
        of = {name: f"{free.get(name, 0):g} of {total.get(name, 0):g} free" for name, _ in amounts}
        needs = " and ".join(f"{amount:g} {name} ({of[name]})" for name, amount in amounts)
        return (
            f"each needs {needs}; if other jobs use them, `ray status` on the head node shows it; "
            f"otherwise, Ray's worker processes do not start, for a reason in {session.log_files()}"
        )
