"""The AUC of the best of several audits, chosen on other images than those on which it is reported.

The largest of several noisy AUCs is too large, and its interval does not cover. The images of a pool are therefore divided into
`FOLDS` folds. For each fold, the audit is chosen by the AUC on all other folds, averaged over the replicates, and its AUC on the
fold counts; the estimate is the mean over folds. Without a leak its expectation is one half. If one audit is the best on all folds,
the estimate is that audit's AUC on all images.

An attacker may also flip an audit's sign. As every audit has a sign that its theory gives, it is flipped only where the AUC on the
other folds is significantly below one half (`FLIP` standard errors): flips by chance would double the estimate's variance.

The estimate varies more than the AUC of a fixed audit if the choice is uncertain; its influences are scaled up for that.

AUCs on parts of the images are first-order: the AUC on all images plus the influence of the part's images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core.audits.chance import LEVEL, PERMUTATIONS
from core.audits.evidence import MembershipScores, null_influence, permuted_members
from core.estimates import Measurement, mean_influence

FOLDS = 5
BOOTSTRAPS = 500
"""Number of bootstraps of the choice of audits."""
FLIP = 3.0
"""Standard errors below one half at which an audit's sign is flipped; at most 2 % of 15 audits without a leak are."""


@dataclass(frozen=True)
class SelectedAudit:
    """The best audit of a point, with its AUC on images on which it was not chosen."""

    names: tuple[str, ...]
    """Names of the audits that were chosen, the one for most folds first; more than one if folds disagree."""
    measurements: Mapping[int, Measurement]
    """AUC by replicate, with each image's influence."""


