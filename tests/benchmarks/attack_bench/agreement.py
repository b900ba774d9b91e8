"""Comparison of results: robust accuracy, L2 norms, and the suite `strong` against AutoAttack."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from attack_bench import implementations as libraries
from attack_bench.implementations import ART, OURS, Implementations, without
from attack_bench.networks import BPFC, NATURAL, ROBUST, Networks, Target
from torch import Tensor

from core.attacks.suite import SUITES, run_suite


@dataclass(frozen=True)
class Case:
    """A comparison of one attack on some networks."""

    name: str
    implementations: Implementations
    nets: tuple[str, ...]
    images: int
    norms: bool = False
    """Whether L2 norms are compared instead of robust accuracies."""
    fewer: dict[str, int] = field(default_factory=dict)
    """Number of images for slow libraries."""


THREE = (NATURAL, ROBUST, BPFC)
CASES = (
    Case("PGD-20", libraries.all_pgd(20), THREE, 512),
    Case("APGD-CE 100", libraries.all_apgd(100), THREE, 512, fewer={ART: 128}),
    Case("APGD-T 9 x 50", libraries.all_targeted_apgd(50), THREE[1:], 256),
    Case("Square 500", libraries.all_square(500), THREE, 256, fewer={ART: 64}),
    Case("SPSA 10 x 128", libraries.all_spsa(10), THREE[:2], 48),
    Case("DeepFool", libraries.all_deepfool(), THREE, 128, norms=True, fewer={ART: 16}),
    Case("C&W c=1, 100", without(libraries.all_carlini_wagner(100, 1.0, 1), ART), THREE, 64, norms=True),
    Case("C&W 5 x 100", without(libraries.all_carlini_wagner(100, 1e-2, 5), ART), THREE[:2], 32, norms=True),
)
ROW = "{:15} {:20} {:12} {:>4} {:>8} {:>8} {:>7} {:>6} {:>9}  {}"


def agreement(networks: Networks, quick: bool) -> None:
    """Print robust accuracies, then norms, of our attacks and those of other libraries."""
    scale = 4 if quick else 1
    print("\nagreement: robust accuracy in %, difference and its standard error (as for different images); alone: fooled by one")
    for net in THREE:
        target = networks.target(net, 512)
        accuracy = target.correct(target.x).double().mean()
        print(f"{net}: epsilon {255 * target.epsilon:g}/255, without attack {accuracy:.1%}")
    print(ROW.format("attack", "network", "library", "n", "ours", "theirs", "diff", "SE", "alone", ""))
    for case in CASES:
        if not case.norms:
            for net in case.nets:
                _compare_accuracies(case, net, networks.target(net, max(case.images // scale, 32)), scale)
    print("\nagreement: L2 norms where both succeed (median; difference of the means in %, and its paired standard error)")
    print(ROW.format("attack", "network", "library", "n", "ours", "theirs", "diff", "SE", "fooled %", ""))
    for case in CASES:
        if case.norms:
            for net in case.nets:
                _compare_norms(case, net, networks.target(net, max(case.images // scale, 16), "correct"), scale)


def _compare_accuracies(case: Case, net: str, target: Target, scale: int) -> None:
    for library, part, our_images, their_images in _results(case, target, scale):
        a, b = (part.correct(adv).double().mean().item() for adv in (our_images, their_images))
        ours, theirs = (part.correct(adv) & part.correct(part.x) for adv in (our_images, their_images))
        error = ((a * (1 - a) + b * (1 - b)) / len(part.y)) ** 0.5
        alone = f"{int((~ours & theirs).sum())}/{int((ours & ~theirs).sum())}"
        mark = "DISAGREE" if abs(a - b) > 2 * error else ""
        numbers = f"{100 * a:.1f}", f"{100 * b:.1f}", f"{100 * (a - b):+.1f}", f"{100 * error:.1f}"
        print(ROW.format(case.name, net, library, len(part.y), *numbers, alone, mark), flush=True)


def _compare_norms(case: Case, net: str, target: Target, scale: int) -> None:
    for library, part, our_images, their_images in _results(case, target, scale):
        # Foolbox returns black images where it fails.
        fooled = [~part.correct(adv) & adv.flatten(1).any(1) for adv in (our_images, their_images)]
        both = fooled[0] & fooled[1]
        a, b = (l2_norms(adv - part.x)[both] for adv in (our_images, their_images))
        difference, error = ((a - b).mean() / b.mean()).item(), ((a - b).std() / b.mean() / len(a) ** 0.5).item()
        mark = "DISAGREE" if abs(difference) > max(2 * error, 1e-3) else ""
        numbers = f"{a.median():.4f}", f"{b.median():.4f}", f"{100 * difference:+.2f}", f"{100 * error:.2f}"
        rates = "/".join(f"{100 * own.double().mean():.0f}" for own in fooled)
        print(ROW.format(case.name, net, library, len(part.y), *numbers, rates, mark), flush=True)


def _results(case: Case, target: Target, scale: int) -> Iterator[tuple[str, Target, Tensor, Tensor]]:
    """For each other library: its name, the images that it attacks, our adversarial images of them, and its own."""
    our_images = case.implementations[OURS](target)
    for library, attack in case.implementations.items():
        if library != OURS:
            fewer = case.fewer.get(library, len(target.y)) // (scale if library in case.fewer else 1)
            part = target.first(max(fewer, 8))
            torch.manual_seed(0)
            yield library, part, our_images[: len(part.y)], attack(part)


def l2_norms(v: Tensor) -> Tensor:
    """L2 norm of each image, [N]."""
    return v.flatten(1).double().norm(dim=1)


def strong(networks: Networks, quick: bool) -> None:
    """Print robust accuracies after the suite `strong` and after AutoAttack."""
    print("\nstrong: robust accuracy in %, suite `strong` and AutoAttack standard (required: at most 0.5 points above)")
    for name, epsilon in ((NATURAL, 1 / 255), (ROBUST, 8 / 255), (BPFC, 8 / 255)):
        target = networks.target(name, 32 if quick else 200)
        target.epsilon = epsilon
        start = time.process_time()
        suite = SUITES["strong"](20, 1)
        ours = run_suite(target.net, target.x, target.y, suite, epsilon=epsilon).worst.double().mean().item()
        middle = time.process_time()
        theirs = target.correct(libraries.auto_attack(target)).double().mean().item()
        seconds = f"{middle - start:.0f} and {time.process_time() - middle:.0f} CPU s"
        print(f"{name:20} eps {255 * epsilon:g}/255  n {len(target.y)}  ours {100 * ours:.1f}  theirs {100 * theirs:.1f}  "
              f"{'ok' if ours <= theirs + 0.005 else 'MISSED'}  ({seconds})", flush=True)  # fmt: skip
