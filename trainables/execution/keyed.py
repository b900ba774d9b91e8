"""Trainings whose folders are named by the key of their content, so that all commands on a storage share them."""

import itertools
from collections.abc import Mapping

from trainables.execution.tasks import Executor
from trainables.storage.jobs import Job
from trainables.storage.results import intact_result
from trainables.study.results import TrainingResult
from trainables.study.text import counted


def train_keyed(jobs: Mapping[str, tuple[Job, str]], what: str, executor: Executor) -> dict[str, TrainingResult]:
    """Run the missing ones of some trainings; those that failed before are run again, because the cause may have passed.

    Args:
        jobs: each training and its name in reports, by its folder, whose last part is the key of the training and evaluation.
        what: what each of them is, such as "shadow model".
        executor: executor whose folder is the one above all studies; it reports each training that ends.

    Returns:
        The results by folder.
    """
    root = executor.workspace.root
    results = {folder: intact_result(root, folder) for folder in jobs}
    trained = {folder: r for folder, r in results.items() if r and not r.error and folder.rpartition("/")[2] == r.key}
    missing = {folder: job for folder, (job, _) in jobs.items() if folder not in trained}
    for folder in missing:
        root.discard(f"{folder}/result.json")
    if jobs:
        executor.report(f"{counted(len(jobs), what)}, {len(trained)} of them trained before")
    done = itertools.count(1)

    def ended(folder: str, result: TrainingResult) -> None:
        executor.report(f"[{next(done)}/{len(missing)}] {jobs[folder][1]}" + (f" failed: {result.error}" if result.error else ""))

    return trained | executor.train(missing, ended)
