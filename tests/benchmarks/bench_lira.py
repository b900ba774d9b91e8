"""Time of scoring 20,000 images by LiRA with 64 shadow models, compared with a loop over images with scipy.

    python tests/benchmarks/bench_lira.py [--images 20000] [--models 64] [--rounds 5]

One process, one thread, CPU time, both in turns; medians. The loop scores a tenth of the images, and its time is scaled. Required:
online LiRA with a variance per image takes at most 0.3 s, and the loop at least 40 times as long; the last line and the exit code
show whether both hold. The scores must agree to 1e-6, otherwise nothing is timed.

Results on 2 CPU cores with numpy 2.4 and scipy 1.17 and other work on the machine (load 3):

    20,000 images, 64 models, 5 rounds
    vectorised  0.055 s [0.054-0.057]   at most 0.3
    loop        2.564 s [2.533-2.946]
    ratio         47.0     at least 40
    ok
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import scipy.stats

from core.audits import lira

MAX_SECONDS, MIN_RATIO = 0.3, 40


def looped(target: np.ndarray, shadows: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Scores of online LiRA, one image after the other, in the notation of the paper."""
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


def median_and_range(values: list[float]) -> str:
    """Median and range of seconds as text."""
    return f"{statistics.median(values):6.3f} s [{min(values):.3f}-{max(values):.3f}]"


def main() -> int:
    """Print the medians; returns 0 if they are as required, otherwise 1."""
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
    tenth = slice(0, args.images // 10)
    part = target[tenth], shadows[:, tenth], state[:, tenth]
    np.testing.assert_allclose(lira.online(target, shadows, state, "sample")[tenth], looped(*part), rtol=1e-6)
    scale = args.images / len(part[0])
    vectorised, looped_seconds = [], []
    for _ in range(args.rounds):
        vectorised.append(seconds(lambda: lira.online(target, shadows, state, "sample")))
        looped_seconds.append(scale * seconds(lambda: looped(*part)))
    ratio = statistics.median(b / a for a, b in zip(vectorised, looped_seconds, strict=True))
    ok = statistics.median(vectorised) <= MAX_SECONDS and ratio >= MIN_RATIO
    print(f"{args.images:,} images, {args.models} models, {args.rounds} rounds")
    print(f"vectorised {median_and_range(vectorised)}   at most {MAX_SECONDS}")
    print(f"loop       {median_and_range(looped_seconds)}")
    print(f"ratio      {ratio:6.1f}     at least {MIN_RATIO}")
    print("ok" if ok else "MISSED")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
