"""Auto-PGD (Croce and Hein 2020, Algorithm 1), untargeted and targeted at the most likely classes in turn, Linf and L2.

Steepest ascent with momentum. The step size starts at 2 * epsilon and is halved for each image whose loss has stopped rising,
which then continues from its best point so far. There is no step size to choose.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from core.attacks.ball import Norm, draw_offset, project, step
from core.attacks.contract import attack
from core.attacks.losses import ATTACK_LOSSES, AttackLoss, misclassified, targeted_dlr
from core.modes import eval_mode
from core.rng import PerImage

MOMENTUM = 0.75
"""Weight of the new step (alpha in the paper); the previous move has the remaining weight."""
RHO = 0.75
"""Share of the steps between two checkpoints that must raise the loss; otherwise the step size is halved."""

Goal = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(images that require a gradient, their logits, their row numbers in the batch) -> loss to ascend, [B]."""


@attack
def apgd(
    net: nn.Module, x: Tensor, y: Tensor, *, epsilon: float, norm: Norm = "linf", steps: int = 100,
    loss: str | AttackLoss = "ce", restarts: int = 1, draw: PerImage,
) -> Tensor:  # fmt: skip
    """APGD: ascend the loss from random points of the ball, and stop on an image as soon as it is misclassified.

    Args:
        net: images -> logits; attacked in evaluation mode, and returned to its own mode.
        x: images in [0, 1], [B, C, H, W].
        y: true labels, [B]; images that are misclassified already are returned unchanged.
        epsilon: radius of the ball, in units of [0, 1] images.
        norm: "linf" or "l2".
        steps: steps of each run; each takes one gradient, and the run one further forward pass.
        loss: loss to ascend, a name in `core.attacks.losses.ATTACK_LOSSES` or a function.
        restarts: number of random starts; a later start is tried only on images that the earlier ones did not fool.
        draw: source of the random starts.

    Returns:
        Images like x: a misclassified one where one was found, otherwise the one of highest loss.
    """
    attack_loss = ATTACK_LOSSES[loss] if isinstance(loss, str) else loss

    def goal(adv: Tensor, logits: Tensor, rows: Tensor) -> Tensor:
        return attack_loss(net, adv, logits, y[rows])

    return _runs(net, x, y, lambda clean: [goal] * restarts, epsilon, norm, steps, draw)


@attack
def targeted_apgd(
    net: nn.Module, x: Tensor, y: Tensor, *, epsilon: float, norm: Norm = "linf", steps: int = 100, targets: int = 9,
    draw: PerImage,
) -> Tensor:  # fmt: skip
    """APGD on the targeted DLR loss, with the most likely other classes as targets, one after another.

    Any misclassification counts, not only as the target. With fewer than four classes the loss is not defined, and the margin
    z_target - z_y replaces it.

    Args:
        net, x, y, epsilon, norm: see `apgd`.
        steps: steps for each target.
        targets: number of target classes, in descending order of their logits at x; all other classes if there are fewer.
        draw: source of the random starts, one for each target.

    Returns:
        Images like x: a misclassified one where one was found, otherwise the one of highest loss.
    """

    def goals(clean: Tensor) -> list[Goal]:
        count = min(targets, clean.shape[1] - 1)
        others = clean.scatter(1, y.unsqueeze(1), float("-inf")).topk(count, 1).indices
        return [_targeted_goal(y, target) for target in others.unbind(1)]

    return _runs(net, x, y, goals, epsilon, norm, steps, draw)


def _targeted_goal(y: Tensor, target: Tensor) -> Goal:
    def goal(adv: Tensor, logits: Tensor, rows: Tensor) -> Tensor:
        true, other = y[rows], target[rows]
        if logits.shape[1] >= 4:
            return targeted_dlr(logits, true, other)
        return (logits.gather(1, other.unsqueeze(1)) - logits.gather(1, true.unsqueeze(1))).squeeze(1)

    return goal


