"""The split by a data set's own files: members and validation images from the training file, the test file apart."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from splits import digits_with_a_test_file

from core import data
from core.config import TrialConfig
from core.data import Images, split
from core.data.protocols import Official
from core.errors import InputError
from core.evaluation.privacy import audit_by_others
from core.trial import run

PARTS = ("members", "val", "test", "shadow")


def pool(training: int, test: int, classes: int = 5, seed: int = 0) -> Images:
    """A pool of different images, of which the last `test` are those of the test file."""
    n = training + test
    y = torch.from_numpy(np.random.RandomState(seed).permutation(np.arange(n) % classes))
    x = torch.arange(n, dtype=torch.int32).view(torch.uint8).reshape(-1, 1, 2, 2)
    return Images(x, y, classes, in_test_file=torch.arange(n) >= training)


@settings(deadline=None)
@given(
    st.integers(100, 300), st.integers(20, 60), st.sampled_from([0, 0.1, 0.5, 20]), st.sampled_from([0, 0.2, 30]),
    st.integers(0, 3), st.booleans(),
)  # fmt: skip
def test_members_and_val_are_of_the_training_file_and_test_is_the_test_file(training, test, val, shadow, replicate, permuted):
    images = pool(training, test)
    if permuted:  # the file of an image counts, and not its position
        images = images.at(torch.randperm(len(images.y), generator=torch.Generator().manual_seed(replicate)))
    parts = split(images, Official(val=val, shadow=shadow), replicate)
    in_test_file = images.in_test_file.numpy()
    assert np.array_equal(parts.test, np.flatnonzero(in_test_file))
    rest = np.concatenate([parts.members, parts.val, parts.shadow])
    assert np.array_equal(np.sort(rest), np.flatnonzero(~in_test_file))
    sizes = {"val": val if val > 1 else val * training, "shadow": shadow if shadow > 1 else shadow * training}
    assert all(abs(len(getattr(parts, name)) - size) <= 1 for name, size in sizes.items())
    y = images.y.numpy()
    for name in ("members", "val"):
        counts = np.bincount(y[getattr(parts, name)], minlength=5)
        share = len(getattr(parts, name)) / training
        assert np.abs(counts - share * np.bincount(y[~in_test_file])).max() < 3  # stratified in up to three steps


@pytest.mark.parametrize(("val", "members"), [(10_000, 40_000), (5_000, 45_000), (0, 50_000)])
def test_the_splits_of_the_papers_for_cifar10(val, members):
    images = pool(50_000, 10_000, 10)
    parts = split(images, Official(val=val))
    assert [len(getattr(parts, name)) for name in PARTS] == [members, val, 10_000, 0]


@pytest.mark.thorough
def test_the_real_images_are_split_by_their_files():
    folder = Path(os.environ.get("TRILEMMA_TEST_DATA", "")) / "cifar10-jpeg"
    if not (folder / "train.parquet").is_file():
        pytest.skip("TRILEMMA_TEST_DATA names no folder with cifar10-jpeg")
    images = data.load(f"parquet:{folder}")
    for val in (0, 5_000, 10_000):
        parts = split(images, Official(val=val))
        assert [len(getattr(parts, name)) for name in PARTS] == [50_000 - val, val, 10_000, 0]
        assert np.array_equal(np.sort(np.concatenate([parts.members, parts.val])), np.arange(50_000))
        assert np.array_equal(np.sort(parts.test), np.arange(50_000, 60_000))
        assert data.overlap(images, parts) == 0


def test_replicates_draw_members_of_the_training_file_again_and_shadow_models_have_their_own():
    images, protocol = pool(200, 40), Official(val=50, shadow=40)
    first, drawn = split(images, protocol), set()
    for replicate in range(1, 5):
        parts = split(images, protocol, replicate)
        assert np.array_equal(parts.test, first.test) and np.array_equal(parts.shadow, first.shadow)
        assert set(parts.members) | set(parts.val) == set(first.members) | set(first.val)
        drawn.add(frozenset(parts.members))
    assert len(drawn) == 4
    shadow = split(images, protocol, shadow=1)
    assert set(shadow.members) | set(shadow.val) == set(first.shadow) and not len(shadow.test)


@pytest.mark.parametrize(("images", "protocol", "shadow", "message"), [
    (replace(pool(100, 20), in_test_file=None), {}, 0, "needs a data set with a training and a test file; use split=stratified"),
    (pool(100, 20), {"val": 100}, 0, r"leave no member of the 100 images of the training file; lower split.val"),
    (pool(100, 20), {"val": 60, "shadow": 50}, 0, "lower split.val or split.shadow"),
    (pool(100, 20), {}, 1, "split.shadow=0 leaves no images for shadow models"),
])  # fmt: skip
def test_a_split_that_cannot_be_drawn_is_refused_with_the_remedy(images, protocol, shadow, message):
    with pytest.raises(InputError, match=message):
        split(images, Official(**protocol), shadow=shadow)


@pytest.mark.parametrize(("settings", "message"), [
    ({"split.val": 0.6, "split.shadow": 0.4}, "leave no image for members"), ({"split.val": 12.5}, "whole number of images"),
    ({"split.val": 0}, "split.val=0 leaves none; use judge.part=test"),
])  # fmt: skip
def test_illegal_sizes_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        TrialConfig.of({"split": "official", **settings})


# -- audits -----------------------------------------------------------------------------------------------------------

TINY = {"split": "official", "epochs": 1, "net.width": 4, "judge.steps": 1, "judge.images": 8, "judge.part": "test"}


def test_audits_use_images_that_are_drawn_like_the_members_and_everything_else_uses_the_test_file():
    images = digits_with_a_test_file()
    config = TrialConfig.of({**TINY, "split.val": 200})
    parts = split(images, config.split)
    result = run(config, images)
    assert np.array_equal(result.predictions["rows"], parts.test)
    assert set(result.predictions["own/rows"]) == set(parts.members) | set(parts.val)
    # The test images differ from the members so much that any audit by them would show a leak of a network without one.
    assert abs(result.metrics["mia_auc"] - 0.5) < 0.08 and result.metrics["flag/not_audited"] == 0


def test_the_confirmation_of_a_study_audits_replicates_by_images_of_the_training_file():
    images = digits_with_a_test_file()
    base = TrialConfig.of({**TINY, "split.val": 200, "split.shadow": 100, "judge.audits": "standard"})
    configs = [base.set({"replicate": 1, "seed": 1}), base.set({"replicate": 2, "seed": 2}), base.set({"shadow": 1})]
    results = [run(config, images) for config in configs]
    target, sibling, shadow = (result.outputs for result in results)
    audit = audit_by_others(configs[0], target, [sibling], [shadow], images, results[0].metrics.values)
    parts = split(images, base.split, replicate=1)
    for protocol in ("auditor", "attacker"):  # no protocol compares members with the test file
        assert set(audit.evidence[f"{protocol}/rows"]) == {*parts.members, *parts.val}
        assert set(audit.evidence[f"{protocol}/rows"][audit.evidence[f"{protocol}/member"]]) == {*parts.members}
    assert np.array_equal(results[0].predictions["rows"], parts.test)
    assert {"mia_auc/lira", "mia_auc/rmia_offline"} <= audit.metrics.values.keys()


@pytest.mark.parametrize("audits", ["scores", "standard"])
def test_without_such_images_nothing_is_audited_and_a_flag_says_so(audits):
    result = run(TrialConfig.of({**TINY, "split.val": 0, "judge.audits": audits}), digits_with_a_test_file())
    assert result.metrics["flag/not_audited"] == 1
    assert not [name for name in result.metrics.values if name.startswith("mia_") or "leak" in name]
    assert not [name for name in result.predictions if name.startswith("own/")]
    assert result.metrics["accuracy"] >= 0 and (result.outputs is not None) == (audits == "standard")


def test_inversion_without_such_images_is_refused():
    config = TrialConfig.of({**TINY, "split.val": 0, "judge.inversion": "ascent", "judge.inversion_iterations": 2})
    with pytest.raises(InputError, match=r"judge\.inversion needs non-members that are drawn like the members"):
        run(config, digits_with_a_test_file())


def test_the_file_of_an_image_survives_selection_and_transport():
    images = digits_with_a_test_file()
    assert torch.equal(images.at(torch.tensor([599, 600])).in_test_file, torch.tensor([False, True]))
    assert torch.equal(images.to(torch.device("cpu")).in_test_file, images.in_test_file)
    assert torch.equal(Images.of_arrays(images.arrays()).in_test_file, images.in_test_file)
    assert data.load("digits").in_test_file is None and Images.of_arrays(data.load("digits").arrays()).in_test_file is None
