"""Sizes of the parts of a pool: shares and numbers of images, what they exclude, and what is refused."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core import data
from core.config import TrialConfig
from core.data import Images, split, summary
from core.data.protocols import PARTS, Paper, Stratified
from core.errors import InputError
from core.evaluation.privacy import audit_by_others
from core.trial import run

WHOLE = {"members": 0.3, "val": 0.3, "test": 0.4, "shadow": 0.0}
"""Shares that leave no image for shadow models."""


def pool(n=400, classes=4) -> Images:
    """Images of which no two are the same, in classes of equal sizes."""
    x = torch.arange(n, dtype=torch.int32).view(torch.uint8).reshape(-1, 1, 2, 2)
    return Images(x, torch.arange(n) % classes, classes)


def sizes(parts) -> dict[str, int]:
    return {name: len(getattr(parts, name)) for name in PARTS}


@st.composite
def protocols(draw):
    """Shares and numbers of images, for pools of 300 images."""
    shares = [draw(st.floats(0.05, 0.25)) for _ in PARTS]
    return Stratified(**{n: round(300 * s) if draw(st.booleans()) else s for n, s in zip(PARTS, shares, strict=True)})


def test_the_default_parts_of_the_digits_are_those_of_every_version_so_far():
    images, digest = data.load("digits"), hashlib.sha256()
    for replicate, shadow in ((0, 0), (1, 0), (2, 0), (0, 1), (0, 2)):
        parts = split(images, TrialConfig().split, replicate, shadow)
        digest.update(b"".join(getattr(parts, name).astype("<i8").tobytes() for name in PARTS))
    assert digest.hexdigest()[:32] == "01cf2d13222793d33ca510ba04354318"  # of commit 678ff32


def test_parts_have_the_requested_shares_of_the_pool():
    assert sizes(split(pool(), Stratified(**WHOLE))) == {"members": 120, "val": 120, "test": 160, "shadow": 0}
    assert sizes(split(pool(), Stratified(members=0.1, val=0.2, test=0.3, shadow=0.4))) == {
        "members": 40, "val": 80, "test": 120, "shadow": 160,
    }  # fmt: skip


@pytest.mark.parametrize("replicate", [0, 1])
def test_sizes_above_one_are_numbers_of_images_and_the_rest_is_not_used(replicate):
    protocol = Stratified(members=100, val=20, test=24, shadow=60)
    parts = split(pool(), protocol, replicate)
    assert sizes(parts) == {"members": 100, "val": 20, "test": 24, "shadow": 60}
    assert sizes(split(pool(), protocol, shadow=1)) == {"members": 30, "val": 30, "test": 0, "shadow": 0}
    together = np.concatenate([getattr(parts, name) for name in PARTS])
    assert len(set(together.tolist())) == 204
    numbers_and_shares = split(pool(), Stratified(members=100, val=0.05, test=24, shadow=0.15), replicate)
    assert all(np.array_equal(getattr(numbers_and_shares, name), getattr(parts, name)) for name in PARTS)


@pytest.mark.parametrize(("shares", "numbers"), [
    ({"members": 0.5, "val": 0.25, "test": 0.25, "shadow": 0}, {"members": 200, "val": 100, "test": 100, "shadow": 0}),
    ({"members": 0.7, "val": 0, "test": 0.3, "shadow": 0}, {"members": 280, "val": 0, "test": 120, "shadow": 0}),
    ({"members": 0.5, "val": 0, "test": 0.1, "shadow": 0.4}, {"members": 200, "val": 0, "test": 40, "shadow": 160}),
])  # fmt: skip
@pytest.mark.parametrize("replicate", [0, 2])
def test_shares_and_numbers_of_the_same_size_draw_the_same_images_also_without_val_or_shadow_images(shares, numbers, replicate):
    parts = split(pool(), Stratified(**shares), replicate)
    assert sizes(parts) == numbers
    same = split(pool(), Stratified(**numbers), replicate)
    assert all(np.array_equal(getattr(parts, name), getattr(same, name)) for name in PARTS)
    if not numbers["val"]:  # then a replicate has no image to exchange
        assert sorted(parts.members) == sorted(split(pool(), Stratified(**shares)).members)


def test_a_network_without_val_is_evaluated_and_audited_on_test_and_not_by_replicates_of_the_same_members():
    images = data.load("digits", pool=300)
    config = TrialConfig.of({
        "split.members": 150, "split.val": 0, "split.test": 150, "split.shadow": 0, "judge.part": "test", "epochs": 1,
        "net.width": 4, "judge.steps": 1, "judge.images": 8, "judge.audits": "standard",
    })  # fmt: skip
    one, two = (run(config.set({"replicate": i, "seed": i}), images) for i in (1, 2))
    assert np.array_equal(one.predictions["rows"], split(images, config.split).test) and one.metrics["flag/not_audited"] == 0
    audit = audit_by_others(config.set({"replicate": 1}), one.outputs, [two.outputs], [], images, one.metrics.values)
    assert not audit.evidence and not [name for name in audit.metrics.values if name.endswith("/auditor")]


@settings(deadline=None)
@given(protocols(), st.integers(0, 2))
def test_parts_of_any_sizes_are_disjoint_and_stratified_to_within_one_image_per_draw(protocol, replicate):
    images = pool(300, 3)
    parts = split(images, protocol, replicate)
    together = np.concatenate([getattr(parts, name) for name in PARTS])
    assert len(set(together.tolist())) == len(together)
    for name, count in sizes(parts).items():
        size = getattr(protocol, name)
        assert count == size if size > 1 else abs(count - 300 * size) <= 1
        assert np.ptp(np.bincount(images.y.numpy()[getattr(parts, name)], minlength=3)) <= 3


@settings(deadline=None)
@given(protocols())
def test_replicates_exchange_members_with_val_and_leave_the_other_parts_unchanged(protocol):
    first = split(pool(300, 3), protocol)
    for replicate in (1, 2):
        parts = split(pool(300, 3), protocol, replicate)
        assert sizes(parts) == sizes(first)
        assert sorted([*parts.members, *parts.val]) == sorted([*first.members, *first.val])
        assert np.array_equal(parts.test, first.test) and np.array_equal(parts.shadow, first.shadow)
        assert sorted(parts.members) != sorted(first.members)


def test_no_part_of_a_shadow_model_has_an_image_of_a_target():
    protocol = Stratified(members=0.3, val=0.1, test=0.1, shadow=0.3)
    target, model = split(pool(), protocol), split(pool(), protocol, shadow=1)
    assert sorted([*model.members, *model.val]) == sorted(target.shadow) and len(model.members) == 60
    assert not {*model.members, *model.val} & {*target.members, *target.val, *target.test}


def test_images_that_no_part_uses_are_not_reported_as_left_out():
    images = pool()
    protocol = Stratified(members=100, val=20, test=24, shadow=60)
    assert summary(images, protocol) == "400 images of 2x2 grey in 4 classes, no exact copies"
    parts, x = split(images, protocol), images.x.clone()
    high, low = sorted((parts.members[0], parts.test[0]), reverse=True)
    x[high] = x[low]
    copied = Images(x, images.y, 4)
    assert "1 of them exact copies of another" in summary(copied, protocol)
    assert ", of which 1 are left out" in summary(copied, protocol)


# -- what is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"members": 0.5}, "split: the shares members 0.5 + val 0.125 + test 0.125 + shadow 0.5 are 1.25 of the pool; lower one"),
        ({"members": 1.5}, "split: members=1.5 is neither a share of the pool, at most 1, nor a whole number of images"),
        ({"members": 0.0}, "split: members=0 leaves no images for members, which every study needs"),
        ({"val": 0.0}, "judge.part=val judges images of val, and split.val=0 leaves none; use judge.part=test"),
        ({"test": -0.1}, r"split.test=-0.1 is outside \[0, inf\)"),
        ({"members": 100, "test": 0.6}, "split: the shares val 0.125 \\+ test 0.6 \\+ shadow 0.5 are 1.225 of the pool"),
    ],
)
def test_sizes_that_no_pool_allows_are_refused(changes, message):
    message = message if "\\" in message else message.replace("+", r"\+")
    with pytest.raises(InputError, match=f"^{message}") as caught:
        TrialConfig().set({f"split.{name}": value for name, value in changes.items()})
    assert "\n" not in str(caught.value)


def test_more_images_than_the_pool_has_are_refused_with_their_number():
    expected = (
        r"^the parts \(members 300, val 0.125, test 0.125, shadow 0.1\) need 440 images, the pool has 400; "
        "lower a setting of split, such as split.shadow$"
    )
    with pytest.raises(InputError, match=expected):
        split(pool(), Stratified(members=300, shadow=0.1))
    split(pool(), Stratified(members=260, shadow=0.1))  # 400 images


def test_shadow_models_without_a_part_of_their_own_are_refused():
    with pytest.raises(InputError, match=r"^split.shadow=0 leaves no images for shadow models; raise it, or train none$"):
        split(pool(), Stratified(**WHOLE), shadow=1)
    with pytest.raises(InputError, match=r"^judge.inversion=all trains a GAN on images of the shadow models, and split.shadow=0"):
        TrialConfig().set({"judge.inversion": "all", "split.shadow": 0})


# -- flat form ----------------------------------------------------------------------------------------------------------


def test_the_sizes_are_settings_of_the_protocol():
    config = TrialConfig().set({f"split.{name}": str(value) for name, value in WHOLE.items()})
    assert config.split == Stratified(**WHOLE)
    assert {k: v for k, v in config.params().items() if k.startswith("split")} == {
        "split": "stratified", "split.members": 0.3, "split.val": 0.3, "split.test": 0.4, "split.shadow": 0.0,
    }  # fmt: skip
    assert TrialConfig.of(config.params()) == config
    assert config.set({"split": "paper"}).split == Paper() and TrialConfig.of({"split": "stratified"}).split == Stratified()
    with pytest.raises(InputError, match=r"knob of split=paper: 'members'.*; split=stratified has it"):
        TrialConfig.of({"split": "paper", "split.members": 0.3})