def fold_of(rows: np.ndarray) -> np.ndarray:
    """The fold of each image, in [0, FOLDS); it depends on the row number alone."""
    mixed = np.asarray(rows, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return ((mixed >> np.uint64(40)) % np.uint64(FOLDS)).astype(np.int64)


def select_audit(measured: Mapping[int, Mapping[str, Measurement]]) -> SelectedAudit:
    """Choose the best audit of a point and estimate its AUC.

    Args:
        measured: AUC of each audit by replicate and name; audits that a replicate lacks are left out.

    Raises:
        ValueError: no audit is common to all replicates.
    """
    first, *others = measured.values()
    if not (names := [name for name in first if all(name in other for other in others)]):
        raise ValueError("no audit is common to all replicates")
    aucs = np.array([[own[name].value for name in names] for own in measured.values()])
    parts = np.array([[_fold_sums(own[name]) for name in names] for own in measured.values()])
    errors = np.array([np.sqrt(np.mean([own[name].variance for own in measured.values()])) for name in names])
    chosen, signs = _choose(aucs.mean(0), parts.mean(0), errors)
    inflation = _inflation(aucs.mean(0), _influence_by_fold(measured, names), errors)
    measurements = {}
    for replicate, own, auc, part in zip(measured, measured.values(), aucs, parts, strict=True):
        folds = np.arange(FOLDS)
        value = 0.5 + float((signs * (auc[chosen] + FOLDS * part[chosen, folds] - 0.5)).mean())
        pieces = [(own[names[k]], fold_of(own[names[k]].rows) == f, s) for f, (k, s) in enumerate(zip(chosen, signs, strict=True))]
        rows = np.concatenate([measurement.rows[mask] for measurement, mask, _ in pieces])
        influence = inflation * np.concatenate([sign * measurement.influence[mask] for measurement, mask, sign in pieces])
        images = min(own[names[k]].images for k in chosen)
        measurements[replicate] = Measurement(value, rows, influence, images)
    counts = np.bincount(chosen, minlength=len(names))
    return SelectedAudit(tuple(names[k] for k in np.argsort(-counts, kind="stable") if counts[k]), measurements)


def selected_chance_level(
    groups: Mapping[int, list[MembershipScores]], *, permutations: int = PERMUTATIONS, seed: int = 0
) -> float:
    """The 95 % quantile, over permutations of membership, of the estimate of `select_audit`'s mean over replicates.

    Args:
        groups: scores of all audits by replicate.
        permutations: number of permutations.
        seed: seed of the permutations.
    """
    names = [{name for group in own for name in group.scores} for own in groups.values()]
    common = sorted(set.intersection(*names))
    flat = [group for own in groups.values() for group in own]
    parts = np.zeros((permutations, len(common), FOLDS), np.float32)
    for group, member in zip(flat, permuted_members(flat, permutations, seed), strict=True):
        if not (own := [name for name in common if name in group.scores]):
            continue
        influence = np.stack([null_influence(group.scores[name]) for name in own], 1).astype(np.float32)
        inside, folds = int(member[0].sum()), fold_of(group.rows)
        weights = np.where(member, np.float32(1 / inside), np.float32(-1 / (len(group.rows) - inside)))
        for fold in range(FOLDS):
            chosen = folds == fold
            parts[:, [common.index(name) for name in own], fold] += weights[:, chosen] @ influence[chosen] / len(groups)
    aucs = 0.5 + parts.sum(2)
    parts -= parts.mean(2, keepdims=True)
    values = _estimate(aucs, parts, *_choose(aucs, parts, aucs.std(0)))
    return max(0.5, float(np.quantile(values, LEVEL)))


def _choose(aucs: np.ndarray, parts: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each fold, the audit with the largest AUC on the other folds, and its sign there, both [..., FOLDS].

    Args:
        aucs: AUC by audit, [..., audits].
        parts: sum of the influence by audit and fold, [..., audits, FOLDS].
        errors: standard error of each AUC, [audits].
    """
    elsewhere = aucs[..., None] - FOLDS / (FOLDS - 1) * parts - 0.5
    signs = np.where(elsewhere < -FLIP * errors[:, None] * np.sqrt(FOLDS / (FOLDS - 1)), -1.0, 1.0)
    chosen = (signs * elsewhere).argmax(-2)
    return chosen, np.take_along_axis(signs, chosen[..., None, :], -2)[..., 0, :]


def _estimate(aucs: np.ndarray, parts: np.ndarray, chosen: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Mean over folds of the AUC of each fold's audit on the fold, [...]; shapes as in `_choose`."""
    folds = np.take_along_axis(aucs[..., None] + FOLDS * parts, chosen[..., None, :], -2)[..., 0, :]
    return 0.5 + (signs * (folds - 0.5)).mean(-1)


def _inflation(aucs: np.ndarray, influence: np.ndarray, errors: np.ndarray) -> float:
    """The factor by which the choice of audits increases the estimate's standard error, at least 1, from a parametric bootstrap.

    Folds choose their audits from largely the same images. If several audits are nearly as good, a lucky one is therefore chosen
    for many folds, so that the folds' errors are correlated.

    Args:
        aucs: mean AUC over replicates by audit, [audits].
        influence: its influence by image in each fold, [FOLDS, audits, images].
        errors: standard error of each AUC, [audits].
    """
    products = influence @ influence.transpose(0, 2, 1)
    values, vectors = np.linalg.eigh(products)
    stream = np.random.Generator(np.random.PCG64(0))
    noise = stream.standard_normal((BOOTSTRAPS, FOLDS, len(aucs)))
    parts = np.einsum("fkl,dfl->dkf", vectors * np.sqrt(values.clip(0))[:, None], noise)
    best, total = int(aucs.argmax()), products.sum(0)
    gaps = aucs[best] - aucs
    variances = total[best, best] + np.diag(total) - 2 * total[best]
    shrunken = gaps * np.clip(1 - variances / np.where(gaps > 0, gaps, np.inf) ** 2, 0, 1)  # gaps of the best are too large
    drawn = aucs[best] - shrunken + parts.sum(2)
    parts -= parts.mean(2, keepdims=True)
    chosen, signs = _choose(drawn, parts, errors)
    naive = products[np.arange(FOLDS), chosen, chosen].sum(1).mean()
    if not naive > 0 or not total[best, best] > 0:
        return 1.0
    noise_of_draws = drawn[:, best].var() / total[best, best]  # the ratio is exactly 1 if all folds choose the best audit
    return float(np.sqrt(max(1.0, _estimate(drawn, parts, chosen, signs).var() / naive / noise_of_draws)))


def _influence_by_fold(measured: Mapping[int, Mapping[str, Measurement]], names: Sequence[str]) -> np.ndarray:
    """Mean influence over replicates of each image on each audit, in the image's fold, [FOLDS, audits, images]."""
    rows, influence = mean_influence({"": measured}, names)
    return influence * (fold_of(rows) == np.arange(FOLDS)[:, None])[:, None]


def _fold_sums(measurement: Measurement) -> np.ndarray:
    """Sum of the influence over each fold, [FOLDS]."""
    return np.bincount(fold_of(measurement.rows), weights=measurement.influence, minlength=FOLDS)
