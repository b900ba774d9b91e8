"""Suites: several attacks on one network, and for each image the worst case.

    quick      FGSM, PGD and two probes on few images: enough for a sweep, and to notice when it is not
    standard   with Auto-PGD, a margin loss and a short Square attack: for confirm on a small machine
    strong     the effort of AutoAttack (Croce and Hein 2020): for the numbers of a paper

An attack after the first two is run only on images that still stand. Since the noise of an attack belongs to the image and
not to the batch, that changes no verdict: the worst case is that of running every attack on every image.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from core import rng
from core.attacks.apgd import apgd, targeted_apgd
from core.attacks.ball import Norm, inside
from core.attacks.gradient import fgsm, frozen, pgd
from core.attacks.losses import fooled
from core.attacks.square import square
from core.rng import PerImage

BATCH = 256


@dataclass(frozen=True)
class Attack:
    """An attack with its settings, as a suite runs it."""

    run: Callable[..., Tensor]
    """(net, x, y, *, epsilon, norm, **knobs), and draw=... unless it is deterministic."""
    knobs: Mapping[str, Any] = field(default_factory=dict)
    random: bool = True
    """Whether it takes a `draw`."""
    black_box: bool = False
    """Whether it sees logits only."""
    everywhere: bool = False
    """Whether it is run on images that an earlier attack fooled, too; cheap attacks that flags compare with others."""
    images: int = 0
    """Only on the first this many images; 0 is all."""

    def __call__(self, net: nn.Module, x: Tensor, y: Tensor, epsilon: float, norm: Norm, draw: PerImage) -> Tensor:
        """Images like x in the ball around it; see `core.attacks`."""
        more = {"draw": draw} if self.random else {}
        return self.run(net, x, y, epsilon=epsilon, norm=norm, **self.knobs, **more)


PROBE = 128
"""Images for a probe: enough to see a few per cent, few enough for a sweep."""


ALONE = {"stop_when_fooled": True, "ask_first": False}
"""For PGD on images that are known to be right: each is left alone once it falls, and none is asked for before it is moved."""


def quick(steps: int, restarts: int) -> dict[str, Attack]:
    """One step, `steps` steps; and on some images twice as many from a new start, another loss, and a look without gradients."""
    return {
        "fgsm": Attack(fgsm, random=False, everywhere=True),
        "pgd": Attack(pgd, {"steps": steps, "restarts": restarts, **ALONE}, everywhere=True),
        "pgd_more": Attack(pgd, {"steps": 2 * steps, "restarts": 1, **ALONE}, images=PROBE),
        "pgd_cw_probe": Attack(pgd, {"steps": steps, "restarts": 1, "loss": "cw", **ALONE}, images=PROBE),
        "square_probe": Attack(square, {"queries": 100}, black_box=True, images=PROBE),
    }


def standard(steps: int, restarts: int) -> dict[str, Attack]:
    """`quick`, then half of AutoAttack's steps, a third of its targets and a tenth of its queries."""
    return _before_probes(steps, restarts) | {
        "pgd_cw": Attack(pgd, {"steps": 2 * steps, "restarts": 1, "loss": "cw", **ALONE}),
        "apgd_ce": Attack(apgd, {"steps": 50}),
        "apgd_t": Attack(targeted_apgd, {"steps": 50, "targets": 3}),
        "square": Attack(square, {"queries": 500}, black_box=True),
    }


def strong(steps: int, restarts: int) -> dict[str, Attack]:
    """`quick`, then AutoAttack's APGD-CE, targeted APGD-DLR and Square, with restarts of PGD on the margin for its FAB."""
    return _before_probes(steps, restarts) | {
        "apgd_ce": Attack(apgd, {"steps": 100}),
        "apgd_t": Attack(targeted_apgd, {"steps": 100, "targets": 9}),
        "pgd_cw": Attack(pgd, {"steps": 100, "restarts": 5, "loss": "cw", **ALONE}),
        "square": Attack(square, {"queries": 5000}, black_box=True),
    }


