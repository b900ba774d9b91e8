"""The two schedules of the Square attack: rescaled to the number of queries, and that of AutoAttack, which is cut off after them.

    python tests/benchmarks/bench_square.py --data DIR [--images N] [--seeds S]

DIR holds the parquet folders mnist and cifar10-jpeg. The networks are trained at the start. Each cell is the number of correctly
classified images, over all seeds, that remain correct: rescaled / cut off. Fewer is a stronger attack.
"""

import argparse
import time
from pathlib import Path

import torch

from core import data, rng
from core.attacks.square import square
from core.attacks.suite import correct
from core.config import TrialConfig
from core.modes import as_float
from core.train import train

BASE = {"net": "convnet", "net.width": 16}
PGD = {"perturbation": "pgd", "perturbation.steps": 2, "perturbation.alpha": 0.5}
CASES = [  # name, data set, pool, epochs, training, radii
    ("digits", "digits", 0, 40, {}, {"linf": 0.1, "l2": 0.5}),
    ("digits, PGD-trained", "digits", 0, 40, {**PGD, "perturbation.epsilon": 0.1}, {"linf": 0.1, "l2": 0.5}),
    ("MNIST", "mnist", 4000, 12, {}, {"linf": 0.1, "l2": 1.0}),
    ("CIFAR-10", "cifar10-jpeg", 6000, 25, {}, {"linf": 2 / 255, "l2": 0.25}),
    ("CIFAR-10, PGD-trained", "cifar10-jpeg", 6000, 15, {**PGD, "perturbation.epsilon": 4 / 255}, {"linf": 6 / 255, "l2": 0.4}),
]


def main() -> None:
    """Train the networks, attack them with both schedules, and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=80)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--queries", type=int, nargs="+", default=[100, 500, 5000])
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| network | norm | correct | " + " | ".join(f"{q} queries" for q in args.queries) + " |")
    for name, source, pool, epochs, training, radii in CASES:
        dataset = source if source == "digits" else f"parquet:{args.data / source}"
        config = TrialConfig.of({**BASE, **training, "dataset": dataset, "pool": pool, "epochs": epochs})
        images = data.load(dataset, pool=pool)
        parts = data.split(images, config.split)
        net = train(config, images.at(parts.members), images.at(parts.val)).net
        chosen = images.at(parts.test[: args.images])
        x, y = as_float(chosen.x), chosen.y
        keep = correct(net, x, y)
        x, y = x[keep], y[keep]
        for norm, epsilon in radii.items():
            start, cells = time.perf_counter(), []
            for queries in args.queries:
                left = [0, 0]
                for seed in range(args.seeds):
                    noise = rng.per_image(seed, "attack", ids=torch.arange(len(y)))
                    for i, rescale in enumerate((True, False)):
                        adv = square(net, x, y, epsilon=epsilon, norm=norm, queries=queries, rescale=rescale, draw=noise)
                        left[i] += int(correct(net, adv, y).sum())
                cells.append(f"{left[0]} / {left[1]}")
            seconds = time.perf_counter() - start
            print(f"| {name} | {norm} {epsilon:.3f} | {args.seeds * len(y)} | {' | '.join(cells)} | {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
