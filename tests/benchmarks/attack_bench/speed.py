"""Comparison of CPU time with other libraries."""

import statistics
import time

import torch
from attack_bench import implementations as libraries
from attack_bench.agreement import l2_norms
from attack_bench.implementations import ART, FOOLBOX, OURS, TORCHATTACKS, Implementations, without
from attack_bench.networks import BIG_NATURAL, BIG_ROBUST, NATURAL, ROBUST, Networks, Target
from torch import Tensor

REQUIRED_PGD = {
    20: {TORCHATTACKS: 1.5, FOOLBOX: 2.0, ART: 2.0},
    50: {TORCHATTACKS: 2.0},
    100: {TORCHATTACKS: 2.5},
}
"""Required ratios of CPU times, theirs / ours, by number of steps."""
ROW = "{:20} {:14} {:>4} {:>7} {:12} {:>20}  {}"


def measure(implementations: Implementations, target: Target, rounds: int) -> tuple[dict[str, list[float]], dict[str, Tensor]]:
    """CPU seconds of each implementation in each round, in alternating order, and its images in the last round."""
    seconds: dict[str, list[float]] = {name: [] for name in implementations}
    images: dict[str, Tensor] = {}
    for attack in implementations.values():
        attack(target.first(4))
    for i in range(rounds):
        first = i % len(implementations)
        for name in list(implementations)[first:] + list(implementations)[:first]:
            torch.manual_seed(i)
            start = time.process_time()
            images[name] = implementations[name](target)
            seconds[name].append(time.process_time() - start)
    return seconds, images


def median_and_range(values: list[float]) -> str:
    """Median and range as text."""
    return f"{statistics.median(values):.2f} [{min(values):.2f}-{max(values):.2f}]"


def verdict(ratios: list[float], required: float | None) -> str:
    """Whether the median is as large as required; empty if nothing is required."""
    if required is None:
        return ""
    return f">= {required:g}  {'ok' if statistics.median(ratios) >= required else 'MISSED'}"


def compare(implementations: Implementations, target: Target, attack: str, required: dict[str, float], rounds: int) -> None:
    """Measure our implementation and the others; print a row for each other library."""
    seconds, images = measure(implementations, target, rounds)
    for library in without(implementations, OURS):
        ratios = [theirs / ours for theirs, ours in zip(seconds[library], seconds[OURS], strict=True)]
        result = f"{target.correct(images[OURS]).double().mean():.2f}"
        if attack.startswith(("Deep", "C&W")):
            both = ~target.correct(images[OURS]) & ~target.correct(images[library])
            a, b = (l2_norms(images[name] - target.x)[both].mean() for name in (OURS, library))
            result = f"{b / a:.4f}"
        cells = target.name, attack, len(target.y), result, library, median_and_range(ratios)
        print(ROW.format(*cells, verdict(ratios, required.get(library))), flush=True)


def speed(networks: Networks, quick: bool) -> None:
    """Print ratios of CPU times, theirs / ours."""
    rounds = 3 if quick else 5
    print("\nspeed: CPU time theirs / ours, median [range]; robust: share after our attack, or the mean L2 norm theirs / ours")
    print(ROW.format("network", "attack", "n", "robust", "library", "theirs / ours", "required"))
    for name, epsilon, select in ((NATURAL, 2 / 255, "correct"), (ROBUST, 8 / 255, ""), (ROBUST, 10 / 255, "correct")):
        target = networks.target(name, 64 if quick else 128, select)
        target.epsilon = epsilon
        for steps, required in REQUIRED_PGD.items():
            pgds = libraries.all_pgd(steps, select == "correct")
            compare(pgds if steps == 20 else without(pgds, FOOLBOX, ART), target, f"PGD-{steps}", required, rounds)
    for name in (NATURAL, ROBUST):
        target = networks.target(name, 64 if quick else 256, "correct")
        few = target.first(32 if quick else 64)
        compare(without(libraries.all_deepfool(), FOOLBOX, ART), few, "DeepFool", {TORCHATTACKS: 4}, 3)
        compare(without(libraries.all_deepfool(), TORCHATTACKS, ART), target, "DeepFool", {FOOLBOX: 4}, 3)
        compare(without(libraries.all_carlini_wagner(50, 1.0, 1), ART), few, "C&W c=1, 50", {TORCHATTACKS: 1.5}, rounds)
    few = networks.target(NATURAL, 8, "correct")
    compare(without(libraries.all_deepfool(), TORCHATTACKS, FOOLBOX), few, "DeepFool", {}, 1)
    compare(without(libraries.all_carlini_wagner(50, 1.0, 1), TORCHATTACKS, FOOLBOX), few, "C&W c=1, 50", {}, 1)
    required, rounds = {TORCHATTACKS: 1.0, FOOLBOX: 1.5, ART: 1.5}, 2 if quick else 3
    for name, select in ((BIG_NATURAL, "correct"), (BIG_ROBUST, "correct"), (BIG_ROBUST, "robust")):
        compare(libraries.all_pgd(10, True), networks.target(name, 8 if quick else 16, select), "PGD-10", required, rounds)
    target = networks.target(BIG_NATURAL, 4, "correct")
    compare(without(libraries.all_deepfool(), ART), target, "DeepFool", {}, rounds)  # the requirement is for the small net
    compare(without(libraries.all_carlini_wagner(20, 1.0, 1), ART), target, "C&W c=1, 20", {TORCHATTACKS: 1.5}, rounds)
