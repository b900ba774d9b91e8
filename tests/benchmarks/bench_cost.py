"""Cost of an epoch of each training method, in epochs of cross-entropy, against the number of its passes.

    python tests/benchmarks/bench_cost.py [--net allconv] [--width 16] [--size 32] [--images 1024] [--rounds 5]

One forward and one backward pass over a batch is 1. Expected: BPFC 2 (two forward passes and one backward over both), PGD
with n steps on adversarial images alone n + 1, FGSM and R-FGSM with half of the loss on clean images 3 (attack, two sides),
random noise 2, RSS in addition to FGSM alone 4 (attacks on 2B, training on 2B). GAT with k = 1: for the classifier 5 (input
gradient and loss of the generator's step; input gradient and two losses of the classifier's step); its generator's two forward
passes and one backward pass are measured and added in units of the same epoch. AdvReg: 1, a forward pass over all members and
reference images (1/3 of a pass), and the pass of the inference network, as measured. DMP: 1, over half of the images in each
phase (printed per image).

All methods train the same network from the same seed in one process with one thread, in turns; ratios are those of the CPU time to
cross-entropy's in the same round. Required: at most 1.3x the number of passes.

Results on 2 CPU cores with torch 2.15 and other work on the machine, `--images 512 --rounds 3`; median [range] of time /
cross-entropy's. All methods are as required. The paper's GAT generator (width 48) is far larger than this classifier: 28.8 of 33.8.

    method                expected             measured   measured / expected
    cross_entropy             1.00     1.00 [1.00-1.00]                  1.00
    label_smoothing           1.00     1.01 [0.99-1.05]                  1.01
    confidence_penalty        1.00     1.07 [1.02-1.21]                  1.07
    relaxloss                 1.00     1.03 [1.02-1.04]                  1.03
    imp_relaxloss             1.00     1.00 [1.00-1.04]                  1.00
    centre_loss               1.00     1.02 [1.02-1.04]                  1.02
    crl                       1.00     1.03 [1.00-1.06]                  1.03
    dmp                       1.00     1.23 [1.21-1.24]                  1.23
    advreg                    1.92     2.25 [2.23-2.32]                  1.17
    mixup                     1.00     1.05 [1.02-1.06]                  1.05
    l1                        1.00     1.03 [1.03-1.09]                  1.03
    l1 proximal               1.00     1.02 [1.01-1.10]                  1.02
    elastic_net               1.00     1.01 [1.00-1.11]                  1.01
    activation_sparsity       1.00     1.16 [1.14-1.34]                  1.16
    noise                     2.00     1.97 [1.92-2.13]                  0.99
    fgsm                      3.00     2.87 [2.86-3.09]                  0.96
    rfgsm                     3.00     3.01 [2.91-3.34]                  1.00
    rss                       4.00     4.06 [3.88-4.58]                  1.02
    pgd-3                     4.00     3.74 [3.72-3.84]                  0.94
    pgd-7                     8.00     7.17 [7.09-7.49]                  0.90
    bpfc                      2.00     2.03 [1.99-2.06]                  1.01
    gat k=1                  33.77  33.52 [33.38-33.61]                  0.99
"""

import argparse
import os
import statistics
import time
from dataclasses import dataclass

import torch

from core import train
from core.bound import bind
from core.config import TrialConfig
from core.data import Images
from core.perturbations.gat import build_generator
from core.regularizers.advreg import InferenceNet
from core.space import Value

MAX_RATIO = 1.3
GAT, ADVREG = "gat k=1", "advreg"


@dataclass(frozen=True)
class Row:
    """A training method."""

    changes: dict[str, Value]
    """Settings that differ from the defaults."""
    passes: float
    """Number of forward and backward passes per image."""


def pgd(steps: int) -> Row:
    """PGD on adversarial images alone."""
    return Row({"perturbation": "pgd", "perturbation.steps": steps}, steps + 1)


