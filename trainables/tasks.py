"""Independent jobs as Ray tasks."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError

from trainables.trial import Arrays, Share

Name = TypeVar("Name", bound=Hashable)
Result = dict[str, Any]
"""At least `error`: one line, empty if all went well."""


def spread(
    work: Callable[..., Result], jobs: Mapping[Name, Mapping[str, Any]], arrays: Arrays, share: Share, concurrency: int,
    ended: Callable[[Name, Result], None] = lambda name, result: None,
) -> dict[Name, Result]:  # fmt: skip
    """Perform jobs at most `concurrency` at a time; a task whose machine dies is repeated.

    Args:
        work: called as work(**job, arrays=arrays). jobs: by name. arrays: sent to each machine once.
        share: what a job may use. ended: told of each job that ends.

    Returns:
        The result of each job; of one that Ray gave up, with the reason as its `error`.
    """
    shared = ray.put(arrays)
    here = share.workers == 0
    task: Any = ray.remote(work).options(num_cpus=share.cpus if here else 0, num_gpus=share.gpus if here else 0, max_retries=2)
    waiting, running, results = list(jobs), {}, {}
    while waiting or running:
        while waiting and len(running) < concurrency:
            name = waiting.pop(0)
            running[task.remote(**jobs[name], arrays=shared)] = name
        (ready, *_), _ = ray.wait(list(running))
        name = running.pop(ready)
        try:
            results[name] = ray.get(ready)
        except RayError as error:
            results[name] = {"metrics": {}, "curve": [], "error": str(error).strip().splitlines()[-1]}
        ended(name, results[name])
    return results
