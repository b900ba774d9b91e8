"""Auto-PGD (Croce and Hein 2020, Algorithm 1), untargeted and towards each likely class in turn, Linf and L2.

Steepest ascent with momentum whose steps start at 2 * epsilon and are halved, image by image, wherever the loss has stopped
rising; the image then goes on from the best point that it has seen. There is no step size to choose.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from core.attacks.ball import Norm, draw_offset, project, step
from core.attacks.gradient import frozen
from core.attacks.losses import LOSSES, Loss, fooled, targeted_dlr
from core.rng import PerImage

MOMENTUM = 0.75
"""Share of the new step; the rest goes on with the last move (alpha in the paper)."""
RHO = 0.75
"""Share of the steps between two checkpoints that must raise the loss; fewer halve the step size."""

Goal = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(images that carry a gradient, their logits, their row numbers in the batch) -> what to climb, [B]."""


def apgd(
    net: nn.Module, x: Tensor, y: Tensor, *, epsilon: float, norm: Norm = "linf", steps: int = 100,
    loss: str | Loss = "ce", restarts: int = 1, draw: PerImage,
) -> Tensor:  # fmt: skip
    """APGD: each restart starts at a random point of the ball and climbs the loss; an image is left as soon as it is fooled.

    Args:
        net: images -> logits; attacked in eval mode, handed back as it came.
        x: images in [0, 1], [B, C, H, W].
        y: labels, [B]; an image that is not seen as its label comes back as it is.
        epsilon: radius of the ball, in units of [0, 1] images.
        norm: "linf" or "l2".
        steps: steps of each restart, so many gradients and one forward pass more.
        loss: what to climb, a name in `core.attacks.losses.LOSSES` or a function.
        restarts: how many starts; a later one is tried only on images that the earlier ones did not fool.
        draw: where the starts come from.

    Returns:
        Images like x: for each, one that fools the network where one was found, else the one of highest loss.
    """
    climb = LOSSES[loss] if isinstance(loss, str) else loss

    def goal(adv: Tensor, logits: Tensor, rows: Tensor) -> Tensor:
        return climb(net, adv, logits, y[rows])

    return _runs(net, x, y, lambda clean: [goal] * restarts, epsilon, norm, steps, draw)


def targeted_apgd(
    net: nn.Module, x: Tensor, y: Tensor, *, epsilon: float, norm: Norm = "linf", steps: int = 100, targets: int = 9,
    draw: PerImage,
) -> Tensor:  # fmt: skip
    """APGD on the targeted DLR loss, towards the likeliest other classes one after another.

    Any other class than y counts, not only the one that is aimed at. With fewer than four classes, where that loss is not
    defined, the margin z_target - z_y is climbed.

    Args:
        net, x, y, epsilon, norm: as in `apgd`.
        steps: steps towards each class.
        targets: how many classes, the likeliest of the unattacked image first; all the others where there are fewer.
        draw: where the starts come from, a fresh one for each class.

    Returns:
        Images like x: for each, one that fools the network where one was found, else the one of highest loss.
    """

    def goals(clean: Tensor) -> list[Goal]:
        count = min(targets, clean.shape[1] - 1)
        aims = clean.scatter(1, y.unsqueeze(1), float("-inf")).topk(count, 1).indices
        return [_towards(y, aim) for aim in aims.unbind(1)]

    return _runs(net, x, y, goals, epsilon, norm, steps, draw)


def _towards(y: Tensor, aim: Tensor) -> Goal:
    def goal(adv: Tensor, logits: Tensor, rows: Tensor) -> Tensor:
        true, target = y[rows], aim[rows]
        if logits.shape[1] >= 4:
            return targeted_dlr(logits, true, target)
        return (logits.gather(1, target.unsqueeze(1)) - logits.gather(1, true.unsqueeze(1))).squeeze(1)

    return goal