def _before_probes(steps: int, restarts: int) -> dict[str, Attack]:
    """`quick` without the probes that a larger suite has in full; black-box attacks come last, to show what others missed."""
    return {name: attack for name, attack in quick(steps, restarts).items() if not name.endswith("_probe")}


SUITES: dict[str, Callable[[int, int], dict[str, Attack]]] = {"quick": quick, "standard": standard, "strong": strong}


@dataclass(frozen=True)
class Verdicts:
    """What attacks found, per image, [N] bool each."""

    clean: Tensor
    """Classified right without any attack."""
    known: Tensor
    """Not known to fall before."""
    stands: dict[str, Tensor]
    """For each attack, in order: right under it. For an attack that is not `everywhere`: and under all before it."""
    took: dict[str, tuple[int, int]]
    """For each attack: how many of the images that it was run on it fooled, and how many there were to choose from, fallen
    ones included."""

    @property
    def worst(self) -> Tensor:
        """Right under everything."""
        return torch.stack([self.clean, self.known, *self.stands.values()]).all(0)


def attacked(
    net: nn.Module, x: Tensor, y: Tensor, attacks: Mapping[str, Attack], *, epsilon: float, norm: Norm = "linf",
    seed: int = 0, ids: Tensor | None = None, known: Tensor | None = None,
) -> Verdicts:  # fmt: skip
    """Run attacks one after the other and take every verdict in a forward pass of its own.

    Args:
        net: the network; handed back as it came.
        x: images in [0, 1], [N, c, h, w]. y: labels, [N].
        attacks: by name, in this order.
        epsilon, norm: the ball. seed: of all noise.
        ids: the images' own numbers, to which their noise belongs; default 0 to N - 1.
        known: images that stood so far, [N] bool; the others are tried no more.

    Raises:
        AssertionError: an attack left the ball or [0, 1], which would be a bug in it.
    """
    ids = torch.arange(len(x)) if ids is None else ids
    noise = rng.per_image(seed, "attack", ids=ids.to(x.device))
    clean = right(net, x, y)
    found = Verdicts(clean, torch.ones_like(clean) if known is None else known, {}, {})
    worst = found.worst
    for name, attack in attacks.items():
        stands = (clean if attack.everywhere else worst).clone()
        limit = min(attack.images or len(x), len(x))
        before = stands[:limit].sum()
        for rows in filter(len, stands[:limit].nonzero().squeeze(1).split(BATCH)):
            adv = attack(net, x[rows], y[rows], epsilon, norm, noise.named(name).at(rows))
            assert inside(adv, x[rows], epsilon, norm), f"{name} left the ball"
            stands[rows] = right(net, adv, y[rows])
        found.stands[name], found.took[name] = stands, (int(before - stands[:limit].sum()), limit)
        worst = worst & stands
    return found


@torch.no_grad()
def right(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Which images are classified right, in float32, [N] bool; NaN is not right."""
    with frozen(net):
        logits = torch.cat([net(part).float() for part in x.split(BATCH)]) if len(x) else x.new_zeros((0, 1))
    return ~fooled(logits, y) & ~logits.isnan().any(1)


def accuracy_over_epsilon(
    net: nn.Module, x: Tensor, y: Tensor, epsilons: Iterable[float], *, norm: Norm = "linf", steps: int = 20, seed: int = 0
) -> dict[float, float]:
    """Accuracy under PGD in growing balls: what falls in a ball has fallen in every larger one, so only the rest is tried.

    Args:
        net, x, y, norm, seed: as in `attacked`. epsilons: radii, in any order. steps: of PGD, with one random start.

    Returns:
        radius -> accuracy, by rising radius; never rising.
    """
    standing, accuracy = right(net, x, y), {}
    for epsilon in sorted(epsilons):
        if epsilon:
            attack = {"pgd": Attack(pgd, {"steps": steps, "restarts": 1, **ALONE})}
            standing = attacked(net, x, y, attack, epsilon=epsilon, norm=norm, seed=seed, known=standing).worst
        accuracy[epsilon] = standing.double().mean().item()
    return accuracy
