"""Data-parallel training: each worker's rows of a batch, and sums and averages over workers.

Without `torch.distributed` there is one worker, and everything here is the identity. Evaluation runs on the first worker `alone`,
where these collective operations raise an error.
"""

import contextlib
from collections.abc import Iterable, Iterator
from contextvars import ContextVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

_ALONE: ContextVar[bool] = ContextVar("alone", default=False)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Mark code that one worker runs without the others: inside, a collective operation raises RuntimeError.

    Without this it would wait for the others until a timeout of half an hour. It also raises if there is only one worker, so that
    every evaluation in one process shows that none is reached. Can be used as a decorator.
    """
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def _check_together(operation: str) -> None:
    """Reject a collective operation in code that one worker runs alone.

    Raises:
        RuntimeError: this code runs inside `alone`.
    """
    if _ALONE.get():
        raise RuntimeError(f"{operation} needs all workers, but evaluation runs on one of them; store the statistic in training")


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
    _check_together("workers.total")
    values = values.detach().clone()
    if count() > 1:
        dist.all_reduce(values)
    return values


def batch_mean(values: Tensor) -> Tensor:
    """The mean over the global batch of one number per image.

    The value is the same on every worker, bit for bit, so that all take the same branch where it decides one. The gradient is this
    worker's part, scaled so that its average over workers is the gradient of the global mean. Losses that compare a batch mean with
    a threshold must use this function.
    """
    _check_together("workers.batch_mean")
    if count() == 1:
        return values.mean()
    sums = total(torch.stack([values.sum(), values.new_tensor(float(len(values)))]))
    part = values.sum() * (count() / sums[1])
    return sums[0] / sums[1] + (part - part.detach())


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace each gradient by its mean over workers, with a single all-reduce."""
    _check_together("workers.average_gradients")
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


def synchronised(net: nn.Module) -> nn.Module:
    """Replace batch norm by SyncBatchNorm, whose statistics in training mode are those of the batches of all workers."""
    net = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    for layer in net.modules():
        if isinstance(layer, nn.SyncBatchNorm):
            layer.register_forward_pre_hook(_check_batch_norm)
    return net


def _check_batch_norm(layer: nn.Module, inputs: object) -> None:
    if layer.training:
        _check_together("SyncBatchNorm in training mode")
