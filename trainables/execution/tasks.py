"""Independent jobs as Ray tasks."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from trainables.execution.recorded import Result
from trainables.execution.resources import Share, SharedImages, Workspace
from trainables.execution.trainable import run_job
from trainables.execution.waiting import StartWatch, report_start
from trainables.storage.jobs import Job
from trainables.study.results import TrainingResult

Name = TypeVar("Name", bound=Hashable)
POLL_SECONDS = 2.0
"""Interval at which the limit of concurrent jobs, and whether any has started, is evaluated again."""
MAX_RETRIES = 2
"""Number of times that a task is repeated after its machine died."""


def ignore(text: str) -> None:
    """A reporter that prints nothing."""


def _reported(work: Callable[..., Result], workspace: Workspace, **job: Any) -> Result:
    """Run a job in its task, and report that it has started; over several workers, these report it."""
    if not workspace.share.workers:
        report_start(workspace.ticket)
    return work(**job, workspace=workspace)


@dataclass(frozen=True)
class Executor:
    """Runs independent jobs as Ray tasks, on shared images and within limits of resources and concurrency."""

    images: SharedImages
    workspace: Workspace
    """Resources and folders of each job."""
    limit: Callable[[], int]
    """Number of jobs at a time, evaluated again as machines come and go."""
    shadow_share: Share
    """Resources of a shadow model."""
    shadow_limit: Callable[[], int]
    """Number of shadow models at a time."""
    report: Callable[[str], None] = ignore
    """Prints one line of progress."""
    warn: Callable[[str], None] = ignore
    """Prints one line about a problem."""

    def map(
        self, work: Callable[..., Result], jobs: Mapping[Name, Mapping[str, Any]], result_type: type[Result],
        on_result: Callable[[Name, Result], None] = lambda name, result: None,
    ) -> dict[Name, Result]:  # fmt: skip
        """Run jobs, at most `limit` at a time; a task whose machine dies is repeated.

        Args:
            work: called as work(**job, images=..., workspace=...).
            jobs: keyword arguments of each job, by name.
            result_type: type of the results.
            on_result: called with each job that ends.

        Returns:
            The result of each job; if Ray could not run it, a result with the reason as its error.

        Raises:
            OSError: a job could not use the storage. Other jobs could not either, so this is no result.
        """
        if not jobs:
            return {}
        shared = ray.put(self.images)
        share = self.workspace.share
        in_task = share.workers == 0  # otherwise the task only waits for its Ray Train workers
        resources = {"num_cpus": share.cpus if in_task else 0, "num_gpus": share.gpus if in_task else 0}
        task: Any = ray.remote(_reported).options(**resources, max_retries=MAX_RETRIES, name=work.__name__)
        waiting, running, results = list(jobs), {}, {}
        watch = StartWatch(share, self.warn)
        while waiting or running:
            while waiting and len(running) < self.limit():
                name = waiting.pop(0)
                workspace = replace(self.workspace, ticket=watch.ticket(name))
                running[task.remote(work, **jobs[name], images=shared, workspace=workspace)] = name
            ended, _ = ray.wait(list(running), timeout=POLL_SECONDS)
            if not ended:
                watch.check(running.values)
                continue
            watch.see_running()
            name = running.pop(ended[0])
            try:
                results[name] = ray.get(ended[0])
            except RayError as error:
                if isinstance(error, OSError) and isinstance(error, RayTaskError):
                    raise OSError(str(error.cause)) from None
                results[name] = result_type(error=str(error).strip().splitlines()[-1])
            on_result(name, results[name])
        watch.close()
        return results

    def train(
        self, jobs: Mapping[Name, Job], on_result: Callable[[Name, TrainingResult], None] = lambda name, result: None
    ) -> dict[Name, TrainingResult]:
        """Run trainings; see `map`."""
        return self.map(run_job, {name: {"job": job} for name, job in jobs.items()}, TrainingResult, on_result)

    def for_shadows(self) -> "Executor":
        """An executor of shadow models."""
        return replace(self, workspace=self.workspace.for_shadows(self.shadow_share), limit=self.shadow_limit)

    def with_report(self, report: Callable[[str], None]) -> "Executor":
        """The same executor with another reporter."""
        return replace(self, report=report)
