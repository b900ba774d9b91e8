"""Recording the outputs of a network's rectifiers."""

import contextlib
from collections.abc import Iterator

from torch import Tensor, nn

RECTIFIERS = (nn.ReLU, nn.LeakyReLU, nn.ReLU6)


@contextlib.contextmanager
def activations(net: nn.Module) -> Iterator[list[Tensor]]:
    """Record the output of each rectifier during the forward passes inside, in order, each [B, ...]."""
    outputs: list[Tensor] = []
    rectifiers = [module for module in net.modules() if isinstance(module, RECTIFIERS)]
    hooks = [module.register_forward_hook(lambda _, inputs, out: outputs.append(out)) for module in rectifiers]  # pyright: ignore[reportArgumentType]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()
