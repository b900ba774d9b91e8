"""A recorded unit of work: it runs on a worker's share of the cluster, and its result is stored, also if it fails."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import torch

from core import workers
from core.errors import InputError, TrialError, first_line
from trainables.execution.resources import Share
from trainables.storage.store import Store
from trainables.study.results import AuditResult, MeasurementResult, TrainingResult

Result = TypeVar("Result", TrainingResult, AuditResult, MeasurementResult)


def recorded(
    work: Callable[[torch.device], Result], failure: Callable[[str], Result], share: Share, files: Store, name: str
) -> Result:
    """Run a unit of work and store its result.

    An error of the work becomes a result, so that one network cannot stop the others. Two kinds of errors are raised: those of the
    storage, because storage may be available for the next attempt, and those of one of several workers, so that the others stop.

    Args:
        work: the work, called with the device to run on.
        failure: makes a result from an error in one line.
        share: resources of the work.
        files: folder of the result.
        name: file name of the result; it is written last, and by the first worker only.

    Raises:
        OSError: the storage could not be used.
    """
    start = time.perf_counter()
    share.limit_threads()
    try:
        result = work(share.device())
    except (TrialError, InputError) as error:
        result = failure(" ".join(str(error).splitlines()))
    except Exception as error:
        if workers.count() > 1 or isinstance(error, OSError):
            raise
        result = failure(f"{type(error).__name__}: {first_line(error)}")
    result = replace(result, seconds=time.perf_counter() - start)
    if workers.rank() == 0:
        files.write_json(name, result.to_json())
    return result
