"""Utilisation of the CPU cores by shadow training: wall time as Ray tasks over the sum of single-core times by the number of cores.

    python tests/benchmarks/bench_shadows.py [--data ../shared/data/cifar10-jpeg] [--models 8] [--epochs 8] [--rounds 2]

The single-core time of a model is that of its training alone in this process with one thread. Shadow training is
`trainables.execution.shadows.train_shadows` as the confirmation step calls it, with its files; the cluster has been started, and
its workers have been used, as in the confirmation step. Both are measured in every round, with another recipe per round.
Required: at most 1.15.

Results on 2 CPU cores (x86-64), PyTorch 2.15.0, two rounds without other work on the machine:

    8 models on 2 cores: 28.3 s; alone 60.5 s; ratio 0.94
    8 models on 2 cores: 31.4 s; alone 60.4 s; ratio 1.04
    median 0.99, required at most 1.15: ok (load now 1.2)
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from core import data, trial
from core.config import TrialConfig
from core.space import Value
from trainables.execution import cluster
from trainables.execution.resources import from_shared
from trainables.execution.shadows import train_shadows
from trainables.execution.tasks import Executor
from trainables.storage.jobs import shadow_job
from trainables.storage.store import Store
from trainables.study.site import Site

ROOT = Path(__file__).resolve().parents[2]
MAX_RATIO = 1.15


def train_as_tasks(recipe: dict[str, Value], models: int, executor: Executor) -> None:
    """Train all models as Ray tasks."""
    (jobs,) = train_shadows([recipe], models, executor)
    assert len(jobs) == models


def train_alone(recipe: dict[str, Value], models: int, executor: Executor) -> None:
    """Train all models in this process, one after the other."""
    for number in range(1, models + 1):
        job = shadow_job(recipe, number, executor.images.content)
        trial.run(TrialConfig.of(job.params), from_shared(executor.images))


def seconds_of(work: Callable[[], None]) -> float:
    """Wall seconds of a call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Print the ratio of each round, and the median."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default=ROOT / "../shared/data/cifar10-jpeg", type=Path, help="train.parquet, test.parquet")
    parser.add_argument("--models", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    params = {"dataset": f"parquet:{args.data}", "pool": 8000, "net": "allconv", "net.width": 16, "epochs": args.epochs}
    base = TrialConfig.of({**params, "optimizer": "adam", "optimizer.lr": 0.004, "batch_size": 64})
    images, ratios = data.load(base.dataset, pool=base.pool), []
    torch.set_num_threads(1)
    site = Site(cpus_per_worker=1.0)
    with cluster.joined(site) as capacity, tempfile.TemporaryDirectory() as folder:
        executor = cluster.executor(site, capacity, images, Store.at(folder).below("bench"))
        cores = executor.shadow_limit()
        train_as_tasks(base.set({"epochs": 1}).params(), cores, executor)
        for i in range(args.rounds):
            recipe = base.set({"optimizer.lr": 0.004 + 1e-6 * i}).params()
            methods = {name: partial(train, recipe, args.models, executor)
                       for name, train in (("alone", train_alone), ("tasks", train_as_tasks))}  # fmt: skip
            seconds = {name: seconds_of(methods[name]) for name in sorted(methods, reverse=bool(i % 2))}
            ratios.append(seconds["tasks"] / (seconds["alone"] / cores))
            print(f"{args.models} models on {cores} cores: {seconds['tasks']:.1f} s; alone {seconds['alone']:.1f} s; "
                  f"ratio {ratios[-1]:.2f}", flush=True)  # fmt: skip
    median = statistics.median(ratios)
    verdict = "ok" if median <= MAX_RATIO else "MISSED"
    print(f"median {median:.2f}, required at most {MAX_RATIO}: {verdict} (load now {os.getloadavg()[0]:.1f})")


if __name__ == "__main__":
    main()
