"""The split of a pool into members and non-members, in which an image and its exact copies are in one part.

Training and test files form one pool, as in the CRL paper: half of it is the target half, half the shadow pool. Half of the target
half are members; the non-members are halved into `val`, which a sweep may use, and `test`, which only the confirmation step may
use. The draw of `test` depends on the data and the pool size alone, so no trial trains on it.

The draws depend on labels and row numbers only. An image then belongs to the part that its first copy (the one with the lowest
row number) was drawn into, and copies that were drawn into another part are left out. So each distinct image is a member with the
same probability, which the audits by other networks assume, and rows without copies are where they would be without the others.
"""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from core.data.images import Images
from core.errors import InputError
from core.rng import fold

PARTS = ("members", "val", "test", "shadow")


@dataclass(frozen=True)
class Parts:
    """Disjoint sets of row numbers of a pool."""

    members: np.ndarray
    val: np.ndarray
    test: np.ndarray
    shadow: np.ndarray

    def judged(self, part: str) -> np.ndarray:
        """The non-members that `judge.part` names."""
        if part != "both":
            return getattr(self, part)
        return np.random.Generator(np.random.PCG64(0)).permutation(np.concatenate([self.val, self.test]))


def split(images: Images, protocol: str = "stratified", replicate: int = 0, shadow: int = 0) -> Parts:
    """Split a pool into member, validation, test and shadow indices.

    Args:
        images: the pool.
        protocol: "stratified", or "paper" for the shuffles of the CRL paper's code (seed 0, not stratified).
        replicate: above 0, members are redrawn from members + val; `test` and `shadow` stay the same.
        shadow: above 0, return the parts of that shadow model: members and `val` are halves of the shadow pool, the others are
            empty.

    Raises:
        InputError: a class has no image in a part that every network needs; the message names the class and the remedy.
    """
    drawn = _drawn(images.y.numpy(), protocol, replicate, shadow)
    parts = Parts(*one_part_each(images.ids.numpy(), drawn.members, drawn.val, drawn.test, drawn.shadow))
    left_out = sum(len(getattr(drawn, name)) - len(getattr(parts, name)) for name in PARTS)
    for name in ("members",) if shadow else ("members", "val", "test"):
        check_classes(
            images, getattr(parts, name), f"{name} of shadow model {shadow}" if shadow else name,
            f" after {left_out} exact copies were left out" if left_out else "",
            "use a larger pool" if protocol == "stratified" else "use split=stratified, or a larger pool",
        )  # fmt: skip
    return parts


def _drawn(y: np.ndarray, protocol: str, replicate: int, shadow: int) -> Parts:
    """The parts as they are drawn, without regard to copies."""
    rows = np.arange(len(y))
    if protocol == "paper":
        target, others = _paper_halves(rows, 0)
        members, non_members = _paper_halves(target, 0)
    else:
        target, others = stratified(rows, y, 0.5, fold(0, "target"))
        members, non_members = stratified(target, y, 0.5, fold(0, "members"))
    if shadow:
        paper = protocol == "paper"
        halves = _paper_halves(others, shadow - 1) if paper else stratified(others, y, 0.5, fold(0, "shadow", shadow))
        return Parts(*halves, others[:0], others[:0])
    val, test = stratified(non_members, y, 0.5, fold(0, "val"))
    if replicate:
        candidates = np.concatenate([members, val])
        members, val = stratified(candidates, y, len(members) / len(candidates), fold(0, "replicate", replicate))
    return Parts(members, val, test, others)


def one_part_each(ids: np.ndarray, *parts: np.ndarray) -> list[np.ndarray]:
    """The parts without the rows whose first copy, among all rows of `ids`, is not in the same part.

    Args:
        ids: fingerprints of all images, int64 [N].
        parts: disjoint row numbers.
    """
    _, first, image = np.unique(ids, return_index=True, return_inverse=True)
    return [rows[np.isin(first[image[rows]], rows)] for rows in parts]


def overlap(images: Images, parts: Parts) -> int:
    """Number of distinct images that are in more than one part, themselves or as an exact copy; 0 for the parts of `split`."""
    ids = images.ids.numpy()
    in_parts = np.concatenate([np.unique(ids[getattr(parts, name)]) for name in PARTS])
    return int((np.unique(in_parts, return_counts=True)[1] > 1).sum())


def check_classes(images: Images, rows: np.ndarray, part: str, why: str, remedy: str) -> None:
    """Check that rows contain every class of a pool.

    Raises:
        InputError: the message names the first class that has no image.
    """
    counts = np.bincount(images.y.numpy()[rows], minlength=images.classes)
    if absent := np.flatnonzero(counts == 0).tolist():
        others = f" (classes without one: {len(absent)})" if len(absent) > 1 else ""
        raise InputError(f"class {absent[0]} has no image in {part}{why}{others}; {remedy}")


def hold_out(y: Tensor, ids: Tensor, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Hold out a reference set from the members, stratified by class; copies in the other set are left out, as by `split`.

    Args:
        y: labels of the members, [N].
        ids: their `Images.ids`, [N].
        share: share of the members that is held out, in (0, 1).
        seed: seed of the draw.

    Returns:
        Rows of the members to train on, and rows of the reference set.

    Raises:
        InputError: one of them would be empty.
    """
    labels = y.cpu().numpy()
    reference, kept = stratified(np.arange(len(labels)), labels, share, fold(seed, "reference"))
    kept, reference = one_part_each(ids.cpu().numpy(), np.sort(kept), np.sort(reference))
    if not len(reference) or not len(kept):
        part, remedy = ("no reference image", "raise it") if not len(reference) else ("no member to train on", "lower it")
        raise InputError(f"a reference share of {share:g} leaves {part} of {len(labels)} members; {remedy}, or use a larger pool")
    return kept, reference


def stratified(rows: np.ndarray, y: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split rows into two shuffled parts, stratified by class to within one image; `round(share * len(rows))` are in the first."""
    stream = np.random.Generator(np.random.PCG64(seed))
    count = round(share * len(rows))
    shuffled = [stream.permutation(rows[y[rows] == c]) for c in np.unique(y[rows])]
    exact = np.array([share * len(r) for r in shuffled])
    take = np.floor(exact).astype(int)
    largest_remainder = np.argsort(-(exact - take) + 1e-9 * stream.random(len(take)))
    take[largest_remainder[: count - take.sum()]] += 1
    first = np.concatenate([r[:n] for r, n in zip(shuffled, take, strict=True)])
    second = np.concatenate([r[n:] for r, n in zip(shuffled, take, strict=True)])
    return stream.permutation(first), stream.permutation(second)


def _paper_halves(rows: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The result of scikit-learn's train_test_split(rows, test_size=0.5, random_state=seed)."""
    order = np.random.RandomState(seed).permutation(len(rows))
    held_out = -(-len(rows) // 2)
    return rows[order[held_out:]], rows[order[:held_out]]
