"""Attacks of core/attacks against those of torchattacks, Foolbox and ART: results, speed, and limits of speed.

    python3 -m venv /tmp/bench && /tmp/bench/bin/pip install -e .
    /tmp/bench/bin/pip install --no-deps -r tests/benchmarks/requirements-attacks.txt
    /tmp/bench/bin/python tests/benchmarks/bench_attacks.py [agreement speed bound count strong] [--quick] [--data DIR]

The networks are trained at the start and kept in --cache: the all-conv net of width 16 on 8,000 CIFAR-10 images without any
defence, continued with PGD (8/255), and continued with BPFC; and ResNet-18 on 512 images for a few epochs, which is enough to
time attacks and not enough for conclusions about ResNet-18. All attacks are evaluated on images outside the training sets.

    agreement  Robust accuracy, or L2 norm of the perturbation, of our attack and the other library's, on the same networks and
               images. A difference of robust accuracies beyond twice its binomial standard error (as if the images differed), or
               of mean norms beyond 0.1 % and twice the standard error of the paired difference, is marked. "alone" counts the
               images that only one of the two fooled.
    speed      CPU time of one process with one thread, implementations in alternating order; median [range] over rounds of
               theirs / ours in the same round, with the required ratio. Only images that the network classifies correctly, so
               that no implementation may skip any. Our attacks are called as core/evaluation calls them, with networks and images
               in channels-last format; the other libraries receive contiguous ones; all receive at most 256 images at a time.
    bound      The forward and input-gradient pass of each convolution alone, at its real shapes, and the share of that rate that
               the PGD loop reaches.
    count      Image-steps (images that pass forward with a gradient) against 1.15 x robust x steps + 8 x fooled, restart by
               restart; and verdicts of our loop with early exits against those of the plain loop from the same start.
    strong     The suite `strong` against AutoAttack's standard version. That of torchattacks runs APGD and FAB for 10 steps; here
               its attacks are combined with the 100 steps of the paper.

Results on 2 CPU cores (x86-64), PyTorch 2.15.0, torchattacks 3.5.1, Foolbox 3.3.4, ART 1.20.1, one run of 28 minutes in all:

    agreement  PGD-20, APGD-CE, targeted APGD, Square, SPSA: no difference to any library beyond 0.8 points with 256 images or
               more (sampling error 2 to 4), nor beyond 2.1 with fewer (5 to 10). DeepFool: mean norm within 0.01 % of
               torchattacks and 0.03 % of Foolbox; ART's is 1.2 to 1.5 % larger, because its step uses another candidate class.
               C&W: equal to Foolbox's (0.00 %, with and without a search; 0.11 +- 0.11 % on one net). torchattacks' C&W is 0.1 to
               2.4 % larger: it ends the whole batch early, and its margin counts the other classes' logits as at least 0.
    speed      net and robust share             attack    theirs / ours (required): torchattacks, Foolbox, ART
               all-conv natural, 45 %           PGD-20    1.80 (1.5)   2.51 (2)    2.71 (2)
                                                PGD-50    2.35 (2)
                                                PGD-100   4.52 (2.5)
               all-conv PGD-trained, 25 %       PGD-20    3.32 (1.5)   4.75 (2)    5.20 (2)
                                                PGD-50    4.07 (2)
                                                PGD-100   5.39 (2.5)
               all-conv PGD-trained, 48 %       PGD-20    1.82 (1.5)   2.46 (2)    2.67 (2)
                                                PGD-50    2.10 (2)
                                                PGD-100   2.59 (2.5)
               all-conv natural                 DeepFool  6.24 (4)     5.15 (4)    23
                                                C&W       2.04 (1.5)   2.07        19
               all-conv PGD-trained             DeepFool  5.34 (4)     7.63 (4)
                                                C&W       1.56 (1.5)   1.54
               ResNet-18 natural, 56 %          PGD-10    1.28 (1)     2.02 (1.5)  2.14 (1.5)
               ResNet-18 PGD-trained, 62 %      PGD-10    1.30 (1)     2.05 (1.5)  2.22 (1.5)
               ResNet-18 PGD-trained, 100 %     PGD-10    1.02 (1)     1.56 (1.5)  1.66 (1.5)
               ResNet-18 natural, 4 images      DeepFool  2.79         2.84
                                                C&W       1.56 (1.5)   1.55
               With other work on the cores the ratios fall: DeepFool on the natural net was then 3.84 times as fast as Foolbox.
    bound      all-conv, 256 images: 88 % [82-90]; ResNet-18, 16 images: 93 % [91-97]
    count      0.39 to 0.86 of the limit in all twelve rows; no verdict differs from that of the plain loop
    strong     natural at 1/255: 34.5 % and theirs 34.5 %; PGD-trained at 8/255: 17.0 and 17.0; BPFC at 8/255: 10.5 and 10.5;
               200 images each, in 0.5 to 0.6 of their CPU time
"""

import argparse
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from attack_bench.agreement import agreement, strong
from attack_bench.networks import TRAININGS, Networks
from attack_bench.speed import speed
from attack_bench.work import bound, count

from core import data, memory
from core.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
SECTIONS: dict[str, Callable[[Networks, bool], None]] = {
    "agreement": agreement, "speed": speed, "bound": bound, "count": count, "strong": strong,
}  # fmt: skip


def main() -> None:
    """Train the networks that are not cached, and print the sections."""
    parser = argparse.ArgumentParser()
    parser.add_argument("sections", nargs="*", metavar="section", help=f"of {', '.join(SECTIONS)}; default all")
    parser.add_argument("--quick", action="store_true", help="fewer images and rounds, under five minutes")
    parser.add_argument("--data", default=ROOT / "../shared/data/cifar10-jpeg", type=Path, help="train.parquet, test.parquet")
    parser.add_argument("--cache", default=Path(tempfile.gettempdir()) / "trilemma-bench-attacks", type=Path)
    args = parser.parse_args()
    if unknown := set(args.sections) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; expected some of: {', '.join(SECTIONS)}")
    warnings.filterwarnings("ignore")
    memory.keep_freed()
    torch.set_num_threads(1)
    packages = ("torch", "torchattacks", "foolbox", "adversarial-robustness-toolbox")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    print(f"{os.cpu_count()} CPU cores ({platform.machine()}), {versions}, load {os.getloadavg()[0]:.1f}", flush=True)
    try:
        networks = Networks(args.cache, data.load(f"parquet:{args.data}", pool=32000))
    except InputError as error:
        raise SystemExit(f"{error}; --data names the folder of CIFAR-10") from None
    for name in TRAININGS:
        networks.bound(name)
    for name in args.sections or SECTIONS:
        start, cpu = time.perf_counter(), time.process_time()
        SECTIONS[name](networks, args.quick)
        print(f"{name}: {time.perf_counter() - start:.0f} s, {time.process_time() - cpu:.0f} CPU s", flush=True)


if __name__ == "__main__":
    main()
