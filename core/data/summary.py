"""A description of a pool, with its exact copies and how they change the parts."""

import numpy as np

from core.data.images import Images, size_text
from core.data.protocols import PARTS, SplitProtocol
from core.data.splits import DEFAULT, split


def summary(images: Images, protocol: SplitProtocol = DEFAULT) -> str:
    """Number, size and classes of the images, and the number of exact copies among them.

    Args:
        images: the pool.
        protocol: settings of the draw; see `core.data.split`.
    """
    parts = split(images, protocol)
    text = f"{len(images.y):,} images of {size_text(images.shape)} in {images.classes} classes"
    _, first, image = np.unique(images.ids.numpy(), return_index=True, return_inverse=True)
    copies = len(image) - len(first)
    if not copies:
        return f"{text}, no exact copies"
    relabelled = int((images.y.numpy() != images.y.numpy()[first[image]]).sum())
    drawn = protocol.draw(images, 0, 0)
    left_out = sum(len(getattr(drawn, name)) - len(getattr(parts, name)) for name in PARTS)
    return (
        f"{text}, {copies:,} of them exact copies of another ({relabelled:,} with another label), of which {left_out:,} are left "
        "out because they were drawn into another part"
    )


def description(images: Images, protocol: SplitProtocol = DEFAULT) -> list[str]:
    """The summary of a pool and the remarks of its loader, one line each."""
    return [summary(images, protocol), *images.notes]
