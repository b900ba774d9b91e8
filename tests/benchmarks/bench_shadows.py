"""Do shadow models keep every core busy? Wall time of a fleet as Ray tasks, over the sum of single-core times by the cores.

    python tests/benchmarks/bench_shadows.py [--data ../shared/data/cifar10-jpeg] [--models 8] [--epochs 8] [--rounds 2]

The single-core time of a model is its training alone in this process with one thread, nothing else running. The fleet is
`trainables.fleet.train_shadows` as confirm calls it, with its files; the cluster is there before, as it is in confirm, and its
workers have been used. Both are measured in turn, in every round anew with other seeds. Demanded: at most 1.15.

Seen on 2 CPU cores (x86-64), PyTorch 2.15.0, two rounds with nothing else running:

    8 models on 2 cores: 28.3 s; alone 60.5 s; ratio 0.94
    8 models on 2 cores: 31.4 s; alone 60.4 s; ratio 1.04
    median 0.99, demanded at most 1.15: ok (load now 1.2)
"""

import argparse
import os
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import torch

from core import data, trial
from core.config import TrialConfig
from core.space import Value
from trainables import cluster
from trainables.fleet import shadow_job, train_shadows
from trainables.plan import Site
from trainables.store import Store
from trainables.trial import Arrays, Share, pack, unpack

ROOT = Path(__file__).resolve().parents[2]


def fleet(recipe: dict[str, Value], models: int, arrays: Arrays, root: Store, share: Share, cores: int) -> float:
    """Wall seconds of all as tasks."""
    start = time.perf_counter()
    train_shadows([recipe], models, arrays, root, share, cores, lambda text: None)
    return time.perf_counter() - start


def alone(recipe: dict[str, Value], models: int, arrays: Arrays) -> float:
    """Wall seconds of all in this process, one after the other."""
    start = time.perf_counter()
    for number in range(1, models + 1):
        trial.run(TrialConfig.of(shadow_job(recipe, number, arrays).params), unpack(arrays))
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default=ROOT / "../shared/data/cifar10-jpeg", type=Path, help="train.parquet, test.parquet")
    parser.add_argument("--models", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    params = {"dataset": f"parquet:{args.data}", "pool": 8000, "net": "allconv", "net.width": 16, "epochs": args.epochs}
    base = TrialConfig.of({**params, "optimizer": "adam", "optimizer.lr": 0.004, "batch_size": 64})
    images = data.load(base.dataset, pool=base.pool)
    arrays, ratios = pack(images), []
    torch.set_num_threads(1)
    with cluster.joined(Site(cpus=1.0)) as capacity, tempfile.TemporaryDirectory() as folder:
        root = Store.at(folder)
        share = cluster.shadow_share(Site(storage=folder), cluster.share_of(Site(storage=folder), capacity))
        cores = cluster.concurrency(share, capacity)
        train_shadows([base.set({"epochs": 1}).params()], cores, arrays, root, share, cores, lambda text: None)
        for turn in range(args.rounds):
            recipe = base.set({"optimizer.lr": 0.004 + 1e-6 * turn}).params()
            sides = {
                "fleet": partial(fleet, recipe, args.models, arrays, root, share, cores),
                "alone": partial(alone, recipe, args.models, arrays),
            }
            seconds = {name: sides[name]() for name in sorted(sides, reverse=bool(turn % 2))}
            ratios.append(seconds["fleet"] / (seconds["alone"] / cores))
            print(f"{args.models} models on {cores} cores: {seconds['fleet']:.1f} s; alone {seconds['alone']:.1f} s; "
                  f"ratio {ratios[-1]:.2f}", flush=True)  # fmt: skip
    verdict = "ok" if statistics.median(ratios) <= 1.15 else "MISSED"
    print(f"median {statistics.median(ratios):.2f}, demanded at most 1.15: {verdict} (load now {os.getloadavg()[0]:.1f})")


if __name__ == "__main__":
    main()
