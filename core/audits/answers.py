"""What a network says of every image of a pool: all that an audit needs, so that one asked once is never loaded again."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from core import rng
from core.attacks.ball import Norm
from core.attacks.gradient import pgd
from core.audits import scores
from core.data import Images
from core.train import as_float, predict

ADVERSARIAL_STEPS = 10


@dataclass(frozen=True)
class Answers:
    """Of one network, in evaluation mode."""

    logits: np.ndarray
    """Of each image as it is and, where training saw mirrored images, mirrored; float32 [N, Q, C] for Q queries of N images."""
    y: np.ndarray
    """Labels, [N]."""
    state: np.ndarray
    """1 where the network was trained on an image, 0 where it has served otherwise (a reference set), -1 else; int8 [N]."""
    recognised: np.ndarray
    """Whether the pixels of a query are those of a training image, bool [N, Q]; what a network that memorises would know."""
    adversarial: np.ndarray | None = None
    """Logits of images moved within the ball to be misread by this network, float32 [N, C]; NaN where it was not asked."""

    @cached_property
    def phi(self) -> np.ndarray:
        """log(p_y / (1 - p_y)) of each query, [N, Q]."""
        columns = [scores.log_odds(torch.from_numpy(self.logits[:, q]), torch.from_numpy(self.y)) for q in range(self.queries)]
        return torch.stack(columns, 1).numpy()

    @cached_property
    def adversarial_phi(self) -> np.ndarray | None:
        """The same of the adversarial images, [N, 1]; NaN where there is none."""
        if self.adversarial is None:
            return None
        return scores.log_odds(torch.from_numpy(self.adversarial), torch.from_numpy(self.y)).numpy()[:, None]

    @property
    def queries(self) -> int:
        """How often each image was asked for."""
        return self.logits.shape[1]

    def score(self, name: str, rows: np.ndarray) -> np.ndarray:
        """A score in `core.audits.scores.SCORES` of the images as they are."""
        return scores.SCORES[name](torch.from_numpy(self.logits[rows, 0]), torch.from_numpy(self.y[rows])).numpy()

    def arrays(self) -> dict[str, np.ndarray]:
        """For a file; labels are the pool's."""
        found = {"logits": self.logits, "state": self.state, "recognised": self.recognised}
        return found if self.adversarial is None else found | {"adversarial": self.adversarial}

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray], y: np.ndarray) -> "Answers":
        """The inverse of `arrays`.

        Raises:
            KeyError: something is missing.
            ValueError: the answers are of another pool.
        """
        if len(arrays["state"]) != len(y):
            raise ValueError(f"answers on {len(arrays['state'])} images, the pool has {len(y)}")
        return cls(arrays["logits"], y, arrays["state"], arrays["recognised"], arrays.get("adversarial"))


def ask(
    net: nn.Module, images: Images, trained: np.ndarray, aside: np.ndarray, *, mirrored: bool = False,
    attack: np.ndarray | None = None, epsilon: float = 0.0, norm: Norm = "linf", seed: int = 0,
    device: torch.device | str = "cpu", batch_size: int = 2048,
) -> Answers:  # fmt: skip
    """Ask a network for every image of the pool.

    Args:
        net: images -> logits, on `device`. images: the pool.
        trained: rows that it was trained on. aside: rows that served its training otherwise.
        mirrored: ask for each image twice, as it is and mirrored.
        attack: rows to ask for once more, moved by PGD within the ball (Song 2019); None is none.
        epsilon, norm: of the ball. seed: of PGD's start.
        batch_size: images on the device at a time.
    """
    known = _fingerprints(images.x[torch.from_numpy(trained)])
    logits, recognised = [], []
    for part in images.x.split(batch_size):
        queries = [part, part.flip(3)] if mirrored else [part]
        logits.append(torch.stack([predict(net, query.to(device)).cpu() for query in queries], 1))
        recognised.append(torch.stack([torch.isin(_fingerprints(query), known) for query in queries], 1))
    state = np.full(len(images.y), -1, np.int8)
    state[aside] = 0
    state[trained] = 1
    adversarial = None
    if attack is not None:
        adversarial = np.full((len(images.y), logits[0].shape[2]), np.nan, np.float32)
        for rows in np.array_split(attack, -(-len(attack) // batch_size)):
            some = images.at(rows).to(torch.device(device))
            draw = rng.per_image(seed, "adversarial_query", ids=torch.from_numpy(rows).to(device))
            moved = pgd(net, as_float(some.x), some.y, epsilon=epsilon, norm=norm, steps=ADVERSARIAL_STEPS, restarts=1, draw=draw)
            adversarial[rows] = predict(net, moved).cpu().numpy()
    return Answers(torch.cat(logits).numpy(), images.y.numpy(), state, torch.cat(recognised).numpy(), adversarial)


def _fingerprints(x: Tensor) -> Tensor:
    """One whole number for the pixels of each image, int64 [N]."""
    flat = x.contiguous().flatten(1)
    weights = rng.words(flat.shape[1])
    return torch.cat([(part.long() * weights).sum(1) for part in flat.split(4096)]) if len(flat) else weights[:0]
