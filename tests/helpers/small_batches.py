"""A small float64 network and a batch of images for it."""

import torch

from core import nets
from core.slots import Context

torch.set_num_threads(1)


def classifier(seed: int = 0, shape: tuple[int, int, int] = (1, 4, 4)) -> nets.Net:
    """A convnet for three classes."""
    torch.manual_seed(seed)
    return nets.build(nets.NETS["convnet"](width=3, hidden=6), shape, 3).double()


def context(net, classes: int = 3) -> Context:
    """The context of a network for these images."""
    return Context(classes, 6, (1, 4, 4), 2, net)


def grey_images(n: int = 6, shape: tuple[int, ...] = (1, 4, 4), seed: int = 0):
    """Images far from black and white, and their classes."""
    stream = torch.Generator().manual_seed(seed)
    return 0.4 + 0.2 * torch.rand(n, *shape, generator=stream, dtype=torch.float64), torch.arange(n) % 3
