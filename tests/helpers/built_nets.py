"""Networks that several tests share: with weights, or without memory for them on the meta device."""

import collections
import functools

import torch
from torch import nn

from core import nets
from core.nets import NETS

torch.set_num_threads(1)
SMALL_KNOBS = {"wrn": {"depth": 10, "widen": 1}, "densenet": {"depth": 16}, "resnet10": {"width": 8}}
"""Settings that make slow networks small where tests compute with them."""
SHAPE = collections.defaultdict(lambda: (3, 32, 32), mlenet=(1, 28, 28), net_a=(1, 28, 28))
"""Shape of the images that a network was designed for."""
TEST_SHAPE = SHAPE | dict.fromkeys(("resnet10", "resnet18", "resnet50", "googlenet", "mobilenet"), (3, 16, 16))
"""Shape of the images with which tests compute; networks on the meta device receive images of shape `SHAPE`."""


def make(name: str, shape=(3, 32, 32), classes=10, seed=0, **stats):
    """Build a network with weights, in evaluation mode."""
    torch.manual_seed(seed)
    return nets.build(NETS[name](**SMALL_KNOBS.get(name, {})), shape, classes, **stats).eval()


@functools.cache
def shared_net(name: str) -> nets.Net:
    """A network with weights, which tests must not change."""
    return make(name, TEST_SHAPE[name])


@functools.cache
def shared_outputs(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Features and logits of the shared network for `random_images`."""
    x = random_images(TEST_SHAPE[name])
    with torch.no_grad():
        return shared_net(name).features(x), shared_net(name)(x)


@functools.cache
def meta_net(name: str, shape=(3, 32, 32), classes=10, **knobs) -> nets.Net:
    """A network on the meta device, which has shapes but no memory; tests must not change it."""
    with torch.device("meta"):
        return nets.build(NETS[name](**knobs), shape, classes).eval()


def layers_of(net: nn.Module, kind) -> list:
    """The layers of a kind, in order."""
    return [m for m in net.modules() if isinstance(m, kind)]


def parameter_count(net: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in net.parameters())


def random_images(shape=(3, 32, 32), batch=2, seed=0):
    """Random images in [0, 1]."""
    return torch.rand(batch, *shape, generator=torch.Generator().manual_seed(seed))
