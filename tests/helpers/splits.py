"""Splits of generated pools."""

from hypothesis import assume

from core.data import Images, Parts, split
from core.data.protocols import Paper, SplitProtocol
from core.errors import InputError


def split_or_discard(images: Images, protocol: SplitProtocol, replicate: int = 0, shadow: int = 0) -> Parts:
    """The split; an example is discarded if the paper's split, which is not stratified, leaves a class without images in a part."""
    try:
        return split(images, protocol, replicate, shadow)
    except InputError:
        assume(protocol != Paper())
        raise
