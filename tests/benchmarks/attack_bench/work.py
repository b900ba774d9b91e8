"""Comparison of the work of our PGD with its lower bounds: time of the convolutions, and number of forward passes."""

import statistics
import time

import torch
from attack_bench.implementations import BATCH, our_pgd
from attack_bench.networks import BIG_ROBUST, BPFC, NATURAL, ROBUST, Networks, Target
from attack_bench.speed import median_and_range, verdict
from torch import Tensor, nn
from torch.nn import functional as F

from core import rng
from core.attacks.ball import draw_offset, project
from core.attacks.gradient import pgd
from core.modes import eval_mode, predict

REQUIRED_SHARE = 75
"""Required rate of the PGD loop, in per cent of the rate of its convolutions alone."""


def bound(networks: Networks, quick: bool) -> None:
    """Print the rate of operations of the PGD loop as a share of that of its convolutions alone."""
    print(f"\nbound: GFLOP/s of the PGD loop over that of its convolutions alone (required: {REQUIRED_SHARE} %)")
    for name, count, steps in ((ROBUST, 256, 10), (BIG_ROBUST, 16, 3)):
        target = networks.target(name, count)
        layers = convolutions(target)
        operations = sum(flop for _, _, flop in layers)
        shares, layer_rates, loop_rates = [], [], []
        for i in range((3 if quick else 5) + 1):
            alone = sum(seconds_of_passes(layer, x) for layer, x, _ in layers)
            start = time.process_time()
            with eval_mode(target.net, freeze_weights=True):
                pgd(target.net, target.x, target.y, epsilon=target.epsilon, steps=steps)
            loop = (time.process_time() - start) / steps
            if i:  # the first round warms up
                shares.append(100 * alone / loop)
                layer_rates.append(operations / alone / 1e9)
                loop_rates.append(operations / loop / 1e9)
        rates = statistics.median(layer_rates), statistics.median(loop_rates)
        print(f"{name:20} batch {count:3}  convolutions {rates[0]:.0f} GFLOP/s, loop {rates[1]:.0f}: {median_and_range(shares)} %  "
              f"{verdict(shares, REQUIRED_SHARE)}", flush=True)  # fmt: skip


def convolutions(target: Target) -> list[tuple[nn.Conv2d, Tensor, float]]:
    """Each convolution with an input of its shape and memory format, and the operations of its forward and input-gradient pass."""
    layers: list[tuple[nn.Conv2d, Tensor, float]] = []

    def record(layer: nn.Conv2d, args: tuple[Tensor], out: Tensor) -> None:
        flop = 2 * 2 * out.numel() * layer.weight[0].numel()
        layers.append((layer, torch.randn_like(args[0]), flop))

    hooks = [layer.register_forward_hook(record) for layer in target.net.modules() if isinstance(layer, nn.Conv2d)]
    with torch.no_grad():
        target.net(target.x)
    for hook in hooks:
        hook.remove()
    return layers


def seconds_of_passes(layer: nn.Conv2d, x: Tensor) -> float:
    """CPU seconds of the forward and the input-gradient pass of a layer."""
    x = x.detach().requires_grad_()
    with eval_mode(layer, freeze_weights=True):
        start = time.process_time()
        out = layer(x)
        torch.autograd.grad(out, x, torch.ones_like(out))
        return time.process_time() - start


class Counter(nn.Module):
    """A network that counts the images that pass forward with a gradient."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net, self.images = net, 0

    def forward(self, x: Tensor) -> Tensor:
        """Count the images and return their logits."""
        self.images += len(x) * x.requires_grad
        return self.net(x)


def count(networks: Networks, quick: bool) -> None:
    """Print the number of image-steps of PGD with early exits, its limit, and differences to PGD without them."""
    print("\ncount: image-steps against 1.15 x robust x steps + 8 x fooled; verdicts against plain PGD from the same start")
    for name in (NATURAL, ROBUST, BPFC):
        target = networks.target(name, 64 if quick else 256, "correct")
        n = len(target.y)
        for steps in (20, 50, 100):
            used, robust = image_steps(target, steps, 1)
            limit = 1.15 * int(robust.sum()) * steps + 8 * (n - int(robust.sum()))
            at_last, at_all = plain_pgd(target, steps)
            differ = f"differs from plain: {int((robust != at_all).sum())} (its last iterate: {int((robust != at_last).sum())})"
            print(f"{name:20} PGD-{steps:<4} n {n}  robust {int(robust.sum()) / n:.2f}  {used:7,} of {limit:9,.0f} "
                  f"({used / limit:.2f})  {'ok    ' if used <= limit else 'MISSED'}  {differ}", flush=True)  # fmt: skip
        used, left, limit = 0, n, 0.0
        for restarts in range(1, 6):
            used, robust = image_steps(target, 20, restarts)
            limit += 1.15 * int(robust.sum()) * 20 + 8 * (left - int(robust.sum()))
            left = int(robust.sum())
        print(f"{name:20} PGD-20 x 5 restarts  robust {left / n:.2f}  {used:7,} of {limit:9,.0f} ({used / limit:.2f})"
              f"  {'ok' if used <= limit else 'MISSED'}", flush=True)  # fmt: skip


def image_steps(target: Target, steps: int, restarts: int) -> tuple[int, Tensor]:
    """Number of image-steps of our PGD, and which images are robust, [N] bool."""
    counter = Counter(target.net)
    adv = our_pgd(steps, restarts=restarts)(target.with_net(counter))
    return counter.images, target.correct(adv)


def plain_pgd(target: Target, steps: int) -> tuple[Tensor, Tensor]:
    """PGD as in the paper, from our random start: which images are correct at the last iterate, and which at all iterates."""
    at_last, at_all = [], []
    for rows in torch.arange(len(target.y)).split(BATCH):
        x, y, epsilon = target.x[rows], target.y[rows], target.epsilon
        adv = project(x + draw_offset(rng.per_image(0, "attack", ids=rows), x.shape, epsilon, "linf"), x, epsilon, "linf")
        always_correct = torch.ones_like(y, dtype=torch.bool)
        for _ in range(steps):
            adv = adv.detach().requires_grad_()
            logits = target.net(adv)
            always_correct &= logits.argmax(1) == y
            (gradient,) = torch.autograd.grad(F.cross_entropy(logits, y, reduction="sum"), adv)
            adv = adv.detach() + epsilon / 4 * gradient.sign()
            adv = torch.minimum(torch.maximum(adv, x - epsilon), x + epsilon).clamp(0, 1)
        correct = predict(target.net, adv).argmax(1) == y
        at_last.append(correct)
        at_all.append(always_correct & correct)
    return torch.cat(at_last), torch.cat(at_all)
