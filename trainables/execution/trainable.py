"""One training on the cluster: `core.trial.run` with its files, in this process or over several workers.

The Tune trainable of a sweep, the tasks of the confirmation step, and shadow training share `run_job`. A job that has a result is
not run again, and one that has a checkpoint continues from it, whichever process wrote it. Every worker imports this module, so it
imports Ray only where it is needed.
"""

import contextlib
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from core import trial, workers
from core.audits.outputs import ModelOutputs
from core.bound import Bound, State
from core.config import TrialConfig
from core.data import Images
from core.redaction import redacted
from core.train import train
from trainables.execution.recorded import recorded
from trainables.execution.resources import Share, SharedImages, Workspace, from_shared
from trainables.search.reports import epochs_report, fatal_report, result_report
from trainables.storage.arrays import to_npz
from trainables.storage.contents import Damaged
from trainables.storage.jobs import Job, seed_jobs, trial_folder
from trainables.storage.results import intact_result, stored_training, training_result
from trainables.storage.store import Store, Superseded
from trainables.study.results import StoredTraining, TrainingResult, averaged

Rows = Sequence[Mapping[str, float]]
CHECKPOINT_SECONDS = 10.0
"""Interval between checkpoints, at least; a running trial loses at most this much."""
STORAGE_RETRY_SECONDS = (1.0, 4.0)
"""Pauses before storage that could not be used is tried again."""


def run_job(
    job: Job, images: SharedImages, workspace: Workspace, on_rows: Callable[[Rows], None] | None = None, rungs: Sequence[int] = ()
) -> TrainingResult:
    """Run a training to its end, or reuse its result if it has ended before, in its own folder or anywhere with the same content.

    Args:
        job: the training.
        images: the pool.
        workspace: resources and folders.
        on_rows: called with new epochs now and then, and at once at a rung.
        rungs: epochs with an interim evaluation.

    Raises:
        OSError: the storage could not be used.
    """
    store, share = workspace.store, workspace.share
    if ended := intact_result(store, job.folder):
        return ended
    cache = workspace.cache(images)
    if reused := cache.fetch_result(job, store):
        return reused
    cache.fetch_network(job, store)
    if share.workers:
        _run_over_workers(job, images, workspace)
        result = training_result(store, job.folder)
        if result is None:
            raise OSError(f"the workers' result is not in {redacted(store.root)}; --storage must be shared by all machines")
    else:
        result = _run_here(job, images, store.below(job.folder), share, on_rows, rungs)
    cache.record(job, store, result)
    return result


def _run_here(
    job: Job, images: SharedImages, files: Store, share: Share, on_rows: Callable[[Rows], None] | None, rungs: Sequence[int]
) -> TrainingResult:
    """Train in this process; with Ray Train around it, as one of several workers, of which the first writes the files."""

    def work(device: torch.device) -> TrainingResult:
        pool, key = from_shared(images), images.content.training_key(job.params)
        config, training = TrialConfig.of(job.params), stored_training(files, key)
        if workers.rank():
            if not training:
                _train_with_others(config, pool, files, device)
            return TrainingResult()
        if training:
            modules = files.read_state("network.pt") or {}
            network = trial.Network.of(config, modules, training.curve, training.seconds, pool, device=device)
        else:
            network = _train(config, pool, files, device, on_rows, rungs)
            training = StoredTraining(key=key, curve=network.bound.curve, seconds=network.seconds)
            files.write_state("network.pt", network.bound.state()["modules"])
            files.write_json("training.json", training.to_json())
            files.discard("checkpoint.pt")
        outputs_key = images.content.outputs_key(job.params)
        known = files.read_arrays("outputs.npz") if training.outputs_key == outputs_key else None
        outputs = ModelOutputs.of(known, pool.y.numpy()) if known else None
        result = trial.evaluate(config, network, pool, device=device, outputs=outputs)
        files.write("predictions.npz", to_npz(result.predictions))
        if result.outputs:
            files.write("outputs.npz", to_npz(result.outputs.arrays()))
        if result.pictures:
            files.write("pictures.npz", to_npz(result.pictures))
        return TrainingResult(
            metrics=dict(result.metrics.values), curve=result.curve, key=images.content.evaluation_key(job.params),
            outputs_key=outputs_key if result.outputs else "", reused_from=training.reused_from,
        )  # fmt: skip

    result = recorded(work, lambda error: TrainingResult(error=error), share, files, "result.json")
    if workers.rank() == 0:
        files.discard("checkpoint.pt")
    return result


def _train(
    config: TrialConfig, images: Images, files: Store, device: torch.device, on_rows: Callable[[Rows], None] | None,
    rungs: Sequence[int],
) -> trial.Network:  # fmt: skip
    """Train a network as the only worker or the first of several, and continue from a checkpoint if there is one."""
    callback = CheckpointCallback(files, on_rows, rungs)
    return trial.train_network(config, images, device=device, on_epoch=callback, resume=_checkpoint(files), rungs=rungs)


