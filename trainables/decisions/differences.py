"""Whether the fronts of several studies can be distinguished, by their confirmed hypervolumes."""

import math
from collections.abc import Sequence
from itertools import combinations

from core.estimates import Difference
from core.stats import Interval, normal_quantile
from trainables.decisions.fronts import StudyFront
from trainables.study.text import comparison_text


def difference(one: StudyFront, other: StudyFront, pairs: int = 1) -> tuple[float, Interval]:
    """The confirmed hypervolume of one study minus that of another, and its 95 % interval.

    The interval is that of the difference of independent estimates with intervals of their own (MOVER, Zou and Donner 2008); for
    symmetric ones it adds the variances. For several pairs it is wider, so that all hold at once (Bonferroni).
    """
    value = one.hypervolume - other.hypervolume
    wider = normal_quantile(1 - 0.05 / pairs) / normal_quantile(0.95)
    below = math.hypot(one.hypervolume - one.interval.low, other.interval.high - other.hypervolume)
    above = math.hypot(one.interval.high - one.hypervolume, other.hypervolume - other.interval.low)
    return value, Interval(value - wider * below, value + wider * above)


def difference_lines(fronts: Sequence[StudyFront]) -> list[str]:
    """Whether the fronts of each two confirmed studies can be distinguished, one line each, and what that assumes."""
    pairs = list(combinations([front for front in fronts if math.isfinite(front.hypervolume)], 2))
    lines = []
    for one, other in pairs:
        value, (low, high) = difference(one, other, len(pairs))
        better = one.name if low > 0 else other.name if high < 0 else ""
        verdict = f"the front of {better} is better" if better else "the fronts cannot be distinguished"
        if not math.isfinite(high - low):
            verdict += ", because there is no interval without two replicates per point"
        compared = comparison_text("hypervolume", one.name, other.name, Difference(value, Interval(low, high)), decimals=4)
        lines.append(f"{compared}: {verdict}")
    if not pairs:
        return []
    every = "" if len(pairs) == 1 else f"all {len(pairs)} intervals hold at once; "
    return [
        *lines,
        f"assumed: {every}the errors of the studies are independent. Their networks are judged on images of the same pool, which "
        "makes the intervals too wide rather than too narrow.",
    ]
