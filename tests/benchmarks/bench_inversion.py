"""Time of the inversion audit of one small network, and the time that batching classes and restarts saves.

    python tests/benchmarks/bench_inversion.py [--data ../shared/data/cifar10-jpeg]

The all-conv net of width 16 on 32x32 photographs: gradient ascent of 1,000 steps for 10 classes x 4 restarts in one batch, search
for the nearest of 2,000 members and 1,000 held-out images, and the permutation test; then the ascents alone, in one batch and one
by one (100 and 25 steps, scaled to 1,000). One thread. Required: under a minute for the whole audit.

Results on 2 CPU cores (x86-64) with other work on them, PyTorch 2.15.0:

    whole audit: 11.9 s, 11.8 CPU s (load 2.1)
    40 ascents of 1,000 steps: in one batch 11.2 CPU s, one by one 35.7 CPU s
"""

import argparse
import os
import time
from pathlib import Path

import torch

from core import data, train
from core.config import TrialConfig
from core.inversion.ascent import constant, gradient_ascent
from core.inversion.leak import invert

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Print the times."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default=ROOT / "../shared/data/cifar10-jpeg", type=Path, help="train.parquet, test.parquet")
    args = parser.parse_args()
    torch.set_num_threads(1)
    images = data.load(f"parquet:{args.data}", pool=8000)
    parts = data.split(images)
    config = TrialConfig.of({"net": "allconv", "net.width": 16, "epochs": 2, "optimizer": "adam", "optimizer.lr": 0.004})
    net = train.train(config, images.at(parts.members), images.at(parts.val)).net
    start, cpu = time.perf_counter(), time.process_time()
    invert(net, images, parts.members, parts.val, restarts=4, iterations=1000)
    print(
        f"whole audit: {time.perf_counter() - start:.1f} s, {time.process_time() - cpu:.1f} CPU s (load {os.getloadavg()[0]:.1f})"
    )
    classes = torch.arange(10).repeat_interleave(4)
    grey = constant(40, images.shape)
    seconds = {"in one batch": 0.0, "one by one": 0.0}
    for _ in range(3):
        start = time.process_time()
        gradient_ascent(net, classes, grey, lr=0.1, iterations=100)
        seconds["in one batch"] += 10 * (time.process_time() - start) / 3
        start = time.process_time()
        for i in range(40):
            gradient_ascent(net, classes[i : i + 1], grey[i : i + 1], lr=0.1, iterations=25)
        seconds["one by one"] += 40 * (time.process_time() - start) / 3
    print(f"40 ascents of 1,000 steps: {', '.join(f'{name} {s:.1f} CPU s' for name, s in seconds.items())}")


if __name__ == "__main__":
    main()
