"""Flags of gradient masking: signs that a network hides its gradients instead of being robust (Athalye 2018, Carlini 2019).

Each flag is documented in `core.flags.FLAGS`. Every comparison of shares is a significance test, so that a network with
useful gradients rarely raises a flag by chance.
"""

import math
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from core.attacks.ball import Norm, step
from core.attacks.gradient import input_gradient, pgd
from core.attacks.losses import ATTACK_LOSSES, margin
from core.attacks.suite import EVAL_BATCH, Attack, SuiteResult, correct, run_suite
from core.modes import eval_mode, with_autograd
from core.stats import wilson

MIN_SHARE = 0.01
"""Share of images above which an effect counts."""
SATURATION_LOGIT = 88.0
"""Log-odds in nats above which float32 cannot represent the other classes' probability: exp(-88) is its smallest normal number."""
GREY_RADIUS = 0.5
"""Linf radius within which every image can be turned into plain grey; in L2, times the square root of the number of pixels."""


@with_autograd
def masking_flags(
    net: nn.Module, x: Tensor, y: Tensor, result: SuiteResult, attacks: Mapping[str, Attack], *,
    epsilon: float, norm: Norm = "linf", seed: int = 0, probe: int = 128,
) -> dict[str, bool]:  # fmt: skip
    """The flags of gradient masking of one network.

    Args:
        net, x, y, attacks, epsilon, norm, seed: see `core.attacks.suite.run_suite`.
        result: the result of that call.
        probe: number of images for the small attacks of the flags themselves.

    Returns:
        Whether each flag is raised, by name; a flag is missing if it needs an attack that was not run.
    """
    few = slice(probe)
    flags = {
        "random_forward": is_random(net, x[few]),
        **_gradient_flags(net, x[result.clean], y[result.clean]),
        "fgsm_overfitted": bool(epsilon) and fgsm_overfitted(net, x, y, epsilon, norm),
        "large_epsilon_stands": _robust_in_grey_radius(net, x[few], y[few], norm, seed),
    }
    if "fgsm" in result.robust and "pgd" in result.robust:
        one, many = result.robust["fgsm"], result.robust["pgd"]
        flags["fgsm_beats_pgd"] = _beats(one, many)
        flags["fgsm_overfitted"] |= _robust_to_one_step_only(result.clean, one, many)
    if "pgd_more" in result.robust:
        flags["more_steps_help"] = _fooled_more(result, ["pgd_more"], MIN_SHARE)
    if black_box := [name for name in result.robust if name in attacks and attacks[name].black_box]:
        flags["black_box_beats_white_box"] = _fooled_more(result, black_box, 3 * MIN_SHARE)
    return flags


def is_random(net: nn.Module, x: Tensor) -> bool:
    """Whether a second forward pass gives different logits, by more than a thousandth of the logits' standard deviation."""
    if len(x) < 2:
        return False
    with eval_mode(net), torch.no_grad():
        first, second = net(x), net(x)
    return bool((first - second).abs().max() > 1e-3 * first.std())


def _batches(x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(x.split(EVAL_BATCH), y.split(EVAL_BATCH), strict=True)


def _gradient_flags(net: nn.Module, x: Tensor, y: Tensor) -> dict[str, bool]:
    """Whether input gradients vanish or are not finite, and whether logits saturate float32's softmax."""
    unusable, margins = 0, []
    with eval_mode(net, freeze_weights=True):
        for part, labels in _batches(x, y):
            part = part.detach().requires_grad_()
            odds = margin(net(part), labels)
            gradient = torch.zeros_like(part)
            if odds.requires_grad:
                (gradient,) = torch.autograd.grad(odds.sum(), part, allow_unused=True, materialize_grads=True)
            steepest = gradient.flatten(1).abs().amax(1)
            unusable += int((~((steepest > 0) & steepest.isfinite())).sum())
            margins.append(odds.detach())
    odds = torch.cat(margins) if margins else x.new_zeros(0)
    return {
        "zero_gradients": unusable > MIN_SHARE * len(x),
        "saturated_logits": bool(len(odds)) and bool(odds.median() > SATURATION_LOGIT),
    }


@with_autograd
def fgsm_overfitted(net: nn.Module, x: Tensor, y: Tensor, epsilon: float, norm: Norm = "linf") -> bool:
    """Whether a shorter step in FGSM's direction, or none, leaves fewer images correct than the full step.

    This is the signature of catastrophic overfitting (Wong et al. 2020): the loss is high between the image and the end of the
    one step seen in training, and low at its end. The difference must be above 2 % of the images, and significant at 2.5 % over
    all shorter steps together (Bonferroni).
    """
    with eval_mode(net, freeze_weights=True):
        gradients = [input_gradient(net, part, labels, ATTACK_LOSSES["ce"])[0] for part, labels in _batches(x, y)]
    direction = torch.cat(gradients)
    steps = [correct(net, (x + step(direction, scale * epsilon, norm)).clamp_(0, 1), y) for scale in (0.25, 0.5, 0.75, 1.0)]
    shorter, full = [correct(net, x, y), *steps[:-1]], steps[-1]
    return any(
        _beats(one, full, len(shorter)) and (full & ~one).sum() - (one & ~full).sum() > 2 * MIN_SHARE * len(x) for one in shorter
    )


def _robust_to_one_step_only(clean: Tensor, one: Tensor, many: Tensor) -> bool:
    """Whether over half of the correct images are robust to one step, and over half of those are fooled by many. [N] bool each."""
    correct_clean, correct_one = int(clean.sum()), int(one.sum())
    fooled_by_many = int((one & ~many).sum())
    if not correct_one:
        return False
    return wilson(correct_one, correct_clean).low > 0.5 and wilson(fooled_by_many, correct_one).low > 0.5


def _robust_in_grey_radius(net: nn.Module, x: Tensor, y: Tensor, norm: Norm, seed: int) -> bool:
    """Whether robust accuracy in an almost unbounded ball exceeds the accuracy of always predicting the most common class."""
    if not len(x):
        return False
    epsilon = GREY_RADIUS * (math.sqrt(x[0].numel()) if norm == "l2" else 1.0)
    walk = {"walk": Attack(pgd, {"steps": 40, "restarts": 1, "stop_when_fooled": True})}
    robust = int(run_suite(net, x, y, walk, epsilon=epsilon, norm=norm, seed=seed).worst.sum())
    return wilson(robust, len(x)).low > y.bincount().max().item() / len(x)


def _fooled_more(result: SuiteResult, names: Iterable[str], share: float) -> bool:
    """Whether these attacks newly fooled more than `share` of their images, after all attacks before them."""
    pairs = [result.newly_fooled[name] for name in names]
    fooled, seen = sum(pair[0] for pair in pairs), max(pair[1] for pair in pairs)
    return bool(seen) and wilson(min(fooled, seen), seen).low > share


def _beats(one: Tensor, other: Tensor, tests: int = 1) -> bool:
    """Whether significantly fewer images are correct in `one` than in `other`, [N] bool each.

    McNemar's exact test at a level of 2.5 % / `tests`.
    """
    only_one, only_other = int((~one & other).sum()), int((one & ~other).sum())
    n = only_one + only_other
    return 40 * tests * sum(math.comb(n, k) for k in range(only_one, n + 1)) <= 2**n  # in integers: 2**n overflows a float
