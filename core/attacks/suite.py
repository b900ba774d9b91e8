"""Attack suites: several attacks on one network, and the worst case per image.

    quick      FGSM, PGD and two probes on few images: for sweeps
    standard   adds Auto-PGD, a margin loss and a short Square attack: for confirmation on a small machine
    strong     the effort of AutoAttack (Croce and Hein 2020): for published numbers

After the first two attacks, each attack runs only on images that are still classified correctly. Because the noise of an attack
belongs to the image and not to the batch, this changes no verdict: the worst case equals that of all attacks on all images.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from core import rng
from core.attacks.apgd import apgd, targeted_apgd
from core.attacks.ball import Norm, inside
from core.attacks.gradient import fgsm, pgd
from core.attacks.losses import misclassified
from core.attacks.square import square
from core.modes import eval_mode, with_autograd
from core.rng import PerImage

EVAL_BATCH = 256
"""Images per forward pass."""


@dataclass(frozen=True)
class Attack:
    """An attack with its settings, as part of a suite."""

    run: Callable[..., Tensor]
    """The attack: (net, x, y, *, epsilon, norm, **knobs) -> images, with a further argument `draw` if it is `random`."""
    knobs: Mapping[str, Any] = field(default_factory=dict)
    random: bool = True
    """Whether the attack takes a `draw`."""
    black_box: bool = False
    """Whether the attack uses logits only."""
    on_all_images: bool = False
    """Whether the attack also runs on images that an earlier attack fooled; set for cheap attacks that flags compare."""
    images: int = 0
    """Number of images to attack, from the first on; 0 is all."""

    def __call__(self, net: nn.Module, x: Tensor, y: Tensor, epsilon: float, norm: Norm, draw: PerImage) -> Tensor:
        """Adversarial images within epsilon of x; see `core.attacks`."""
        noise = {"draw": draw} if self.random else {}
        return self.run(net, x, y, epsilon=epsilon, norm=norm, **self.knobs, **noise)


PROBE = 128
"""Number of images of a probe: enough to detect an effect on a few per cent of the images, and few enough for a sweep."""
EVAL_PGD = {"stop_when_fooled": True, "skip_misclassified": False}
"""Settings of PGD on images that are known to be classified correctly: stop on each image once it is misclassified."""


def quick(steps: int, restarts: int) -> dict[str, Attack]:
    """FGSM and PGD; and on a few images, PGD with twice the steps, PGD with another loss, and a short black-box attack."""
    return {
        "fgsm": Attack(fgsm, random=False, on_all_images=True),
        "pgd": Attack(pgd, {"steps": steps, "restarts": restarts, **EVAL_PGD}, on_all_images=True),
        "pgd_more": Attack(pgd, {"steps": 2 * steps, "restarts": 1, **EVAL_PGD}, images=PROBE),
        "pgd_cw_probe": Attack(pgd, {"steps": steps, "restarts": 1, "loss": "cw", **EVAL_PGD}, images=PROBE),
        "square_probe": Attack(square, {"queries": 100, "rescale": False}, black_box=True, images=PROBE),
    }


def standard(steps: int, restarts: int) -> dict[str, Attack]:
    """The suite `quick`, then attacks with half of AutoAttack's steps, a third of its targets and a tenth of its queries."""
    return _without_probes(steps, restarts) | {
        "pgd_cw": Attack(pgd, {"steps": 2 * steps, "restarts": 1, "loss": "cw", **EVAL_PGD}),
        "apgd_ce": Attack(apgd, {"steps": 50}),
        "apgd_t": Attack(targeted_apgd, {"steps": 50, "targets": 3}),
        "square": Attack(square, {"queries": 500}, black_box=True),
    }


def strong(steps: int, restarts: int) -> dict[str, Attack]:
    """The suite `quick`, then AutoAttack's APGD-CE, targeted APGD-DLR and Square, and PGD on the margin in place of its FAB."""
    return _without_probes(steps, restarts) | {
        "apgd_ce": Attack(apgd, {"steps": 100}),
        "apgd_t": Attack(targeted_apgd, {"steps": 100, "targets": 9}),
        "pgd_cw": Attack(pgd, {"steps": 100, "restarts": 5, "loss": "cw", **EVAL_PGD}),
        "square": Attack(square, {"queries": 5000}, black_box=True),
    }


def _without_probes(steps: int, restarts: int) -> dict[str, Attack]:
    """The suite `quick` without its probes, which a larger suite runs in full; black-box attacks come last."""
    return {name: attack for name, attack in quick(steps, restarts).items() if not name.endswith("_probe")}


SUITES: dict[str, Callable[[int, int], dict[str, Attack]]] = {"quick": quick, "standard": standard, "strong": strong}
"""Suites by name: (steps, restarts) -> attacks in order."""


