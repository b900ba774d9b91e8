"""Independent jobs as Ray tasks."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from trainables.trial import Arrays, AtATime, Share

Name = TypeVar("Name", bound=Hashable)
Result = dict[str, Any]
"""At least `error`: one line, empty if all went well."""
LOOK_SECONDS = 2.0  # how often it is asked whether a machine has come


def spread(
    work: Callable[..., Result], jobs: Mapping[Name, Mapping[str, Any]], arrays: Arrays, share: Share, concurrency: AtATime,
    ended: Callable[[Name, Result], None] = lambda name, result: None,
) -> dict[Name, Result]:  # fmt: skip
    """Perform jobs at most `concurrency` at a time; a task whose machine dies is repeated.

    Args:
        work: called as work(**job, arrays=arrays). jobs: by name. arrays: sent to each machine once.
        share: what a job may use. concurrency: a number, or what tells it as the cluster grows and shrinks.
        ended: told of each job that ends.

    Returns:
        The result of each job; of one that Ray gave up, with the reason as its `error`.

    Raises:
        OSError: a job could not use the storage; so the others could not either, and it is no result of a job.
    """
    room = concurrency if callable(concurrency) else lambda: concurrency
    shared = ray.put(arrays)
    here = share.workers == 0
    task: Any = ray.remote(work).options(num_cpus=share.cpus if here else 0, num_gpus=share.gpus if here else 0, max_retries=2)
    waiting, running, results = list(jobs), {}, {}
    while waiting or running:
        while waiting and len(running) < room():
            name = waiting.pop(0)
            running[task.remote(**jobs[name], arrays=shared)] = name
        done, _ = ray.wait(list(running), timeout=LOOK_SECONDS if waiting else None)
        if not done:
            continue
        name = running.pop(done[0])
        try:
            results[name] = ray.get(done[0])
        except RayError as error:
            if isinstance(error, OSError) and isinstance(error, RayTaskError):
                raise OSError(str(error.cause)) from None
            results[name] = {"metrics": {}, "curve": [], "error": str(error).strip().splitlines()[-1]}
        ended(name, results[name])
    return results
