"""What it takes to score 20,000 images by LiRA with 64 shadow models, beside a loop over images with scipy.

    python tests/benchmarks/bench_lira.py [--images 20000] [--models 64] [--rounds 5]

One process, one thread, CPU time, the two sides in turns; medians. The loop takes a tenth of the images, and its time is scaled.
Online LiRA with each image's own variance has to take at most 0.3 s, and the loop at least 40 times as long; the last line says
whether both hold, and so does the exit status. The scores of both agree to 1e-6, or nothing is timed.

Measured on 2 CPU cores with numpy 2.4 and scipy 1.17, other work beside (load 3):

    20,000 images, 64 models, 5 rounds
    vectorised  0.055 s [0.054-0.057]   at most 0.3
    loop        2.564 s [2.533-2.946]
    ratio         47.0     at least 40
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import scipy.stats

from core.audits import lira

SECONDS, RATIO = 0.3, 40


def looped(target: np.ndarray, shadows: np.ndarray, state: np.ndarray) -> np.ndarray:
    """The same for one image after the other, as the paper writes it."""
    scores = []
    for n in range(len(target)):
        inside, outside = shadows[state[:, n] > 0, n], shadows[state[:, n] < 0, n]
        log_in = scipy.stats.norm.logpdf(target[n], np.median(inside), np.std(inside))
        scores.append(log_in - scipy.stats.norm.logpdf(target[n], np.median(outside), np.std(outside)))
    return np.array(scores)


def seconds(run: Callable[[], object]) -> float:
    """CPU time of one call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def main() -> int:
    """Print the medians; 1 if they are not good enough."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--models", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    stream = np.random.default_rng(0)
    state = np.where(stream.random((args.models, args.images)).argsort(0) < args.models // 2, 1, -1).astype(np.int8)
    level = stream.normal(0, 3, args.images)
    shadows = level + stream.normal(size=state.shape) * np.where(state > 0, 2, 1) + (state > 0)
    target = level + stream.normal(size=args.images)
    some = slice(0, args.images // 10)
    part = target[some], shadows[:, some], state[:, some]
    np.testing.assert_allclose(lira.online(target, shadows, state, "sample")[some], looped(*part), rtol=1e-6)
    scale = args.images / len(part[0])
    ours, theirs = [], []
    for _ in range(args.rounds):
        ours.append(seconds(lambda: lira.online(target, shadows, state, "sample")))
        theirs.append(scale * seconds(lambda: looped(*part)))
    mine, loop = statistics.median(ours), statistics.median(theirs)
    ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
    good = mine <= SECONDS and ratio >= RATIO
    print(f"{args.images:,} images, {args.models} models, {args.rounds} rounds")
    print(f"vectorised {mine:6.3f} s [{min(ours):.3f}-{max(ours):.3f}]   at most {SECONDS}")
    print(f"loop       {loop:6.3f} s [{min(theirs):.3f}-{max(theirs):.3f}]")
    print(f"ratio      {ratio:6.1f}     at least {RATIO}")
    print("good" if good else "NOT GOOD ENOUGH")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
