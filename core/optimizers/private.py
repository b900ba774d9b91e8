"""Opacus' components combined for this training loop: per-image gradients of an unwrapped network, over several workers."""

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
    """Opacus' hooks for networks in channels-last memory; its gradient of a convolution assumes contiguous strides."""

    def capture_activations_hook(self, module, forward_input, _forward_output) -> None:
        inputs = [t.contiguous() for t in forward_input] if self.hooks_enabled else forward_input
        super().capture_activations_hook(module, inputs, _forward_output)


class PrivateSGD(DPOptimizer):
    """An optimizer that clips per-image gradients, sums them over images and workers, adds noise, and averages.

    Every worker adds the same noise. Losses must be summed over images: multiply a batch mean by `scale`.
    """

    def __init__(self, net: Net, knobs, batch_size: float):
        """Attach hooks to `net`, which must not have batch norm; `batch_size` is the expected size over all workers."""
        for module in net.modules():  # tensors that backward hooks read must not be overwritten
            if hasattr(module, "inplace"):
                module.inplace = False  # pyright: ignore[reportArgumentType]
        super().__init__(
            torch.optim.SGD(net.parameters(), lr=knobs.lr, momentum=knobs.momentum),
            noise_multiplier=knobs.noise_multiplier, max_grad_norm=knobs.max_grad_norm,
            expected_batch_size=batch_size,  # pyright: ignore[reportArgumentType]  (a mean need not be an integer)
        )  # fmt: skip
        self.hooks = _Hooks(nn.ModuleList([net.body, net.head]), loss_reduction="sum")
        self.hooks.disable_hooks()

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Record per-image gradients of the forward and backward passes inside; attacks must run outside."""
        self.hooks.enable_hooks()
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Full backward hook is firing")
                yield
        finally:
            self.hooks.disable_hooks()
            self._drop_unused()

    def _drop_unused(self) -> None:
        """Discard forward passes without a backward pass through some layer (the head, if only a penalty reads hidden units)."""
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
        """The factor that turns this worker's share of a batch mean over `images` into its sum."""
        return images / workers.count()

    def pre_step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Clip and add noise as Opacus does, also for an empty batch."""
        parameters: list[Any] = self.params  # Opacus sets attributes on them
        if all(p.grad_sample is None for p in parameters):
            for p in parameters:
                p.grad_sample = p.new_zeros((0, *p.shape))
        return super().pre_step(closure)

    def clip_and_accumulate(self) -> None:
        """Clip and sum as Opacus does, then sum over workers."""
        super().clip_and_accumulate()
        parameters: list[Any] = self.params
        for p in parameters:
            p.summed_grad = workers.total(p.summed_grad)
