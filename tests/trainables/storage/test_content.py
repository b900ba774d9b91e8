"""Fingerprints of code, images and configurations: which trainings count as the same."""

import subprocess
import sys

import pytest
import torch

from core import data
from core.config import TrialConfig
from core.data import Images
from trainables.storage.content import ast_fingerprint, code_fingerprint, content_key, images_fingerprint


@pytest.mark.parametrize(
    ("source", "same"),
    [
        ("def f(x):\n    return x+1  # a comment", True),
        ('"""A docstring."""\n\n\ndef f(x):\n    """Another."""\n    return (x + 1)', True),
        ('def f(x):\n    return x + 1\n"""Text about f."""', True),
        ("def f(x):\n    return x + 2", False),
        ("def f(x, y=0):\n    return x + 1", False),
        ('def f(x):\n    return x + 1\nNAME = "text"', False),
    ],
)
def test_comments_docstrings_and_layout_are_not_part_of_the_fingerprint_of_code(source, same):
    assert (ast_fingerprint("def f(x):\n    return x + 1") == ast_fingerprint(source)) is same


def test_the_fingerprint_of_the_code_is_the_same_in_every_process():
    other = subprocess.run(
        [sys.executable, "-c", "from trainables.storage import content; print(content.code_fingerprint())"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout.strip() == code_fingerprint()


def test_one_changed_pixel_or_label_or_another_order_changes_the_fingerprint_of_images():
    digits = data.load("digits")
    fingerprints = {images_fingerprint(digits), images_fingerprint(digits.at(torch.randperm(len(digits.y))))}
    for part in ("x", "y"):
        x, y = digits.x.clone(), digits.y.clone()
        (x if part == "x" else y).view(-1)[7] += 1
        fingerprints.add(images_fingerprint(Images(x, y, digits.classes)))
    assert len(fingerprints) == 4 and images_fingerprint(data.load("digits")) in fingerprints


def test_every_setting_is_part_of_the_content_key_and_the_order_of_settings_is_not():
    config = TrialConfig.of({"loss": "crl"})
    keys = {content_key(config.params(), "images and code")}
    changes = [{"loss.lambda": 0.2}, {"seed": 1}, {"shadow": 1}, {"judge.epsilon": 0.05}, {"loss": "relaxloss"}]
    keys |= {content_key(config.set(change).params(), "images and code") for change in changes}
    keys.add(content_key(config.params(), "other images"))
    assert len(keys) == len(changes) + 2
    reordered = dict(reversed(config.params().items()))
    assert content_key(reordered, "images and code") in keys
