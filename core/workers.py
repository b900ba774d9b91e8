"""Data-parallel training: each worker's rows of a batch, and sums and averages over workers.

Without `torch.distributed` there is one worker, and everything here is the identity.
"""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor


def rank() -> int:
    """Rank of this worker."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def count() -> int:
    """Number of workers that train this network."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rows(total: int) -> slice:
    """The rows of a global batch that belong to this worker; the numbers of rows differ by at most one."""
    return slice(total * rank() // count(), total * (rank() + 1) // count())


def total(values: Tensor) -> Tensor:
    """The sum over workers, without gradient."""
    values = values.detach().clone()
    if count() > 1:
        dist.all_reduce(values)
    return values


def batch_mean(values: Tensor) -> Tensor:
    """The mean over the global batch of one number per image.

    The value is the same on every worker. The gradient is this worker's part, scaled so that its average over workers is the
    gradient of the global mean. Losses that compare a batch mean with a threshold must use this function.
    """
    if count() == 1:
        return values.mean()
    sums = total(torch.stack([values.sum(), values.new_tensor(float(len(values)))]))
    part = values.sum() * (count() / sums[1])
    return part + (sums[0] / sums[1] - part).detach()


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace each gradient by its mean over workers, with a single all-reduce."""
    if count() == 1:
        return
    grads = [p.grad for p in parameters if p.grad is not None]
    if not grads:
        return
    flat = torch.cat([g.reshape(-1) for g in grads])
    dist.all_reduce(flat)
    flat /= count()
    for g, part in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
        g.copy_(part.view(g.shape))
