"""The decorator of attacks: they accept images of any floating type, in every mode of autograd."""

import functools
from collections.abc import Callable
from typing import ParamSpec

from torch import Tensor, nn

from core.modes import wide, with_autograd

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