def suite_attacks(name: str, steps: int, restarts: int) -> dict[str, Attack]:
    """The attacks of a suite by name, in order; the suite `none` has none."""
    return {} if name == "none" else SUITES[name](steps, restarts)


@dataclass(frozen=True)
class SuiteResult:
    """Verdicts of a suite per image, [N] bool each."""

    clean: Tensor
    """Whether an image is classified correctly without an attack."""
    known: Tensor
    """Whether an image was robust to all earlier attacks; True where there were none."""
    robust: dict[str, Tensor]
    """For each attack, in order: whether an image is classified correctly under it. Unless the attack is `on_all_images`, also
    under all attacks before it."""
    newly_fooled: dict[str, tuple[int, int]]
    """For each attack: the number of images that it newly fooled, and the number of images it could choose from, including those
    that earlier attacks had fooled."""

    @property
    def worst(self) -> Tensor:
        """Whether an image is classified correctly under every attack."""
        return torch.stack([self.clean, self.known, *self.robust.values()]).all(0)


@with_autograd
def run_suite(
    net: nn.Module, x: Tensor, y: Tensor, attacks: Mapping[str, Attack], *, epsilon: float, norm: Norm = "linf",
    seed: int = 0, ids: Tensor | None = None, known: Tensor | None = None,
) -> SuiteResult:  # fmt: skip
    """Run attacks one after the other, and take each verdict from a separate forward pass.

    Args:
        net: images -> logits; returned to its own mode.
        x: images in [0, 1], [N, c, h, w].
        y: labels, [N].
        attacks: attacks by name, in the order in which they run.
        epsilon: radius of the ball.
        norm: norm of the ball.
        seed: seed of all noise.
        ids: numbers of the images, which determine their noise; default 0 to N - 1.
        known: images that were robust so far, [N] bool; only these are attacked.

    Raises:
        AssertionError: an attack left the ball or [0, 1], which would be a bug in the attack.
    """
    ids = torch.arange(len(x)) if ids is None else ids
    noise = rng.per_image(seed, "attack", ids=ids.to(x.device))
    clean = correct(net, x, y)
    result = SuiteResult(clean, torch.ones_like(clean) if known is None else known, {}, {})
    worst = result.worst
    for name, attack in attacks.items():
        robust = (clean if attack.on_all_images else worst).clone()
        limit = min(attack.images or len(x), len(x))
        before = robust[:limit].sum()
        for rows in filter(len, robust[:limit].nonzero().squeeze(1).split(EVAL_BATCH)):
            adv = attack(net, x[rows], y[rows], epsilon, norm, noise.named(name).at(rows))
            assert inside(adv, x[rows], epsilon, norm), f"{name} left the ball"
            robust[rows] = correct(net, adv, y[rows])
        result.robust[name], result.newly_fooled[name] = robust, (int(before - robust[:limit].sum()), limit)
        worst = worst & robust
    return result


@torch.no_grad()
def correct(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Which images are classified correctly, in float32, [N] bool; False where a logit is NaN."""
    with eval_mode(net):
        logits = torch.cat([net(part).float() for part in x.split(EVAL_BATCH)]) if len(x) else x.new_zeros((0, 1))
    return ~misclassified(logits, y) & ~logits.isnan().any(1)


def accuracy_over_epsilon(
    net: nn.Module, x: Tensor, y: Tensor, epsilons: Iterable[float], *, norm: Norm = "linf", steps: int = 20, seed: int = 0
) -> dict[float, float]:
    """Accuracy under PGD by radius, in ascending order; it never increases. The arguments are those of `robust_over_epsilon`."""
    robust = robust_over_epsilon(net, x, y, epsilons, norm=norm, steps=steps, seed=seed)
    return {epsilon: kept.double().mean().item() for epsilon, kept in robust.items()}


@with_autograd
def robust_over_epsilon(
    net: nn.Module, x: Tensor, y: Tensor, epsilons: Iterable[float], *, norm: Norm = "linf", steps: int = 20, seed: int = 0
) -> dict[float, Tensor]:
    """Which images resist PGD in balls of growing radius; one that is fooled in a ball counts as fooled in every larger one.

    Args:
        net, x, y, norm, seed: see `run_suite`.
        epsilons: radii, in any order.
        steps: steps of PGD, which has one random start.

    Returns:
        One bool per image, [N], by radius, in ascending order of radius.
    """
    robust, resisted = correct(net, x, y), {}
    for epsilon in sorted(epsilons):
        if epsilon:
            attack = {"pgd": Attack(pgd, {"steps": steps, "restarts": 1, **EVAL_PGD})}
            robust = run_suite(net, x, y, attack, epsilon=epsilon, norm=norm, seed=seed, known=robust).worst
        resisted[epsilon] = robust
    return resisted
