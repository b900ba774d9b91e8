"""Named data sets, and pools of some of their images."""

import numpy as np
import pytest
import torch
from no_network import nothing_can_be_downloaded

from core import data
from core.data import load
from core.data.files import LFS_MARKER
from core.errors import InputError


def test_digits_are_those_of_scikit_learn_as_bytes():
    raw = pytest.importorskip("sklearn.datasets").load_digits()
    images = load("digits")
    assert images.x.dtype == torch.uint8 and images.y.dtype == torch.int64
    assert images.shape == (1, 8, 8) and images.classes == 10 and len(images.y) == 1797
    assert (images.x.min(), images.x.max()) == (0, 255)
    assert np.array_equal(images.y.numpy(), raw.target)
    assert np.abs(images.x[:, 0].numpy() / 255 - raw.images / 16).max() <= 0.5 / 255 + 1e-9


def test_a_smaller_pool_is_reproducible_and_stratified():
    full, part = load("digits"), load("digits", pool=300)
    repeated = load("digits", pool=300)
    assert torch.equal(part.x, repeated.x) and torch.equal(part.y, repeated.y)
    assert len(part.y) == 300
    expected = np.bincount(full.y) * 300 / 1797
    assert np.abs(np.bincount(part.y) - expected).max() < 1
    assert len({image.numpy().tobytes() for image in part.x} - {image.numpy().tobytes() for image in full.x}) == 0


def test_images_and_labels_stay_together_in_a_smaller_pool():
    full, part = load("digits"), load("digits", pool=80)
    labels = {image.numpy().tobytes(): int(label) for image, label in zip(full.x, full.y, strict=True)}
    assert [labels[image.numpy().tobytes()] for image in part.x] == part.y.tolist()


@pytest.mark.parametrize("size, text", [(2000, "more than the 1797 images"), (79, "at least 8 images for each of 10")])
def test_a_pool_that_cannot_be_drawn_is_rejected(size, text):
    with pytest.raises(InputError, match=text):
        load("digits", pool=size)


def test_an_unknown_data_set_is_rejected_with_the_most_similar_name():
    with pytest.raises(InputError, match=r"did you mean 'cifar10'.*parquet:DIR"):
        load("cifar_10")


@pytest.mark.parametrize("name, epsilon", [("cifar10", 8 / 255), ("mnist", 0.3), ("hard_digits", 0.05), ("parquet:mine", 8 / 255)])
def test_the_default_epsilon_is_the_customary_one(name, epsilon):
    assert data.default_epsilon(name) == epsilon


def test_a_failed_download_keeps_the_empty_folders_of_the_user(tmp_path, monkeypatch):
    nothing_can_be_downloaded(monkeypatch)
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="cannot read CIFAR10"):
        data.load("cifar10", tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"]


@pytest.mark.parametrize(
    "name, file", [("cifar10", "cifar-10-batches-py/data_batch_1"), ("cifar10", "cifar-10-python.tar.gz"),
                   ("mnist", "MNIST/raw/train-images-idx3-ubyte"), ("svhn", "train_32x32.mat")],
)  # fmt: skip
def test_a_git_lfs_pointer_in_the_data_folder_is_recognised(tmp_path, monkeypatch, name, file):
    nothing_can_be_downloaded(monkeypatch)
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    for other in ("train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte") if name == "mnist" else ():
        (tmp_path / "MNIST/raw" / other).write_bytes(LFS_MARKER + b"v1\n")
    (tmp_path / file).write_bytes(LFS_MARKER + b"v1\noid sha256:0\nsize 1\n")
    with pytest.raises(InputError, match=r"cannot read .*: it is a Git LFS pointer, not the data; run `git lfs pull`") as caught:
        load(name, tmp_path)
    assert "\n" not in str(caught.value) and (tmp_path / file).exists()


@pytest.mark.parametrize("content", [b"", b"\0\0\x08\x03\0\0", b"not idx"])
def test_damaged_files_of_a_named_data_set_are_reported_in_one_line(tmp_path, monkeypatch, content):
    nothing_can_be_downloaded(monkeypatch)
    (tmp_path / "MNIST/raw").mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (tmp_path / f"MNIST/raw/{part}-{kind}-ubyte").write_bytes(content)
    with pytest.raises(InputError, match="cannot read MNIST from") as caught:
        load("mnist", tmp_path)
    assert "\n" not in str(caught.value)
