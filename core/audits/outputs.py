"""The outputs of one network for every image of a pool: everything that an audit needs of the network."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import nn

from core import rng
from core.attacks.ball import Norm
from core.attacks.gradient import pgd
from core.audits import scores
from core.data import Images, fingerprints
from core.modes import as_float, predict

ADVERSARIAL_STEPS = 10
"""PGD steps of an adversarial query."""


@dataclass(frozen=True)
class ModelOutputs:
    """Outputs of one network in evaluation mode, with the membership of each image."""

    logits: np.ndarray
    """Logits of each image and, where training mirrored images, of its mirror image; float32 [N, Q, C] for Q queries."""
    y: np.ndarray
    """Labels, [N]."""
    state: np.ndarray
    """Membership of each image, int8 [N]: 1 if it or an exact copy is a training image, 0 if one affected the training otherwise
    (in the reference set, or by choosing the epoch), -1 otherwise."""
    recognised: np.ndarray
    """Whether a query has the pixels of a training image, bool [N, Q]; used by the positive control."""
    adversarial: np.ndarray | None = None
    """Logits of adversarial images made on this network, float32 [N, C]; NaN where there was no adversarial query."""

    @cached_property
    def phi(self) -> np.ndarray:
        """The log-odds log(p_y / (1 - p_y)) of each query, [N, Q]."""
        columns = [scores.log_odds(torch.from_numpy(self.logits[:, q]), torch.from_numpy(self.y)) for q in range(self.queries)]
        return torch.stack(columns, 1).numpy()

    @cached_property
    def adversarial_phi(self) -> np.ndarray | None:
        """The log-odds of the adversarial queries, [N, 1]; NaN where there was none."""
        if self.adversarial is None:
            return None
        return scores.log_odds(torch.from_numpy(self.adversarial), torch.from_numpy(self.y)).numpy()[:, None]

    @cached_property
    def finite(self) -> np.ndarray:
        """Whether all outputs of an image are finite, bool [N]; if all logits of `adversarial` are NaN, there was no such query."""
        finite = np.all(np.isfinite(self.logits), axis=(1, 2))
        if self.adversarial is None:
            return finite
        return finite & (np.all(np.isfinite(self.adversarial), axis=1) | np.all(np.isnan(self.adversarial), axis=1))

    @property
    def queries(self) -> int:
        """Number of queries per image."""
        return self.logits.shape[1]

    def score(self, name: str, rows: np.ndarray) -> np.ndarray:
        """A score in `core.audits.scores.SCORES` of the original images in `rows`."""
        return scores.SCORES[name](torch.from_numpy(self.logits[rows, 0]), torch.from_numpy(self.y[rows])).numpy()

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays to store, by name; labels are left out because the pool has them."""
        arrays = {"logits": self.logits, "state": self.state, "recognised": self.recognised}
        return arrays if self.adversarial is None else arrays | {"adversarial": self.adversarial}

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray], y: np.ndarray) -> "ModelOutputs":
        """Restore outputs from `arrays` and the labels of the pool.

        Raises:
            KeyError: an array is missing.
            ValueError: the arrays belong to another pool.
        """
        if len(arrays["state"]) != len(y):
            raise ValueError(f"outputs for {len(arrays['state'])} images, the pool has {len(y)}")
        return cls(arrays["logits"], y, arrays["state"], arrays["recognised"], arrays.get("adversarial"))


def query(
    net: nn.Module, images: Images, trained: np.ndarray, neither: np.ndarray, *, mirrored: bool = False,
    attack: np.ndarray | None = None, epsilon: float = 0.0, norm: Norm = "linf", seed: int = 0,
    device: torch.device | str = "cpu", batch_size: int = 2048,
) -> ModelOutputs:  # fmt: skip
    """Query a network for every image of the pool.

    Args:
        net: images -> logits, on `device`.
        images: the pool.
        trained: rows of the pool that the network was trained on.
        neither: rows that count as neither members nor non-members: the reference set, and the images that chose the epoch.
        mirrored: also query the mirror image of each image.
        attack: rows that are also queried as adversarial images, made by PGD (Song 2019); None for no such queries.
        epsilon: radius of PGD's ball.
        norm: norm of the ball.
        seed: seed of PGD's random start.
        device: device to run on.
        batch_size: images on the device at a time.
    """
    known = images.ids[torch.from_numpy(trained)]
    logits, recognised = [], []
    for part in images.x.split(batch_size):
        queries = [part, part.flip(3)] if mirrored else [part]
        logits.append(torch.stack([predict(net, query.to(device)).cpu() for query in queries], 1))
        recognised.append(torch.stack([torch.isin(fingerprints(query), known) for query in queries], 1))
    state = np.full(len(images.y), -1, np.int8)
    state[images.copies_of(neither)] = 0
    state[images.copies_of(trained)] = 1
    adversarial = None
    if attack is not None:
        adversarial = np.full((len(images.y), logits[0].shape[2]), np.nan, np.float32)
        for rows in np.array_split(attack, max(1, -(-len(attack) // batch_size))):
            batch = images.at(rows).to(torch.device(device))
            draw = rng.per_image(seed, "adversarial_query", ids=torch.from_numpy(rows).to(device))
            moved = pgd(net, as_float(batch.x), batch.y, epsilon=epsilon, norm=norm, steps=ADVERSARIAL_STEPS, restarts=1, draw=draw)
            adversarial[rows] = predict(net, moved).cpu().numpy()
    return ModelOutputs(torch.cat(logits).numpy(), images.y.numpy(), state, torch.cat(recognised).numpy(), adversarial)
