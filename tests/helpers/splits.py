"""Splits of generated pools."""

from hypothesis import assume

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
