"""Speedup of one training by two Ray Train workers over one, with a CPU core for each worker.

    python tests/benchmarks/bench_workers.py [--rounds 3] [--width 64]

One training through `trainables.execution.trainable.run_job` with one and with two workers, alternating: allconv of width 64 (no
batch norm) on 2,000 random colour images of 32 x 32, batches of 256, one thread per worker, gloo. Compared is the median of
`epoch/seconds` without the first epoch, so that neither Ray's start nor the evaluation counts. Required: 1.6x. The losses of both
are compared, too.

RESULTS: see infra/scale.md.
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def train(workers: int, folder: str, name: str, width: int) -> tuple[float, list[float]]:
    """Median seconds of an epoch, and the loss of each epoch."""
    import torch

    from core.config import TrialConfig
    from core.data import Images
    from trainables.execution.resources import Share, Workspace, to_shared
    from trainables.execution.trainable import run_job
    from trainables.storage.jobs import Job
    from trainables.storage.store import Store

    stream = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (4000, 3, 32, 32), dtype=torch.uint8, generator=stream)
    y = torch.arange(4000) % 10
    config = TrialConfig().set(
        {"net": "allconv", "net.width": width, "epochs": 5, "batch_size": 256, "judge.steps": 1, "judge.images": 8}
    )
    store = Store.at(folder).below(name)  # a cache for each training, so that none is reused
    result = run_job(Job(name, config.params()), to_shared(Images(x, y, 10)), Workspace(Share(workers, 1.0, 0.0), store, store))
    assert not result.error, result.error
    return statistics.median(row["epoch/seconds"] for row in result.curve[1:]), [row["epoch/loss"] for row in result.curve]


def main() -> None:
    """Print the speedup of each round, and the median."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--width", type=int, default=64)
    args = parser.parse_args()
    from trainables.execution import cluster
    from trainables.study.site import Site

    print(f"{os.cpu_count()} CPU cores ({platform.machine()}), torch {version('torch')}, ray {version('ray')}, "
          f"load {os.getloadavg()[0]:.1f}")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, cluster.joined(Site()):
        ratios = []
        for i in range(args.rounds):
            (one, one_losses), (two, two_losses) = (train(n, folder, f"{n}-{i}", args.width) for n in (1, 2))
            ratios.append(one / two)
            difference = max(abs(a - b) / a for a, b in zip(one_losses, two_losses, strict=True))
            print(f"an epoch: 1 worker {one:.2f} s, 2 workers {two:.2f} s, {one / two:.2f}x; "
                  f"losses differ by {difference:.1e}", flush=True)  # fmt: skip
    print(f"2 workers are {statistics.median(ratios):.2f}x as fast [{min(ratios):.2f}-{max(ratios):.2f}]")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
