"""Pools for tests of splits, and splits of generated pools."""

import torch
from hypothesis import assume

from core import data
from core.data import Images, Parts, split
from core.data.protocols import Paper, SplitProtocol
from core.errors import InputError


def split_or_discard(images: Images, protocol: SplitProtocol, replicate: int = 0, shadow: int = 0) -> Parts:
    """The split; an example is discarded if a class has no image in a part because the paper's split is not stratified, or because
    copies are left out."""
    try:
        return split(images, protocol, replicate, shadow)
    except InputError as error:
        assume(protocol != Paper() and "exact copies were left out" not in str(error))
        raise


def digits_with_a_test_file() -> Images:
    """Digits, of which the last 400 are the test file; these are inverted, so that they differ from the members."""
    digits = data.load("digits", pool=1000)
    in_test_file = torch.arange(1000) >= 600
    x = torch.where(in_test_file.view(-1, 1, 1, 1), 255 - digits.x, digits.x)
    return Images(x, digits.y, digits.classes, in_test_file=in_test_file)
