"""Evaluation mode, the logits of a network in this mode, and gradients in every mode of autograd."""

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor, nn

P = ParamSpec("P")
R = TypeVar("R")


@contextlib.contextmanager
def eval_mode(net: nn.Module, freeze_weights: bool = False) -> Iterator[None]:
    """Put a network into evaluation mode; on exit, restore the mode of each module. Running statistics are unchanged.

    With `freeze_weights`, parameters require no gradient inside, so that autograd keeps nothing that only they would need.
    """
    modes = [(module, module.training) for module in net.modules()]
    trainable = [p for p in net.parameters() if p.requires_grad] if freeze_weights else []
    try:
        net.eval()
        for p in trainable:
            p.requires_grad_(False)
        yield
    finally:
        for module, training in modes:
            module.training = training
        for p in trainable:
            p.requires_grad_()


def with_autograd(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator of functions that compute gradients, so that they also work under `torch.no_grad` and `torch.inference_mode`.

    Inside, autograd is on. The function gets tensors that require no gradient, so that its results require none either; copies
    of those that were made in inference mode, which autograd refuses.

    Raises:
        ValueError: the weights of a network were made in inference mode.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch.inference_mode(False), torch.enable_grad():
            return function(*map(_ordinary, args), **{name: _ordinary(value) for name, value in kwargs.items()})  # pyright: ignore[reportCallIssue]

    return run


def _ordinary(value):
    """An argument with which autograd can compute: a tensor, or a dataclass of tensors such as `core.data.Images`."""
    if isinstance(value, Tensor):
        return value.clone() if value.is_inference() else value.detach()
    if isinstance(value, nn.Module):
        if any(tensor.is_inference() for tensor in itertools.chain(value.parameters(), value.buffers())):
            raise ValueError(
                "the weights of the network were made under torch.inference_mode(), where they can have no gradient; "
                "make the network outside of it, or pass copy.deepcopy(net), made outside of it"
            )
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        tensors = {name: _ordinary(v) for name, v in fields.items() if isinstance(v, Tensor | nn.Module)}
        if any(isinstance(v, Tensor) for v in tensors.values()):
            return dataclasses.replace(value, **tensors)
    return value


def wide(net: nn.Module, x: Tensor) -> tuple[nn.Module, Tensor]:
    """A network and images with which to compute in float32 or float64; the same ones unless the images have half precision.

    Raises:
        ValueError: the images are not floating-point.
    """
    if not x.is_floating_point():
        raise ValueError(f"floating-point images in [0, 1] are needed, got {x.dtype}; convert them with core.modes.as_float")
    return (_Narrow(net, x.dtype), x.float()) if x.dtype in (torch.float16, torch.bfloat16) else (net, x)


class _Narrow(nn.Module):
    """A network of half precision, called with float32 images; its logits become float32."""

    def __init__(self, net: nn.Module, dtype: torch.dtype):
        super().__init__()
        self.net, self.dtype = net, dtype

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.to(self.dtype)).float()


def predict(net: nn.Module, x: Tensor, batch_size: int = 512) -> Tensor:
    """Logits in evaluation mode, float32 [N, C] on the images' device, of uint8 images or of floats in [0, 1]."""
    with eval_mode(net), torch.no_grad():
        return torch.cat([net(as_float(part)).float() for part in x.split(batch_size)])


def as_float(x: Tensor) -> Tensor:
    """Convert uint8 images to floats in [0, 1], channels last in memory; floats keep their values."""
    x = x.to(memory_format=torch.channels_last)
    return x.float().div_(255) if x.dtype == torch.uint8 else x
