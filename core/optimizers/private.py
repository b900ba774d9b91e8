"""Opacus' parts, put together for our loop: per-image gradients of a network that stays itself, and workers."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from opacus.grad_sample.grad_sample_module import GradSampleHooks, promote_current_grad_sample
    from opacus.optimizers import DPOptimizer

from core import workers
from core.nets import Net


class _Hooks(GradSampleHooks):
    """Opacus' hooks, for networks that are channels last: its gradient of a convolution takes strides for contiguous ones."""

    def capture_activations_hook(self, module, forward_input, _forward_output) -> None:
        given = [t.contiguous() for t in forward_input] if self.hooks_enabled else forward_input
        super().capture_activations_hook(module, given, _forward_output)


class PrivateSGD(DPOptimizer):
    """Clips and sums per-image gradients, sums over workers, adds the same noise on every worker, averages.

    Losses must be summed over images: `scale` is what a batch mean is to be multiplied with.
    """

    def __init__(self, net: Net, knobs, batch_size: float):
        """`net`: without batch norm. `batch_size`: expected, over all workers."""
        for module in net.modules():  # what backward hooks have looked at must not be overwritten
            if hasattr(module, "inplace"):
                module.inplace = False  # pyright: ignore[reportArgumentType]
        super().__init__(
            torch.optim.SGD(net.parameters(), lr=knobs.lr, momentum=knobs.momentum),
            noise_multiplier=knobs.noise_multiplier, max_grad_norm=knobs.max_grad_norm,
            expected_batch_size=batch_size,  # pyright: ignore[reportArgumentType]  (a mean need not be whole)
        )  # fmt: skip
        self.hooks = _Hooks(nn.ModuleList([net.body, net.head]), loss_reduction="sum")
        self.hooks.disable_hooks()

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Keep per-image gradients of the forward and backward passes inside. Attacks stay outside."""
        self.hooks.enable_hooks()
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Full backward hook is firing")
                yield
        finally:
            self.hooks.disable_hooks()
            self._drop_unused()

    def _drop_unused(self) -> None:
        """Forget forward passes that had no backward pass through some layer (the head, where a penalty reads hidden units)."""
        for module in self.hooks.iterate_submodules(self.hooks._module):
            getattr(module, "activations", []).clear()
            if hasattr(module, "max_batch_len"):
                del module.max_batch_len
        parameters: list[Any] = self.params
        for p in parameters:
            p._forward_counter = 0
            if hasattr(p, "_current_grad_sample"):
                promote_current_grad_sample(p)

    def scale(self, images: int) -> float:
        """From this worker's share of a batch mean over `images` to its sum."""
        return images / workers.count()

    def pre_step(self, closure: Callable[[], float] | None = None) -> float | None:
        """As Opacus does, also where nobody was drawn."""
        parameters: list[Any] = self.params  # Opacus hangs attributes on them
        if all(p.grad_sample is None for p in parameters):
            for p in parameters:
                p.grad_sample = p.new_zeros((0, *p.shape))
        return super().pre_step(closure)

    def clip_and_accumulate(self) -> None:
        """As Opacus does, over all workers."""
        super().clip_and_accumulate()
        parameters: list[Any] = self.params
        for p in parameters:
            p.summed_grad = workers.total(p.summed_grad)
