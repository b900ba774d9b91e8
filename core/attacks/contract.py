"""What every attack accepts and returns: images of any floating type, in every mode of autograd."""

import functools
from collections.abc import Callable
from typing import ParamSpec

import torch
from torch import Tensor, nn

from core.modes import with_autograd

P = ParamSpec("P")


def attack(function: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Decorator of functions (net, x, y, ...) -> images like x, for what all attacks have in common.

    They work under `torch.no_grad` and `torch.inference_mode`, and the result requires no gradient. With float16 or bfloat16
    images they compute in float32, in which a step does not vanish and no square overflows, while the network gets its own type.

    Raises:
        ValueError: the images are not floating-point, or the weights of the network were made under `torch.inference_mode`.
    """

    @functools.wraps(function)
    def run(net: nn.Module, x: Tensor, y: Tensor, *args, **knobs) -> Tensor:
        return function(*wide(net, x), y, *args, **knobs).to(x.dtype)  # pyright: ignore[reportCallIssue]

    return with_autograd(run)  # pyright: ignore[reportReturnType]


def wide(net: nn.Module, x: Tensor) -> tuple[nn.Module, Tensor]:
    """A network and images with which to compute in float32 or float64; the same ones unless the images have half precision.

    Raises:
        ValueError: the images are not floating-point.
    """
    if not x.is_floating_point():
        raise ValueError(f"attacks take floating-point images in [0, 1], got {x.dtype}; convert them with core.modes.as_float")
    return (_Narrow(net, x.dtype), x.float()) if x.dtype in (torch.float16, torch.bfloat16) else (net, x)


class _Narrow(nn.Module):
    """A network of half precision, called with float32 images; its logits become float32."""

    def __init__(self, net: nn.Module, dtype: torch.dtype):
        super().__init__()
        self.net, self.dtype = net, dtype

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.to(self.dtype)).float()