def checkpoints(steps: int) -> list[int]:
    """Numbers of steps after which step sizes are checked: w_j = ceil(p_j * steps), ascending, without repetition, below `steps`.

    p_0 = 0, p_1 = 0.22, p_(j+1) = p_j + max(p_j - p_(j-1) - 0.03, 0.06); computed in integer percent, without rounding errors.
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
    """One run for each goal (made from the clean logits), on the images that the earlier runs did not fool."""
    best = x.clone()
    if not len(x):
        return best
    best_loss = torch.full((len(x),), float("-inf"), dtype=x.dtype, device=x.device)
    with eval_mode(net, freeze_weights=True):
        with torch.no_grad():
            clean = net(x)
        rows = (~misclassified(clean, y)).nonzero().squeeze(1)
        for r, goal in enumerate(goals(clean)):
            if not len(rows):
                break
            run = _Run.start(x, rows, draw.named("start", r), epsilon, norm)
            rows = _ascend(net, y, run, goal, best, best_loss, epsilon, norm, steps)
    return best


@dataclass
class _Run:
    """The state of one run for the images that it still attacks, n of them; every field is [n, ...]."""

    rows: Tensor
    """Row numbers in the batch."""
    x: Tensor
    """Images without perturbation."""
    now: Tensor
    """Current points."""
    before: Tensor
    """Points one step ago."""
    loss: Tensor
    """Loss at the current points."""
    gradient: Tensor
    """Gradient of the loss at the current points."""
    best: Tensor
    """Points of highest loss so far."""
    best_loss: Tensor
    """Loss at the best points."""
    best_gradient: Tensor
    """Gradient of the loss at the best points."""
    size: Tensor
    """Length of a step, [n, 1, 1, 1]."""
    rises: Tensor
    """Number of steps since the last checkpoint that raised the loss."""
    halved: Tensor
    """Whether the last checkpoint halved the step."""
    checked: Tensor
    """Highest loss at the last checkpoint."""

    @classmethod
    def start(cls, x: Tensor, rows: Tensor, draw: PerImage, epsilon: float, norm: Norm) -> "_Run":
        """A run that begins at random points of the ball, whose losses are not known yet."""
        x = x[rows]
        now = project(x + draw_offset(draw.at(rows), x.shape, epsilon, norm).to(x), x, epsilon, norm)
        lowest = torch.full((len(x),), float("-inf"), dtype=x.dtype, device=x.device)
        size = torch.full((len(x), 1, 1, 1), 2 * epsilon, dtype=x.dtype, device=x.device)
        zeros = torch.zeros_like(x)
        none = torch.zeros(len(x), dtype=torch.long, device=x.device)
        return cls(
            rows=rows, x=x, now=now, before=now, loss=lowest, gradient=zeros, best=now, best_loss=lowest, best_gradient=zeros,
            size=size, rises=none, halved=none.bool(), checked=lowest,
        )  # fmt: skip

    def keep(self, mask: Tensor) -> None:
        """Keep only the images in the mask."""
        for name, value in vars(self).items():
            setattr(self, name, value[mask])

    def update(self, loss: Tensor, gradient: Tensor) -> None:
        """Record the loss and its gradient at the current points."""
        self.rises = self.rises + (loss > self.loss)
        self.loss, self.gradient = loss, gradient
        higher = loss > self.best_loss
        self.best_loss = torch.where(higher, loss, self.best_loss)
        higher = higher.view(-1, 1, 1, 1)
        self.best = torch.where(higher, self.now, self.best)
        self.best_gradient = torch.where(higher, gradient, self.best_gradient)

    def check(self, window: int) -> None:
        """Checkpoint after `window` steps: images whose loss has stopped rising return to their best point with half the step."""
        stuck = (self.rises < RHO * window) | (~self.halved & (self.best_loss <= self.checked))
        self.loss = torch.where(stuck, self.best_loss, self.loss)
        self.halved, self.checked, self.rises = stuck, self.best_loss, torch.zeros_like(self.rises)
        stuck = stuck.view(-1, 1, 1, 1)
        self.size = torch.where(stuck, self.size / 2, self.size)
        self.now = torch.where(stuck, self.best, self.now)
        self.gradient = torch.where(stuck, self.best_gradient, self.gradient)

    def move(self, weight: float, epsilon: float, norm: Norm) -> None:
        """Take one step; `weight` is the weight of the new step against the previous move."""
        ahead = project(self.now + self.size * step(self.gradient, 1.0, norm), self.x, epsilon, norm)
        ahead = self.now + weight * (ahead - self.now) + (1 - weight) * (self.now - self.before)
        self.before, self.now = self.now, project(ahead, self.x, epsilon, norm)


def _ascend(
    net: nn.Module, y: Tensor, run: _Run, goal: Goal, best: Tensor, best_loss: Tensor, epsilon: float, norm: Norm, steps: int
) -> Tensor:
    """Take all steps of one run and write the results into `best` and `best_loss`; return the rows that are still robust."""
    marks, last = set(checkpoints(steps)), 0
    for k in range(steps + 1):
        loss, gradient, hit = _evaluate(net, run, goal, y[run.rows], k < steps)
        if hit.any():
            best[run.rows[hit]] = run.now[hit]
            run.keep(~hit)
            if not len(run.rows):
                return run.rows
            loss, gradient = loss[~hit], gradient[~hit]
        run.update(loss, gradient)
        if k in marks:
            run.check(k - last)
            last = k
        if k < steps:
            run.move(MOMENTUM if k else 1.0, epsilon, norm)
    higher = run.best_loss > best_loss[run.rows]
    best[run.rows[higher]], best_loss[run.rows[higher]] = run.best[higher], run.best_loss[higher]
    return run.rows


def _evaluate(net: nn.Module, run: _Run, goal: Goal, y: Tensor, with_gradient: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Loss [n], its gradient like the images (0 in place of NaN), and which images are misclassified, [n] bool."""
    adv = run.now.detach().requires_grad_()
    with torch.enable_grad():
        logits = net(adv)
        loss = goal(adv, logits, run.rows)
        gradient = torch.zeros_like(run.now)
        if with_gradient and loss.requires_grad:  # not if the network detaches its input
            (gradient,) = torch.autograd.grad(loss.sum(), adv, allow_unused=True, materialize_grads=True)
    return loss.detach(), gradient.nan_to_num_(nan=0.0), misclassified(logits.detach(), y)
