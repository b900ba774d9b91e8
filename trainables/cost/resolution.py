"""Sentences about the differences and rates that the numbers of images in a plan can resolve."""

import math

from core.audits.roc import MIN_FALSE_POSITIVES, unresolved
from core.audits.threshold import FPRS
from core.config import TrialConfig
from core.data import Images
from core.evaluation.stored import member_rows
from core.stats import normal_quantile, wilson
from trainables.study.plan import Plan

CORRELATION = 0.5
"""Assumed correlation between the AUCs of two networks that are audited on the same images."""


def null_error(members: int, non_members: int) -> float:
    """Standard error of an AUC whose scores do not depend on membership: sqrt((m + n + 1) / (12 m n)) (Mann and Whitney 1947).

    It is the value at AUC 0.5 of the errors of Hanley and McNeil (1982) and DeLong (1988); it shrinks towards AUC 1.
    """
    return math.sqrt((members + non_members + 1) / (12 * members * non_members))


def smallest_auc(members: int, non_members: int, level: float = 0.95) -> float:
    """The AUC of a single audit above which it differs from 0.5 at a level, two-sided."""
    return 0.5 + normal_quantile(level) * null_error(members, non_members)


def smallest_difference(members: int, non_members: int, correlation: float = CORRELATION, level: float = 0.95) -> float:
    """The difference above which the AUCs of one audit on two networks differ at a level: z * error * sqrt(2 (1 - correlation)).

    Both networks are audited on the same images (Hanley and McNeil 1983, with equal errors).
    """
    return normal_quantile(level) * null_error(members, non_members) * math.sqrt(2 * (1 - correlation))


def largest_half_width(count: int) -> float:
    """Half of the width of the 95 % interval of a share of 0.5 of some images; other shares have narrower ones."""
    low, high = wilson(count // 2, count)
    return (high - low) / 2


def lowest_rate(non_members: int) -> float:
    """The lowest false-positive rate whose true-positive rate can be reported; see `core.audits.roc.unresolved`."""
    return min(1.0, MIN_FALSE_POSITIVES / non_members)


def sentences(plan: Plan, images: Images) -> list[str]:
    """Describe the resolution of the sweep and of the confirmation step."""
    lines = _of_step("sweep", plan.config, images)
    return lines + (_of_step("confirmation, per network", plan.config.set(plan.confirm), images) if plan.replicates else [])


def _of_step(step: str, config: TrialConfig, images: Images) -> list[str]:
    parts = config.parts(images)
    m, judged = len(member_rows(config, images, parts)[0]), len(parts.judged(config.judge.part))
    attacked = min(config.judge.images or judged, judged)
    choosing = f"; {len(parts.selection):,} others choose the epoch" if len(parts.selection) else ""
    lines = [
        f"{step}: {m:,} members and {judged:,} non-members, {attacked:,} of them attacked{choosing}",
        f"  accuracy is known to \N{PLUS-MINUS SIGN}{largest_half_width(judged):.3f} or better, "
        f"robust accuracy to \N{PLUS-MINUS SIGN}{largest_half_width(attacked):.3f} or better (95 %)",
    ]
    if not (n := len(parts.non_members(config.judge.part))):
        return [*lines, "  no audit: the split has no non-members that are drawn like the members"]
    if not parts.test_is_exchangeable and config.judge.part != "val":
        lines.append(f"  audits compare the members with the {n:,} images of val, which are drawn like them")
    silent = [f"{100 * rate:g} %" for rate in FPRS if unresolved(rate, n)]
    none = f", so none at {' or '.join(silent)}" if silent else ""
    return [
        *lines,
        f"  the AUC of one audit differs from 0.5 if it is above {smallest_auc(m, n):.3f} (95 %)",
        f"  two networks audited on the same images differ if their AUCs differ by {smallest_difference(m, n):.3f} or more (95 %, "
        f"for a correlation of {CORRELATION:g} between the two AUCs)",
        f"  true-positive rates are reported at false-positive rates of {100 * lowest_rate(n):.2g} % and above{none}",
    ]