def _train_with_others(config: TrialConfig, images: Images, files: Store, device: torch.device) -> None:
    """Train a network as one of several workers, of which the first one evaluates and stores it."""
    parts = config.parts(images)
    own = (images.at(rows) for rows in (parts.members, parts.val, parts.selection))
    train(config, *own, device=device, resume=_checkpoint(files))


def _checkpoint(files: Store) -> State | None:
    with contextlib.suppress(Damaged):  # then the training starts from the beginning
        return files.read_state("checkpoint.pt")
    return None


class CheckpointCallback:
    """An `on_epoch` callback that writes checkpoints and reports new epochs, at most every `CHECKPOINT_SECONDS`.

    At a rung it reports at once. Its first report starts with the epochs of an interrupted run, which may not have been reported.
    """

    def __init__(self, files: Store, on_rows: Callable[[Rows], None] | None, rungs: Sequence[int]):
        self.files, self.on_rows, self.rungs = files, on_rows, rungs
        self.reported = 0
        """Number of epochs that were reported."""
        self.last_checkpoint = time.monotonic()

    def __call__(self, row: dict[str, float], bound: Bound) -> None:
        """Write and report what is due after an epoch."""
        due = time.monotonic() - self.last_checkpoint >= CHECKPOINT_SECONDS
        if due:
            self.files.write_state("checkpoint.pt", bound.state())
            self.last_checkpoint = time.monotonic()
        if self.on_rows and (due or row["epoch"] in self.rungs):
            self.on_rows(bound.curve[self.reported :])
            self.reported = len(bound.curve)


def _run_over_workers(job: Job, images: SharedImages, workspace: Workspace) -> None:
    """Run `_run_here` on the workers of Ray Train's TorchTrainer; the result is in the store afterwards.

    Raises:
        OSError: a worker could not use the storage.
        TrainingFailedError: a worker died.
    """
    import ray
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    store, share = workspace.store, workspace.share
    use_gpu = share.gpus > 0
    images_ref = ray.put(images)
    trainer = TorchTrainer(
        _worker_loop,
        train_loop_config={
            "job": job, "images": images_ref, "files": store.below(job.folder), "share": share, "ticket": workspace.ticket,
        },
        torch_config=TorchConfig(backend="nccl" if share.gpus >= 1 else "gloo"),  # NCCL needs a whole GPU per rank
        scaling_config=ray.train.ScalingConfig(
            num_workers=share.workers, use_gpu=use_gpu,
            resources_per_worker={"CPU": share.cpus} | ({"GPU": share.gpus} if use_gpu else {}),
        ),
        run_config=ray.train.RunConfig(
            # Ray Train's own records, under a name that is never used again: we resume from our own checkpoint.
            storage_path=store.below("ray").root, name=f"{job.folder.replace('/', '-')}-{uuid.uuid4().hex[:8]}",
            failure_config=ray.train.FailureConfig(max_failures=0),  # Ray Tune tries again
            logging_config=ray.train.LoggingConfig(log_level="ERROR"),
        ),
    )  # fmt: skip
    try:
        trainer.fit()
    except ray.train.WorkerGroupError as error:
        for failure in error.worker_failures.values():
            if isinstance(failure, OSError):
                raise OSError(str(failure)) from None
        raise


def _worker_loop(config: dict[str, Any]) -> None:
    import ray

    from trainables.execution.waiting import report_start

    if workers.rank() == 0:
        report_start(config["ticket"])
    _run_here(config["job"], ray.get(config["images"]), config["files"], config["share"], None, ())


def tune_trial(
    suggestion: dict[str, Any], images: SharedImages, workspace: Workspace, seeds: int = 1, rungs: Sequence[int] = ()
) -> dict[str, Any]:
    """The trainable of Ray Tune: run one suggestion of the searcher.

    Returns:
        A report with the result; or with a fatal error if the storage could not be used after some retries, which is no result
        of a trial.
    """
    from trainables.execution.waiting import report_start

    workspace = replace(workspace, ticket=f"{workspace.ticket}/{suggestion['number']}") if workspace.ticket else workspace
    if not workspace.share.workers:
        report_start(workspace.ticket)
    for pause in (*STORAGE_RETRY_SECONDS, None):
        try:
            return result_report(_run_seeds(suggestion, images, workspace, seeds, rungs))
        except OSError as error:
            if pause is None or isinstance(error, Superseded):
                return fatal_report(f"trial {suggestion['number']}: {' '.join(redacted(str(error)).split())}")
            time.sleep(pause)
    raise AssertionError("unreachable")


def _run_seeds(
    suggestion: dict[str, Any], images: SharedImages, workspace: Workspace, seeds: int, rungs: Sequence[int]
) -> TrainingResult:
    """Run each seed of a suggestion; epochs of the first are reported as they end, and it may be stopped at a rung."""
    from ray import tune

    first, *others = seed_jobs(suggestion["number"], suggestion["params"], seeds)
    result = run_job(first, images, workspace, on_rows=lambda rows: tune.report(epochs_report(rows)), rungs=rungs)
    if not others:
        return result
    result = averaged([result, *(run_job(job, images, workspace) for job in others)])
    workspace.store.write_json(f"{trial_folder(suggestion['number'])}/result.json", result.to_json())
    return result
