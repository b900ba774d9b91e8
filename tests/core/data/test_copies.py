"""Exact copies of images: they are found by their pixels, and an image and its copies are in one part."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from splits import split_or_discard

from core import data
from core.data import Images, hold_out, overlap, split, summary
from core.data.images import fingerprints
from core.data.protocols import PARTS, SPLITS, Official, Paper, Stratified
from core.errors import InputError

EVERY_PROTOCOL = [Stratified(), Paper(), Official(val=0.2, shadow=0.3)]
PROTOCOLS = pytest.mark.parametrize("protocol", EVERY_PROTOCOL, ids=SPLITS)


def pool_of(numbers, labels=None) -> Images:
    """A pool whose images have equal pixels exactly where the numbers are equal; without labels, classes of equal sizes."""
    numbers = np.asarray(numbers, np.int32)
    y = torch.as_tensor(np.arange(len(numbers)) % 4 if labels is None else labels)
    pixels = torch.from_numpy(numbers.copy()).view(torch.uint8).reshape(-1, 1, 2, 2)
    return Images(pixels, y, int(y.max()) + 1, in_test_file=torch.arange(len(y)) % 5 == 4)


@st.composite
def pools_with_copies(draw):
    """Pools of 160 to 400 images; a tenth to a third of them are copies of others, with their own labels."""
    n, seed = draw(st.integers(160, 400)), draw(st.integers(0, 9999))
    stream, numbers = np.random.default_rng(seed), np.arange(n)
    copies = stream.choice(n, n // draw(st.integers(3, 10)), replace=False)
    numbers[copies] = stream.choice(n, len(copies))
    return pool_of(stream.permutation(numbers))


def parts_of(parts) -> dict[str, list[int]]:
    return {name: getattr(parts, name).tolist() for name in PARTS}


# -- copies -------------------------------------------------------------------------------------------------------------


def test_images_have_the_same_id_exactly_if_their_pixels_are_equal():
    stream = np.random.default_rng(0)
    x = stream.integers(0, 2, (600, 1, 3, 3), np.uint8)  # 512 possible images
    ids = fingerprints(torch.from_numpy(x)).numpy()
    flat = x.reshape(600, -1)
    assert np.array_equal(ids[:, None] == ids, (flat[:, None] == flat).all(2))


def test_ids_do_not_depend_on_the_layout_in_memory_and_follow_their_rows():
    x = torch.randint(256, (20, 3, 4, 5), dtype=torch.uint8)
    images = Images(x, torch.arange(20) % 2, 2)
    assert torch.equal(Images(x.to(memory_format=torch.channels_last), images.y, 2).ids, images.ids)
    assert torch.equal(images.at(np.array([7, 3])).ids, images.ids[[7, 3]])
    assert torch.equal(images.at(np.array([7, 3])).ids, fingerprints(x[[7, 3]]))
    assert torch.equal(images.to(torch.device("cpu")).ids, images.ids) and len(fingerprints(x[:0])) == 0


def test_copies_of_rows_are_all_rows_with_their_pixels():
    numbers = [5, 6, 5, 7, 6, 5, 8, 9] * 4
    assert pool_of(numbers).copies_of(np.array([1, 3])).tolist() == [i for i, number in enumerate(numbers) if number in (6, 7)]


# -- parts --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("protocol", "expected"), [
    (Stratified(), "148c80cdd17ba1f09d173ed3c3322795"), (Paper(), "5f24170c448bd7b09d9b656507822c92"),
], ids=["stratified", "paper"])  # fmt: skip
def test_a_pool_without_copies_is_split_as_it_always_was(protocol, expected):
    # digests of the parts by the code of commit 1c33e50, which ignored copies
    images, digest = data.load("digits", pool=900), hashlib.sha256()
    for replicate in range(3):
        for shadow in range(3):
            for rows in parts_of(split(images, protocol, replicate, shadow)).values():
                digest.update(np.asarray(rows, "<i8").tobytes() + b"|")
    assert digest.hexdigest()[:32] == expected
    held_out = hashlib.sha256(b"".join(rows.astype("<i8").tobytes() for rows in hold_out(images.y, images.ids, 0.3, 1)))
    assert held_out.hexdigest()[:32] == "dcec20adcbd441498ea30c7c85d4fe83"


@settings(deadline=None, max_examples=60)
@given(pools_with_copies(), st.sampled_from(EVERY_PROTOCOL), st.integers(0, 3), st.integers(0, 2))
def test_an_image_is_in_the_part_that_its_first_copy_is_drawn_into(images, protocol, replicate, shadow):
    drawn = parts_of(protocol.draw(images, replicate, shadow))
    whole, ids = split_or_discard(images, protocol, replicate, shadow), images.ids.tolist()
    parts = parts_of(whole)
    for name in PARTS:
        assert parts[name] == [row for row in drawn[name] if ids.index(ids[row]) in drawn[name]]
    assert overlap(images, whole) == 0
    kept = {ids[row] for rows in parts.values() for row in rows}
    assert kept == {ids[row] for rows in drawn.values() for row in rows if ids.index(ids[row]) == row}  # no image is lost


@settings(deadline=None, max_examples=30)
@given(pools_with_copies(), st.sampled_from(EVERY_PROTOCOL))
def test_networks_share_no_image_with_test_and_targets_share_none_with_shadow_models(images, protocol):
    def image_set(*rows):
        return set(images.ids[np.concatenate(rows)].tolist())

    first = split_or_discard(images, protocol)
    candidates, test = image_set(first.members, first.val), image_set(first.test)
    shadow_halves = [split_or_discard(images, protocol, shadow=k) for k in (1, 2, 3)]
    of_shadow_models = set().union(*(image_set(parts.members, parts.val) for parts in shadow_halves))
    for replicate in range(4):
        parts = split_or_discard(images, protocol, replicate)
        assert np.array_equal(parts.test, first.test) and np.array_equal(parts.shadow, first.shadow)
        assert image_set(parts.members, parts.val) == candidates  # no image is lost, only copies
        assert not image_set(parts.members) & image_set(parts.val)
    assert not candidates & test and not (candidates | test) & of_shadow_models and of_shadow_models == image_set(first.shadow)
    for parts in shadow_halves:
        assert not image_set(parts.members) & image_set(parts.val)


def test_copies_inside_one_part_are_all_kept():
    parts = split(pool_of(range(400)))
    for rows in (parts.members, parts.val, parts.test, parts.shadow):
        numbers = np.arange(400)
        numbers[rows[:9]] = numbers[rows[0]]
        assert parts_of(split(pool_of(numbers))) == parts_of(parts)


def test_an_image_with_copies_is_a_member_as_often_as_any_other():
    numbers = np.arange(400)
    first = split(pool_of(numbers))
    candidates = np.concatenate([first.members, first.val])
    pairs = candidates.reshape(2, -1)
    numbers[pairs[1]] = numbers[pairs[0]]
    images = pool_of(numbers)
    shares = [np.isin(images.ids[pairs[0]], images.ids[split(images, replicate=r).members]).mean() for r in range(1, 101)]
    expected = len(first.members) / len(candidates)
    assert abs(np.mean(shares) - expected) < 0.01  # 7,500 draws; if any copy counted, it would be 1 - (1/3)^2 = 0.89


def test_a_reference_set_has_no_image_of_the_private_members():
    numbers = np.arange(200) % 120
    images = pool_of(numbers)
    kept, reference = hold_out(images.y, images.ids, 0.4, 0)
    assert not set(numbers[kept]) & set(numbers[reference]) and set(numbers[kept]) | set(numbers[reference]) == set(range(120))


def test_overlap_counts_images_that_copies_put_into_two_parts():
    images = pool_of(range(400))
    parts = split(images)
    numbers = np.arange(400)
    numbers[parts.test[:7]] = numbers[parts.members[:7]]
    numbers[parts.shadow[:2]] = numbers[parts.val[:2]]
    assert overlap(images, parts) == 0 and overlap(pool_of(numbers), parts) == 9


# -- what is reported ---------------------------------------------------------------------------------------------------


def test_the_summary_counts_copies_other_labels_and_rows_that_are_left_out():
    images = pool_of(range(400))
    assert summary(images) == "400 images of 2x2 grey in 4 classes, no exact copies"
    parts, numbers, labels = split(images), np.arange(400), images.y.numpy().copy()
    numbers[parts.members[:3]] = numbers[parts.members[3]]  # in one part
    low, high = np.sort(np.stack([parts.members[10:15], parts.test[10:15]]), 0)
    numbers[high] = numbers[low]
    first = min(parts.members[:4])
    relabelled = (labels[parts.members[:4]] != labels[first]).sum() + (labels[high] != labels[low]).sum()
    expected = (
        f"400 images of 2x2 grey in 4 classes, 8 of them exact copies of another ({relabelled} with another label), of which 5 are "
        "left out because they were drawn into another part"
    )
    assert summary(pool_of(numbers, labels)) == expected


@PROTOCOLS
def test_a_class_that_consists_of_copies_is_named_with_their_number(protocol):
    numbers = np.arange(400)
    numbers[3::4] = 3  # class 3 has one image, 100 times
    with pytest.raises(InputError, match=r"^class 3 has no image in \w+ after \d+ exact copies were left out; use .*larger pool$"):
        split(pool_of(numbers), protocol)


def test_copies_of_every_test_image_among_the_members_leave_members_and_test_images():
    parts, numbers = split(pool_of(range(800))), np.arange(800)
    numbers[parts.test] = numbers[parts.members[: len(parts.test)]]
    after = split(pool_of(numbers))
    assert len(after.members) + len(after.test) == len(parts.members) and min(len(after.members), len(after.test)) > 30
    assert overlap(pool_of(numbers), after) == 0 and np.array_equal(after.val, parts.val)
