"""One configuration on the cluster: `core.trial.run` with its files, in this process or over several workers.

Three callers share `perform`: the Tune trainable of a sweep, the tasks of confirm, and whoever calls it by hand. What has
a result is not run again, and what has a checkpoint goes on from it, whoever started it. Imports stay few: this module is
what every worker loads.
"""

import io
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any, NamedTuple

import numpy as np
import torch

from core import trial, workers
from core.config import TrialConfig
from core.data import Images, split
from core.errors import InputError, TrialError, redacted
from core.rng import fold
from core.space import Value
from core.train import Bound, train
from trainables import content
from trainables.store import Store, Superseded


class Arrays(NamedTuple):
    """A pool of images as Ray ships it; workers on one machine share one copy."""

    x: np.ndarray
    y: np.ndarray
    classes: int
    content: str
    """A name for these pixels and labels, and for the code that sent them."""


Rows = list[dict[str, float]]
AtATime = int | Callable[[], int]
"""How many jobs to run at a time: a number, or what tells it, as machines come and go."""
CHECKPOINT_SECONDS = 10.0
"""A running trial loses at most this much, and what it saves costs at most that often."""
STORAGE_PAUSES = (1.0, 4.0)
"""Before storage that could not be used is tried again."""


@dataclass(frozen=True)
class Job:
    """A configuration and the folder for what comes out of it."""

    folder: str
    params: dict[str, Value]


def trial_folder(number: int) -> str:
    """Where a trial's files are."""
    return f"trials/{number:05d}"


def seed_jobs(number: int, params: dict[str, Value], seeds: int) -> list[Job]:
    """A trial's trainings: its own, or one for each of several seeds, of which the first is its own."""
    if seeds == 1:
        return [Job(trial_folder(number), params)]
    again = [params["seed"], *(fold(int(params["seed"]), "again", i) for i in range(2, seeds + 1))]
    return [Job(f"{trial_folder(number)}/seeds/{i}", {**params, "seed": seed}) for i, seed in enumerate(again, 1)]


