"""Training runs of a fraction of a second, which several tests share."""

import torch

from core import rng, train
from core.bound import Bound
from core.config import TrialConfig
from core.data import Images

torch.set_num_threads(1)
TINY = {"net.width": 3, "net.hidden": 6, "epochs": 2, "batch_size": 8, "optimizer.lr": 0.05}
"""Settings of the runs; with 23 members, an epoch has batches of 8, 8 and 7."""


def images(n: int = 23, seed: int = 0, shape: tuple[int, int, int] = (1, 8, 8), classes: int = 3) -> Images:
    """Random images; the labels are 0, 1, 2, 0, 1, 2, ..."""
    x = torch.randint(0, 256, (n, *shape), generator=torch.Generator().manual_seed(seed))
    return Images(x.to(torch.uint8), torch.arange(n) % classes, classes)


def numbered_images(n: int = 23, seed: int = 0, shape: tuple[int, int, int] = (1, 8, 8)) -> Images:
    """Random images; the first pixel of each is its row number."""
    numbered = images(n, seed, shape)
    numbered.x[:, 0, 0, 0] = torch.arange(n)
    return numbered


def fit(params: dict, members: Images | None = None, **options) -> Bound:
    """Train with `TINY`, changed by `params`."""
    return train.train(TrialConfig.of(TINY | params), members or images(), images(9, seed=1), **options)


def fit_numbered(params: dict, members: Images | None = None, **options) -> Bound:
    """Train as `fit` does, by default on `numbered_images`."""
    return train.train(TrialConfig.of(TINY | params), members or numbered_images(), numbered_images(9, seed=1), **options)


def weights(module: torch.nn.Module) -> torch.Tensor:
    """A copy of all parameters, as one vector."""
    return torch.cat([p.detach().reshape(-1).clone() for p in module.parameters()])


def draw(count: int, seed: int = 0) -> rng.Draw:
    """Noise for a batch of `count` images."""
    return rng.Draw(torch.Generator().manual_seed(seed), count)


def record_batches(monkeypatch) -> list[tuple[int, list[int], float]]:
    """Record each batch of a training run on `numbered_images`: images of the epoch, row numbers of the batch, learning rate.

    The list is empty when it is returned and grows during training.
    """
    batches, augmented = [], train._augmented

    def record(bound, pool, rows, stream):
        batches.append((len(pool.y), pool.x[rows][:, 0, 0, 0].tolist(), bound.optimizer.param_groups[0]["lr"]))
        return augmented(bound, pool, rows, stream)

    monkeypatch.setattr(train, "_augmented", record)
    return batches
