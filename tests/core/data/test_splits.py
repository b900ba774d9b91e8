"""Splits by their definition and compared with scikit-learn, and classes that a split leaves out."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from splits import split_or_discard

from core.data import Images, hold_out, split
from core.data.protocols import Paper, Stratified, _paper_halves
from core.errors import InputError

PARTS = ("members", "val", "test", "shadow")
PROTOCOLS = [Stratified(), Paper()]


def pool_with_labels(labels) -> Images:
    y = torch.as_tensor(np.asarray(labels), dtype=torch.int64)
    x = torch.arange(len(y), dtype=torch.int32).view(torch.uint8).reshape(-1, 1, 2, 2)  # no two images are the same
    return Images(x, y, int(y.max()) + 1)


def imbalanced_pool(seed=0, sizes=(41, 8, 29, 104, 13)) -> Images:
    return pool_with_labels(np.random.RandomState(seed).permutation(np.repeat(np.arange(len(sizes)), sizes)))


UNEVEN = {PROTOCOLS[0]: imbalanced_pool(sizes=(8, 11, 20, 33, 41)), PROTOCOLS[1]: imbalanced_pool(sizes=(37, 41, 50, 63, 90))}
"""Pools by protocol; that of the paper is not stratified, so that it may leave a rare class without members."""


@st.composite
def pools(draw):
    sizes = draw(st.lists(st.integers(8, 40), min_size=2, max_size=6))
    return imbalanced_pool(draw(st.integers(0, 99)), sizes)


# -- splits -----------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(pools(), st.sampled_from(PROTOCOLS), st.integers(0, 3))
def test_parts_are_disjoint_and_cover_the_pool(images, protocol, replicate):
    parts = split_or_discard(images, protocol, replicate)
    together = np.concatenate([getattr(parts, name) for name in PARTS])
    assert sorted(together.tolist()) == list(range(len(images.y)))


@settings(deadline=None)
@given(pools(), st.integers(0, 3))
def test_parts_have_the_designed_sizes(images, replicate):
    n, parts = len(images.y), split(images, replicate=replicate)
    target = n - len(parts.shadow)
    assert abs(len(parts.shadow) - n / 2) <= 0.5
    assert abs(len(parts.members) - target / 2) <= 0.5
    assert abs(len(parts.val) - len(parts.test)) <= 1


@settings(deadline=None)
@given(pools(), st.integers(0, 3))
def test_every_class_is_split_evenly_to_within_one_image(images, replicate):
    y, parts = images.y.numpy(), split(images, replicate=replicate)
    counts = {name: np.bincount(y[getattr(parts, name)], minlength=images.classes) for name in PARTS}
    assert np.abs(counts["shadow"] - np.bincount(y) / 2).max() < 1
    if replicate:
        candidates = counts["members"] + counts["val"]
        assert np.abs(counts["members"] - candidates * len(parts.members) / candidates.sum()).max() < 1
    else:
        assert np.abs(counts["members"] - (np.bincount(y) - counts["shadow"]) / 2).max() < 1
        assert np.abs(counts["val"] - counts["test"]).max() <= 1
    assert all((count > 0).all() for count in counts.values())


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=["stratified", "paper"])
def test_no_replicate_trains_on_test_or_shadow_images(protocol):
    images = UNEVEN[protocol]
    first = split(images, protocol)
    drawn = set()
    for replicate in range(1, 6):
        parts = split(images, protocol, replicate)
        assert np.array_equal(parts.test, first.test)
        assert np.array_equal(parts.shadow, first.shadow)
        assert len(parts.members) == len(first.members)
        candidates = set(first.members) | set(first.val)
        assert set(parts.members) | set(parts.val) == candidates
        drawn.add(frozenset(parts.members))
    assert len(drawn | {frozenset(first.members)}) == 6  # each replicate draws different members


def test_a_split_depends_on_the_labels_only():
    images = imbalanced_pool()
    first = split(images)
    torch.manual_seed(1)
    np.random.seed(1)
    second = split(Images(images.x + 1, images.y.clone(), images.classes))
    assert all(np.array_equal(getattr(first, name), getattr(second, name)) for name in PARTS)


@pytest.mark.parametrize("n", [200, 201, 202, 203])
def test_the_paper_split_is_that_of_scikit_learn_applied_twice(n):
    selection = pytest.importorskip("sklearn.model_selection")
    images = pool_with_labels(np.random.RandomState(1).permutation(np.arange(n) % 5))
    target, shadow = selection.train_test_split(np.arange(n), test_size=0.5, random_state=0)
    members, others = selection.train_test_split(target, test_size=0.5, random_state=0)
    parts = split(images, Paper())
    assert np.array_equal(parts.members, members)
    assert np.array_equal(parts.shadow, shadow)
    assert sorted(np.concatenate([parts.val, parts.test])) == sorted(others)


def test_judged_returns_the_non_members_of_a_part():
    parts = split(imbalanced_pool())
    assert np.array_equal(parts.judged("val"), parts.val)
    assert np.array_equal(parts.judged("test"), parts.test)
    assert sorted(parts.judged("both")) == sorted([*parts.val, *parts.test])


@pytest.mark.parametrize("without, part", [("members", "members"), ("others", "(val|test)")])
def test_a_class_that_the_paper_split_leaves_without_images_in_a_part_is_named(without, part):
    rows = np.arange(400)
    target, _ = _paper_halves(rows, 0)
    halves = dict(zip(("members", "others"), _paper_halves(target, 0), strict=True))
    labels = rows % 3
    labels[halves[without]] %= 2  # class 2 has none there
    if without == "others":
        labels[halves[without][0]] = 2  # one is not enough for both val and test
    images = pool_with_labels(labels)
    with pytest.raises(InputError, match=f"^class 2 has no image in {part}; use split=stratified, or a larger pool$"):
        split(images, Paper())
    split(images)


def test_a_shadow_model_without_members_of_a_class_is_named():
    rows = np.arange(400)
    members, _ = _paper_halves(_paper_halves(rows, 0)[1], 1)
    labels = rows % 3
    labels[members] %= 2
    images = pool_with_labels(labels)
    split(images, Paper())
    with pytest.raises(InputError, match="class 2 has no image in members of shadow model 2; use split=stratified"):
        split(images, Paper(), shadow=2)


# -- splits of shadow models --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=["stratified", "paper"])
def test_members_and_val_of_a_shadow_model_are_halves_of_the_shadow_pool(protocol):
    pool = split(UNEVEN[protocol], protocol).shadow
    drawn = set()
    for shadow in range(1, 9):
        parts = split(UNEVEN[protocol], protocol, shadow=shadow)
        assert sorted([*parts.members, *parts.val]) == sorted(pool)
        assert len(parts.val) - len(parts.members) in (-1, 0, 1) and not len(parts.test) and not len(parts.shadow)
        drawn.add(frozenset(parts.members))
    assert len(drawn) == 8


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=["stratified", "paper"])
def test_shadow_models_and_replicates_have_no_images_in_common(protocol):
    images, of_shadow_models = UNEVEN[protocol], set()
    for shadow in range(1, 5):
        for replicate in range(3):  # the replicate does not affect a shadow model
            parts = split(images, protocol, replicate, shadow)
            assert np.array_equal(parts.members, split(images, protocol, shadow=shadow).members)
            of_shadow_models |= {*parts.members, *parts.val}
    for replicate in range(6):
        parts = split(images, protocol, replicate)
        of_replicate = {*parts.members, *parts.val, *parts.test}
        assert not of_replicate & of_shadow_models and of_replicate | of_shadow_models == set(range(len(images.y)))


@pytest.mark.parametrize("n", [200, 201, 202, 203])
def test_shadow_splits_of_the_protocol_paper_are_those_of_scikit_learn_with_seeds_from_zero(n):
    selection = pytest.importorskip("sklearn.model_selection")
    images = pool_with_labels(np.random.RandomState(1).permutation(np.arange(n) % 5))
    _, pool = selection.train_test_split(np.arange(n), test_size=0.5, random_state=0)
    for shadow in (1, 2, 5):
        members, others = selection.train_test_split(pool, test_size=0.5, random_state=shadow - 1)
        parts = split(images, Paper(), shadow=shadow)
        assert np.array_equal(parts.members, members) and np.array_equal(parts.val, others)


def test_a_stratified_shadow_split_halves_every_class_up_to_one_image():
    images = UNEVEN[Stratified()]
    y = images.y.numpy()
    pool = np.bincount(y[split(images).shadow])
    for shadow in range(1, 6):
        parts = split(images, shadow=shadow)
        assert np.abs(np.bincount(y[parts.members]) - pool / 2).max() < 1


@pytest.mark.parametrize(("share", "message"), [(0.02, "no reference image of 20"), (0.99, "no member to train on of 20")])
def test_a_reference_share_that_leaves_one_side_without_images_is_rejected(share, message):
    with pytest.raises(InputError, match=f"reference share of {share:g} leaves {message}"):
        hold_out(torch.arange(20) % 2, torch.arange(20), share, seed=0)