def averaged(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The result of a configuration from those of its seeds: means, `sd/<metric>` of what stands for itself, the worst of flags.

    One seed that failed fails it, since a mean over those that went well would be of something else.
    """
    first = results[0]
    if len(results) == 1:
        return dict(first)
    failed = [f"seed {i}: {result['error']}" for i, result in enumerate(results, 1) if result["error"]]
    metrics: dict[str, float] = {}
    if not failed:
        everywhere = [name for name in first["metrics"] if all(name in result["metrics"] for result in results)]
        values = {name: [result["metrics"][name] for result in results] for name in everywhere}
        metrics = {name: max(v) if name.startswith("flag/") else mean(v) for name, v in values.items()}
        metrics |= {f"sd/{name}": stdev(v) for name, v in values.items() if "/" not in name}
    measured = tuple(dict.fromkeys(name for result in results for name in result.get("measured", ())))
    taken = first.get("taken_from", "") if all(result.get("taken_from") for result in results) else ""
    return {**first, "metrics": metrics, "error": "; ".join(failed), "measured": measured, "taken_from": taken}


@dataclass(frozen=True)
class Share:
    """What one trial may use."""

    workers: int
    """0: the calling process; else that many Ray Train workers."""
    cpus: float
    gpus: float
    """Per worker."""
    known: Store | None = None
    """Where to look for a training of the same content, and to note new ones; None trains everything."""


def pack(images: Images) -> Arrays:
    """The form in which images travel."""
    return Arrays(images.x.numpy(), images.y.numpy(), images.classes, f"{content.of_images(images)} {content.of_code()}")


def unpack(arrays: Arrays) -> Images:
    """Images that share the arrays' memory; nobody writes to it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return Images(torch.from_numpy(arrays.x), torch.from_numpy(arrays.y), arrays.classes)


def perform(
    job: Job, arrays: Arrays, store: Store, share: Share, tell: Callable[[Rows], None] | None = None, rungs: Sequence[int] = ()
) -> dict[str, Any]:
    """Run a job to its end, or take its result if it has ended before, here or anywhere else with the same content.

    Args:
        job, arrays, store, share: what, on what, where to, with what.
        tell: called now and then with the epochs that are new. rungs: epochs at which it is told at once, with a first impression.

    Returns:
        `{"metrics", "curve", "error", "seconds"}`; `error` is one line, empty if all went well.
    """
    done = store.read_json(f"{job.folder}/result.json")
    if done is not None:
        return done
    known = share.known and _Known(share.known, store, content.key(job.params, arrays.content))
    if known and (done := known.take(job)):
        return done
    if share.workers:
        _over_workers(job, arrays, store, share)
        done = store.read_json(f"{job.folder}/result.json")
        if done is None:
            raise OSError(f"the workers' result is not in {redacted(store.root)}; --storage must be shared by all machines")
    else:
        done = _here(job, arrays, store.below(job.folder), share, tell, rungs)
    if known and not done["error"]:
        known.note(job)
    return done


ALWAYS = ("network.pt", "predictions.npz")
"""What a training leaves behind, besides its result."""
ASKED_FOR = ("answers.npz", "pictures.npz")
"""And what it leaves where the judge asks for it."""


@dataclass(frozen=True)
class _Known:
    """The trainings below a folder, by content: `cache/<key>.json` says where each is."""

    root: Store
    store: Store
    """That the job belongs to."""
    key: str

    def take(self, job: Job) -> dict[str, Any] | None:
        """Copy what a job of the same content has left, if there is one and all of it is still there."""
        place = self.root.read_json(f"cache/{self.key}.json")
        folder = place and place["folder"]
        result = folder and self.root.read_json(f"{folder}/result.json")
        files = (
            {name: self.root.read(f"{folder}/{name}") for name in (*ALWAYS, *ASKED_FOR)} if result and not result["error"] else {}
        )
        if any(files.get(name) is None for name in ALWAYS):
            return None
        here = self.store.below(job.folder)
        here.write_all({name: data for name, data in files.items() if data is not None})
        done = {**result, "taken_from": folder}
        here.write_json("result.json", done)
        here.discard("checkpoint.pt")
        return done

    def note(self, job: Job) -> None:
        """Say where this content is."""
        if folder := self.store.within(self.root):
            self.root.write_json(f"cache/{self.key}.json", {"folder": f"{folder}/{job.folder}"})


def _here(
    job: Job, arrays: Arrays, files: Store, share: Share, tell: Callable[[Rows], None] | None, rungs: Sequence[int]
) -> dict[str, Any]:
    """Train in this process; with Ray Train around it, as one of several workers, of which the first keeps the files."""
    start = time.perf_counter()
    torch.set_num_threads(max(1, int(share.cpus)))
    device = torch.device("cuda" if share.gpus and torch.cuda.is_available() else "cpu")
    outcome: dict[str, Any] = {"metrics": {}, "curve": [], "error": ""}
    try:
        result = _train_and_judge(job, unpack(arrays), files, device, tell, rungs)
        if result is None:
            return outcome
        outcome |= {"metrics": dict(result.metrics.values), "curve": result.curve}
        files.write_state("network.pt", result.state["modules"])
        files.write("predictions.npz", npz(result.predictions))
        if result.answers:
            files.write("answers.npz", npz(result.answers.arrays()))
        if result.pictures:
            files.write("pictures.npz", npz(result.pictures))
    except (TrialError, InputError) as error:
        outcome["error"] = str(error)
    except Exception as error:  # whatever a method raises fails its trial, not the study
        if workers.count() > 1 or isinstance(error, OSError):
            raise  # the other workers must be stopped; a full disk may be empty for the next attempt
        outcome["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
    outcome["seconds"] = time.perf_counter() - start
    if workers.rank() == 0:
        files.write_json("result.json", outcome)
        files.discard("checkpoint.pt")
    return outcome


def _train_and_judge(
    job: Job, images: Images, files: Store, device: torch.device, tell, rungs: Sequence[int]
) -> trial.Result | None:
    """The first worker judges; the others only help to train."""
    config = TrialConfig.of(job.params)
    resume = files.read_state("checkpoint.pt")
    if workers.rank():
        parts = split(images, config.split, config.replicate, config.shadow)
        train(config, images.at(parts.members), images.at(parts.val), device=device, resume=resume)
        return None
    return trial.run(config, images, device=device, on_epoch=_Diary(files, tell, rungs), resume=resume, rungs=rungs)


class _Diary:
    """An `on_epoch` that saves, and tells what is new, at most every `CHECKPOINT_SECONDS`; at a rung it tells at once.

    Its first report begins with what a run that was cut off had behind it, which may not have been heard of.
    """

    def __init__(self, files: Store, tell: Callable[[Rows], None] | None, rungs: Sequence[int]):
        self.files, self.tell, self.rungs = files, tell, rungs
        self.told = 0
        """Epochs."""
        self.last = time.monotonic()

    def __call__(self, row: dict[str, float], bound: Bound) -> None:
        due = time.monotonic() - self.last >= CHECKPOINT_SECONDS
        if due:
            self.files.write_state("checkpoint.pt", bound.state())
            self.last = time.monotonic()
        if self.tell and (due or row["epoch"] in self.rungs):
            self.tell(bound.curve[self.told :])
            self.told = len(bound.curve)


def npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays as a file; a slash in a name would be a folder in it, so it becomes a dot."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{name.replace("/", "."): array for name, array in arrays.items()})  # pyright: ignore[reportArgumentType]
    return buffer.getvalue()


def of_npz(data: bytes) -> dict[str, np.ndarray]:
    """The inverse of `npz`; nothing in the file is executed.

    Raises:
        ValueError: it is no such file.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            return {name.replace(".", "/"): stored[name] for name in stored.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, AttributeError) as error:
        raise ValueError(str(error)) from None


def _over_workers(job: Job, arrays: Arrays, store: Store, share: Share) -> None:
    """Ray Train's TorchTrainer around `_here`; the result is in the store afterwards.

    Raises:
        OSError: a worker could not use the storage.
        TrainingFailedError: the workers died more often than is forgiven.
    """
    import uuid

    import ray
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    gpu = share.gpus > 0
    trainer = TorchTrainer(
        _worker_loop,
        train_loop_config={"job": job, "arrays": ray.put(arrays), "files": store.below(job.folder), "share": share},
        torch_config=TorchConfig(backend="nccl" if share.gpus >= 1 else "gloo"),  # NCCL wants a whole GPU a rank
        scaling_config=ray.train.ScalingConfig(
            num_workers=share.workers, use_gpu=gpu,
            resources_per_worker={"CPU": share.cpus} | ({"GPU": share.gpus} if gpu else {}),
        ),
        run_config=ray.train.RunConfig(
            # Ray Train's own records, under a name that is never met again: we resume from our own checkpoint.
            storage_path=store.below("ray").root, name=f"{job.folder.replace('/', '-')}-{uuid.uuid4().hex[:8]}",
            failure_config=ray.train.FailureConfig(max_failures=0),  # Tune tries again
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

    _here(config["job"], ray.get(config["arrays"]), config["files"], config["share"], None, ())


def tune_trial(
    suggestion: dict[str, Any], arrays: Arrays, store: Store, share: Share, seeds: int = 1, rungs: Sequence[int] = ()
) -> dict[str, Any]:
    """The Tune trainable: one suggestion of the searcher.

    Storage that cannot be used, some seconds later either, is no result of a trial: `halted` then has the reason, in one line.
    """
    for pause in (*STORAGE_PAUSES, None):
        try:
            return _perform_all(suggestion, arrays, store, share, seeds, rungs)
        except OSError as error:
            if pause is None or isinstance(error, Superseded):
                return {"halted": f"trial {suggestion['number']}: {' '.join(redacted(str(error)).split())}"}
            time.sleep(pause)
    raise AssertionError("unreachable")


def _perform_all(
    suggestion: dict[str, Any], arrays: Arrays, store: Store, share: Share, seeds: int, rungs: Sequence[int]
) -> dict[str, Any]:
    """`perform` for each seed, with the epochs of the first reported as they come; it may be stopped at a rung."""
    from ray import tune

    first, *others = seed_jobs(suggestion["number"], suggestion["params"], seeds)
    done = perform(first, arrays, store, share, tell=lambda rows: tune.report({"rows": rows}), rungs=rungs)
    if not others:
        return done
    done = averaged([done, *(perform(job, arrays, store, share) for job in others)])
    store.write_json(f"{trial_folder(suggestion['number'])}/result.json", done)
    return done