def checkpoints(steps: int) -> list[int]:
    """After how many steps the step sizes are looked at: w_j = ceil(p_j * steps), ascending, each once, below `steps`.

    p_0 = 0, p_1 = 0.22, p_(j+1) = p_j + max(p_j - p_(j-1) - 0.03, 0.06); in whole percent, which do not round.
    """
    shares = [0, 22]
    while shares[-1] < 100:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 3, 6))
    marks = {-(-share * steps // 100) for share in shares}
    return sorted(mark for mark in marks if mark < steps)


def _runs(
    net: nn.Module, x: Tensor, y: Tensor, goals: Callable[[Tensor], list[Goal]], epsilon: float, norm: Norm, steps: int,
    draw: PerImage,
) -> Tensor:  # fmt: skip
    """One run for each goal (made from the clean logits), on the images that the earlier ones left standing."""
    x = x.detach()
    best = x.clone()
    if not len(x):
        return best
    height = torch.full((len(x),), float("-inf"), dtype=x.dtype, device=x.device)  # the loss at `best`
    with frozen(net, weights=True):
        with torch.no_grad():
            clean = net(x)
        rows = (~fooled(clean, y)).nonzero().squeeze(1)
        for r, goal in enumerate(goals(clean)):
            if not len(rows):
                break
            run = _Run.start(x, rows, draw.named("start", r), epsilon, norm)
            rows = _ascend(net, y, run, goal, best, height, epsilon, norm, steps)
    return best


@dataclass
class _Run:
    """Where the images of one run are; n of them, every field [n, ...]."""

    rows: Tensor
    """Their numbers in the batch."""
    x: Tensor
    """Unattacked."""
    now: Tensor
    before: Tensor
    """One step ago."""
    loss: Tensor
    """Now."""
    slope: Tensor
    """Gradient of the loss, now."""
    best: Tensor
    """The point of highest loss so far."""
    best_loss: Tensor
    best_slope: Tensor
    size: Tensor
    """Length of a step, [n, 1, 1, 1]."""
    rises: Tensor
    """How many steps since the last checkpoint raised the loss."""
    halved: Tensor
    """Whether the last checkpoint halved the step."""
    checked: Tensor
    """The highest loss at the last checkpoint."""

    @classmethod
    def start(cls, x: Tensor, rows: Tensor, draw: PerImage, epsilon: float, norm: Norm) -> "_Run":
        """Random points of the ball, whose losses are not known yet."""
        x = x[rows]
        now = project(x + draw_offset(draw.at(rows), x.shape, epsilon, norm).to(x), x, epsilon, norm)
        lowest = torch.full((len(x),), float("-inf"), dtype=x.dtype, device=x.device)
        size = torch.full((len(x), 1, 1, 1), 2 * epsilon, dtype=x.dtype, device=x.device)
        still = torch.zeros_like(x)
        none = torch.zeros(len(x), dtype=torch.long, device=x.device)
        return cls(
            rows=rows, x=x, now=now, before=now, loss=lowest, slope=still, best=now, best_loss=lowest, best_slope=still,
            size=size, rises=none, halved=none.bool(), checked=lowest,
        )  # fmt: skip

    def keep(self, mask: Tensor) -> None:
        """Go on with some of the images."""
        for name, value in vars(self).items():
            setattr(self, name, value[mask])

    def note(self, loss: Tensor, slope: Tensor) -> None:
        """What was found at the points where the images are."""
        self.rises = self.rises + (loss > self.loss)
        self.loss, self.slope = loss, slope
        higher = loss > self.best_loss
        self.best_loss = torch.where(higher, loss, self.best_loss)
        higher = higher.view(-1, 1, 1, 1)
        self.best = torch.where(higher, self.now, self.best)
        self.best_slope = torch.where(higher, slope, self.best_slope)

    def check(self, window: int) -> None:
        """Halve the steps of the images that have stopped rising in the last `window` steps; these go back to their best."""
        stuck = (self.rises < RHO * window) | (~self.halved & (self.best_loss <= self.checked))
        self.loss = torch.where(stuck, self.best_loss, self.loss)
        self.halved, self.checked, self.rises = stuck, self.best_loss, torch.zeros_like(self.rises)
        stuck = stuck.view(-1, 1, 1, 1)
        self.size = torch.where(stuck, self.size / 2, self.size)
        self.now = torch.where(stuck, self.best, self.now)
        self.slope = torch.where(stuck, self.best_slope, self.slope)

    def move(self, share: float, epsilon: float, norm: Norm) -> None:
        """One step, of which `share` is new."""
        ahead = project(self.now + self.size * step(self.slope, 1.0, norm), self.x, epsilon, norm)
        ahead = self.now + share * (ahead - self.now) + (1 - share) * (self.now - self.before)
        self.before, self.now = self.now, project(ahead, self.x, epsilon, norm)


def _ascend(
    net: nn.Module, y: Tensor, run: _Run, goal: Goal, best: Tensor, height: Tensor, epsilon: float, norm: Norm, steps: int
) -> Tensor:
    """One run, written into `best` and `height`; returns the rows that still stand."""
    marks, last = set(checkpoints(steps)), 0
    for k in range(steps + 1):
        loss, slope, hit = _look(net, run, goal, y[run.rows], k < steps)
        if hit.any():
            best[run.rows[hit]] = run.now[hit]
            run.keep(~hit)
            if not len(run.rows):
                return run.rows
            loss, slope = loss[~hit], slope[~hit]
        run.note(loss, slope)
        if k in marks:
            run.check(k - last)
            last = k
        if k < steps:
            run.move(MOMENTUM if k else 1.0, epsilon, norm)
    higher = run.best_loss > height[run.rows]
    best[run.rows[higher]], height[run.rows[higher]] = run.best[higher], run.best_loss[higher]
    return run.rows


def _look(net: nn.Module, run: _Run, goal: Goal, y: Tensor, with_slope: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Loss [n], its gradient like the images with 0 for NaN, and which images are fooled, [n] bool."""
    adv = run.now.detach().requires_grad_()
    with torch.enable_grad():
        logits = net(adv)
        loss = goal(adv, logits, run.rows)
        slope = torch.zeros_like(run.now)
        if with_slope and loss.requires_grad:  # a network may cut its input off
            (slope,) = torch.autograd.grad(loss.sum(), adv, allow_unused=True, materialize_grads=True)
    return loss.detach(), slope.nan_to_num_(nan=0.0), fooled(logits.detach(), y)