ROWS = {
    "cross_entropy": Row({}, 1),
    "label_smoothing": Row({"loss": "label_smoothing"}, 1),
    "confidence_penalty": Row({"loss": "confidence_penalty"}, 1),
    "relaxloss": Row({"loss": "relaxloss"}, 1),
    "imp_relaxloss": Row({"loss": "imp_relaxloss"}, 1),
    "centre_loss": Row({"loss": "centre_loss"}, 1),
    "crl": Row({"loss": "crl"}, 1),
    "dmp": Row({"loss": "dmp"}, 1),
    ADVREG: Row({"regularizer": "advreg"}, 4 / 3),
    "mixup": Row({"augmentation": "mixup"}, 1),
    "l1": Row({"regularizer": "l1"}, 1),
    "l1 proximal": Row({"regularizer": "l1", "regularizer.proximal": True}, 1),
    "elastic_net": Row({"regularizer": "elastic_net"}, 1),
    "activation_sparsity": Row({"regularizer": "activation_sparsity"}, 1),
    "noise": Row({"perturbation": "noise"}, 2),
    "fgsm": Row({"perturbation": "fgsm"}, 3),
    "rfgsm": Row({"perturbation": "rfgsm"}, 3),
    "rss": Row({"perturbation": "fgsm", "perturbation.alpha": 0.0, "regularizer": "rss"}, 4),
    "pgd-3": pgd(3),
    "pgd-7": pgd(7),
    "bpfc": Row({"regularizer": "bpfc"}, 2),
    GAT: Row({"perturbation": "gat"}, 5),
}


def seconds(config: TrialConfig, images: Images) -> float:
    """CPU seconds per training image of two epochs of `core.train.train`, without its other work."""
    bound = bind(config, images, torch.device("cpu"))
    training_data = train._TrainingData(config, bound, images)
    start, seen = time.process_time(), 0
    for epoch in (1, 2):
        seen += len(training_data.of(epoch)[0].y)
        train._epoch(config, bound, training_data, epoch)
    return (time.process_time() - start) / seen


def generator_seconds(config: TrialConfig, images: Images) -> float:
    """CPU seconds per image of two forward passes and one backward pass of GAT's generator."""
    generator = build_generator(images.shape[0], config.perturbation.width).to(memory_format=torch.channels_last)
    start = time.process_time()
    for part in images.x.split(config.batch_size):
        x = (part.float() / 255).to(memory_format=torch.channels_last)
        with torch.no_grad():
            generator(x)
        torch.autograd.grad(generator(x).sum(), list(generator.parameters()))
    return (time.process_time() - start) / len(images.y)


def inference_seconds(images: Images) -> float:
    """CPU seconds per training image of a pass of AdvReg's inference network, on equal numbers of members and reference images."""
    inference, count = InferenceNet(images.classes), 0
    adam = torch.optim.Adam(inference.parameters(), lr=1e-3)
    start = time.process_time()
    for rows in torch.arange(int(0.8 * len(images.y))).split(64):
        logits, classes = torch.randn(2 * len(rows), images.classes), torch.zeros(2 * len(rows), dtype=torch.int64)
        adam.zero_grad()
        inference(logits, classes).sum().backward()
        adam.step()
        count += len(rows)
    return (time.process_time() - start) / count


def main() -> None:
    """Print the cost of each method."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--net", default="allconv")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    stream = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (args.images, 3, args.size, args.size), generator=stream).to(torch.uint8)
    images = Images(x, torch.arange(args.images) % 10, 10)
    train.memory.keep_freed()
    base = TrialConfig.of({"net": args.net, "net.width": args.width, "epochs": 2, "optimizer.lr": 0.001})
    configs = {name: base.set(row.changes) for name, row in ROWS.items()}
    print(f"{os.cpu_count()} CPU cores, torch {torch.__version__}, {args.net} of width {args.width}, {args.images} images of "
          f"{args.size}x{args.size}, {args.rounds} rounds; median [range] of time / cross-entropy's")  # fmt: skip
    ratios: dict[str, list[float]] = {name: [] for name in ROWS}
    extra: dict[str, list[float]] = {GAT: [], ADVREG: []}
    for i in range(args.rounds + 1):
        times = {name: seconds(config, images) for name, config in configs.items()}
        more = {GAT: generator_seconds(configs[GAT], images), ADVREG: inference_seconds(images)}
        if i:  # the first round warms up
            for name, own in times.items():
                ratios[name].append(own / times["cross_entropy"])
            for name, own in more.items():
                extra[name].append(own / times["cross_entropy"])
    print(f"{'method':20} {'expected':>9} {'measured':>20} {'measured / expected':>21}")
    for name, row in ROWS.items():
        expected = row.passes + (statistics.median(extra[name]) if name in extra else 0)
        measured = statistics.median(ratios[name])
        over = "  MORE THAN 1.3x" if measured > MAX_RATIO * expected else ""
        spread = f"{measured:.2f} [{min(ratios[name]):.2f}-{max(ratios[name]):.2f}]"
        print(f"{name:20} {expected:9.2f} {spread:>20} {measured / expected:21.2f}{over}")


if __name__ == "__main__":
    main()
