"""Signs that a network hides its gradients instead of being robust (Athalye et al. 2018, Carlini et al. 2019).

Each is one of `core.flags.FLAGS`; every comparison of shares allows for chance, so that a hundred honest trials raise about none.
"""

import math
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from core.attacks.ball import Norm, step
from core.attacks.gradient import frozen, pgd, slope
from core.attacks.losses import LOSSES, margin
from core.attacks.suite import BATCH, Attack, Verdicts, attacked, right
from core.stats import wilson

SOME = 0.01
"""The share of images from which on an effect counts."""
SURE = 88.0
"""Log-odds in nats from which on float32 holds no probability for the other classes: exp(-88) is its smallest normal number."""
LARGE = 0.5
"""The Linf radius in which every image can be made plain grey; in L2, times the square root of the number of pixels."""


def masking_flags(
    net: nn.Module, x: Tensor, y: Tensor, found: Verdicts, attacks: Mapping[str, Attack], *,
    epsilon: float, norm: Norm = "linf", seed: int = 0, probe: int = 128,
) -> dict[str, bool]:  # fmt: skip
    """Which signs of masked gradients the network shows.

    Args:
        net, x, y, attacks, epsilon, norm, seed: as in `core.attacks.suite.attacked`. found: what came of it.
        probe: images that the flags' own small attacks are run on.

    Returns:
        name of the flag -> raised; a flag that needs an attack that was not run is missing.
    """
    few = slice(probe)
    flags = {
        "random_forward": is_random(net, x[few]),
        **_slopes(net, x[found.clean], y[found.clean]),
        "fgsm_overfitted": bool(epsilon) and fgsm_overfitted(net, x, y, epsilon, norm),
        "large_epsilon_stands": _stands_in_large(net, x[few], y[few], norm, seed),
    }
    if "fgsm" in found.stands and "pgd" in found.stands:
        one, many = found.stands["fgsm"], found.stands["pgd"]
        flags["fgsm_beats_pgd"] = _beats(one, many)
        flags["fgsm_overfitted"] |= _learned_one_step(found.clean, one, many)
    if "pgd_more" in found.stands:
        flags["more_steps_help"] = _took_more(found, ["pgd_more"], SOME)
    if black := [name for name in found.stands if name in attacks and attacks[name].black_box]:
        flags["black_box_beats_white_box"] = _took_more(found, black, 3 * SOME)
    return flags


def is_random(net: nn.Module, x: Tensor) -> bool:
    """Whether the same images give other logits when asked again, by more than a thousandth of the logits' spread."""
    if len(x) < 2:
        return False
    with frozen(net), torch.no_grad():
        first, again = net(x), net(x)
    return bool((first - again).abs().max() > 1e-3 * first.std() + 1e-12)


def _batches(x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(x.split(BATCH), y.split(BATCH), strict=True)


def _slopes(net: nn.Module, x: Tensor, y: Tensor) -> dict[str, bool]:
    """Whether gradients vanish or are not finite, and whether the logits are beyond what float32's softmax can tell apart."""
    still, margins = 0, []
    with frozen(net, weights=True), torch.enable_grad():
        for part, labels in _batches(x, y):
            part = part.detach().requires_grad_()
            odds = margin(net(part), labels)
            gradient = torch.zeros_like(part)
            if odds.requires_grad:
                (gradient,) = torch.autograd.grad(odds.sum(), part, allow_unused=True, materialize_grads=True)
            steepest = gradient.flatten(1).abs().amax(1)
            still += int((~((steepest > 0) & steepest.isfinite())).sum())
            margins.append(odds.detach())
    odds = torch.cat(margins) if margins else x.new_zeros(0)
    return {
        "zero_gradients": still > SOME * len(x),
        "saturated_logits": bool(len(odds)) and bool(odds.median() > SURE),
    }


def fgsm_overfitted(net: nn.Module, x: Tensor, y: Tensor, epsilon: float, norm: Norm = "linf") -> bool:
    """Whether along FGSM's own direction a shorter step fools more images than the full one, or the full one repairs images.

    Both are what catastrophic overfitting looks like (Wong et al. 2020): the loss is steep between the image and the one
    step that training showed it, and low there. Beyond chance, and by over 2 % of the images.
    """
    with frozen(net, weights=True):
        direction = torch.cat([slope(net, part, labels, LOSSES["ce"])[0] for part, labels in _batches(x, y)])
    stands = {scale: right(net, (x + step(direction, scale * epsilon, norm)).clamp_(0, 1), y) for scale in (0.25, 0.5, 0.75, 1.0)}
    full, clean = stands[1.0], right(net, x, y)
    return any(
        _beats(shorter, full) and (full & ~shorter).sum() - (shorter & ~full).sum() > 2 * SOME * len(x)
        for shorter in (clean, stands[0.25], stands[0.5], stands[0.75])
    )


def _learned_one_step(clean: Tensor, one: Tensor, many: Tensor) -> bool:
    """Whether over half of the images that are right stand one step, and over half of those fall to many. [N] bool each."""
    right_, left = int(clean.sum()), int(one.sum())
    fell = int((one & ~many).sum())
    return bool(left) and wilson(left, right_).low > 0.5 and wilson(fell, left).low > 0.5


def _stands_in_large(net: nn.Module, x: Tensor, y: Tensor, norm: Norm, seed: int) -> bool:
    """Whether more images stand in an all but unbounded ball than naming one class would get right."""
    if not len(x):
        return False
    epsilon = LARGE * (math.sqrt(x[0].numel()) if norm == "l2" else 1.0)
    walk = {"walk": Attack(pgd, {"steps": 40, "restarts": 1, "stop_when_fooled": True})}
    left = int(attacked(net, x, y, walk, epsilon=epsilon, norm=norm, seed=seed).worst.sum())
    return wilson(left, len(x)).low > y.bincount().max().item() / len(x)


def _took_more(found: Verdicts, names: Iterable[str], share: float) -> bool:
    """Whether these attacks fooled over that share of the images that they were shown, after all before them."""
    pairs = [found.took[name] for name in names]
    took, seen = sum(pair[0] for pair in pairs), max(pair[1] for pair in pairs)
    return bool(seen) and wilson(min(took, seen), seen).low > share


def _beats(one: Tensor, other: Tensor) -> bool:
    """Whether `one` leaves fewer images standing than `other`, beyond chance (McNemar's exact test at 2.5 %). [N] bool each."""
    only_one, only_other = int((~one & other).sum()), int((one & ~other).sum())
    n = only_one + only_other
    return 40 * sum(math.comb(n, k) for k in range(only_one, n + 1)) <= 2**n  # whole numbers: 2**n outgrows a float
