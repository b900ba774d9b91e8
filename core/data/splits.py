"""The split of a pool into members and non-members, in which an image and its exact copies are in one part.

Training and test files form one pool, as in the CRL paper, unless the protocol keeps the test file apart. Members are trained on;
the non-members are `val`, which a sweep may use, and `test`, which only the confirmation step may use; shadow models have a part of
their own. By default, half of the pool is the shadow models', a quarter are members, and `val` and `test` are an eighth each; see
`core.data.protocols`.

An image belongs to the part that its first copy (the one with the lowest row number) was drawn into, and copies that were drawn
into another part are left out. So each distinct image is a member with the same probability, which the audits by other networks
assume, and rows without copies are where they would be without the others.
"""

from dataclasses import replace

import numpy as np
from torch import Tensor

from core.data.images import Images
from core.data.protocols import ALL_PARTS, PARTS, Parts, SplitProtocol, Stratified, stratified
from core.errors import InputError
from core.rng import fold

DEFAULT = Stratified()


def split(
    images: Images, protocol: SplitProtocol = DEFAULT, replicate: int = 0, shadow: int = 0, selection: int = 0
) -> Parts:  # fmt: skip
    """Split a pool into member, validation, test, shadow and selection indices; `TrialConfig.parts` does so for a network.

    Args:
        images: the pool.
        protocol: settings of the draw, `TrialConfig.split`; one of `core.data.protocols.SPLITS`.
        replicate: above 0, members are redrawn from members + val; `test` and `shadow` stay the same.
        shadow: above 0, return the parts of that shadow model: members and `val` are halves of the shadow pool, the others are
            empty.
        selection: number of images that choose the epoch; they are taken from `val`, stratified over classes, and the other parts
            do not depend on this number.

    Raises:
        InputError: the pool is too small for the protocol, or a class has no image in a part that every network needs; the
            message names the class and the remedy.
    """
    drawn = protocol.draw(images, replicate, shadow)
    kept = one_part_each(images.ids.numpy(), *(getattr(drawn, name) for name in PARTS))
    parts = replace(drawn, **dict(zip(PARTS, kept, strict=True)))
    left_out = sum(len(getattr(drawn, name)) - len(getattr(parts, name)) for name in PARTS)
    if selection:
        parts = _with_selection(parts, images, selection)
    required = ("members",) if shadow else [name for name in ("members", "val", "test") if len(getattr(drawn, name))]
    for name in required:
        check_classes(
            images, getattr(parts, name), f"{name} of shadow model {shadow}" if shadow else name,
            f" after {left_out} exact copies were left out" if left_out else "",
            ("lower selection.images, or " if name == "val" and selection else "")
            + ("use a larger pool" if isinstance(protocol, Stratified) else "use split=stratified, or a larger pool"),
        )  # fmt: skip
    return parts


def _with_selection(parts: Parts, images: Images, count: int) -> Parts:
    """The parts with `count` distinct images of `val` set aside; further copies of these are left out.

    Raises:
        InputError: they are all images of `val`, or more.
    """
    ids = images.ids.numpy()
    _, first = np.unique(ids, return_index=True)
    distinct = parts.val[np.isin(parts.val, first)]
    if count >= len(distinct):
        raise InputError(f"selection.images={count} leaves none of the {len(distinct)} images of val; lower it, or enlarge val")
    chosen, _ = stratified(distinct, images.y.numpy(), count / len(distinct), fold(0, "selection"))
    return replace(parts, selection=chosen, val=parts.val[~np.isin(ids[parts.val], ids[chosen])])


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
    in_parts = np.concatenate([np.unique(ids[getattr(parts, name)]) for name in ALL_PARTS])
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
