"""The L2 attack of Carlini and Wagner (2017): Adam on |x' - x|^2 + c * hinge, with a search for c."""

import torch
from torch import Tensor, nn

from core.attacks.contract import attack
from core.attacks.losses import cw, misclassified
from core.modes import eval_mode

SHRINK = 1 - 1e-6
"""Factor by which images are scaled towards grey before tanh is inverted, so that black and white pixels stay finite."""
ROUNDING = 16
"""An image counts as misclassified only if it is beyond the boundary by this many units in the last place of the largest logit: a
forward pass in another batch rounds differently, and the smallest of thousands of iterates is close to the boundary."""


@attack
def carlini_wagner(
    net: nn.Module, x: Tensor, y: Tensor, *, steps: int = 1000, lr: float = 5e-3, confidence: float = 0.0,
    c: float = 1e-2, search_steps: int = 5,
) -> Tensor:  # fmt: skip
    """Minimise |x' - x|^2 + c * max(z_y - max_{i != y} z_i, -confidence) over w, with x' = (tanh(w) + 1) / 2.

    Each image has its own c. Adam is run `search_steps` times from the image. After each run, c is multiplied by ten if no c was
    large enough so far; otherwise it becomes the mean of the largest c that was too small and the smallest that was large enough.
    The smallest successful perturbation over all iterates of all runs is kept.

    Every image takes every step of every run, except for shortcuts that change no result: images that are misclassified already
    and images whose pixels do not affect the margin are skipped (the gradient of their first step is zero for every c, so Adam
    never moves), and no gradient is computed beyond the hinge, where it is zero. There is no early stopping. Other implementations
    stop a batch as a whole when it makes no progress, which makes an image's result depend on its batch.

    Args:
        net: images -> logits; attacked in evaluation mode, and returned to its own mode.
        x: images in [0, 1], [B, C, H, W].
        y: true labels, [B].
        steps: steps of Adam in each run.
        lr: step size of Adam, in units of w.
        confidence: lead in logits that another class must have.
        c: initial value of c.
        search_steps: number of values of c; with 1, only the initial value is used.

    Returns:
        Images like x: the smallest successful perturbation of each image, or x itself if there is none or if it is misclassified
        already.
    """
    best = x.clone()
    if not len(x):
        return best
    with eval_mode(net, freeze_weights=True), torch.no_grad():
        rows = torch.nonzero(~misclassified(net(x), y)).squeeze(1)
        start = torch.atanh((2 * x[rows] - 1) * SHRINK)
        if len(rows):
            _, gradient, _ = _hinge(net, _image(start.tanh()), y[rows], float("inf"))
            moves = gradient.flatten(1).any(1)
            rows, start = rows[moves], start[moves]
        search = _Search(start, y[rows], c)
        for _ in range(search_steps if len(rows) else 0):
            search.descend(net, steps, lr, confidence)
        successful = search.size.isfinite()
        best[rows[successful]] = search.best[successful]
    return best


class _Search:
    """The search for c, for images whose variables are initially `start`."""

    def __init__(self, start: Tensor, y: Tensor, c: float):
        self.start, self.y = start, y
        self.clean = _image(start.tanh())
        self.best = self.clean.clone()
        self.size = start.new_full((len(start),), float("inf"))
        """Squared length of the best perturbation so far; infinite if there is none."""
        self.c = torch.full_like(self.size, c)
        self.low, self.high = torch.zeros_like(self.size), torch.full_like(self.size, float("inf"))

    def descend(self, net: nn.Module, steps: int, lr: float, confidence: float) -> None:
        """Run Adam once for each image, then choose its next c."""
        w, adam = self.start.clone(), Adam(self.start)
        weight = self.c.view(-1, 1, 1, 1)
        beyond = reached = torch.zeros_like(self.y, dtype=torch.bool)
        for _ in range(steps):
            squashed = w.tanh()
            adv = _image(squashed)
            beyond, lead_gradient, success = _hinge(net, adv, self.y, confidence, beyond)
            reached = reached | success
            offset = adv - self.clean
            size = offset.square().sum((1, 2, 3))
            better = success & (size < self.size)
            if better.any():
                self.best[better], self.size[better] = adv[better], size[better]
            gradient = offset.mul_(2).sub_(lead_gradient.mul_(weight))
            adam.update_(w, gradient.mul_(squashed.square_().neg_().add_(1).mul_(0.5)), lr)
        self.high = torch.where(reached, self.c, self.high)
        self.low = torch.where(reached, self.low, self.c)
        self.c = torch.where(self.high.isinf(), 10 * self.c, (self.low + self.high) / 2)


class Adam:
    """Adam (Kingma and Ba 2015) on a tensor whose rows are images and may be dropped."""

    def __init__(self, like: Tensor):
        """`like` has the shape of the variables."""
        self.first, self.second = torch.zeros_like(like), torch.zeros_like(like)
        self.steps = 0

    def update_(self, variables: Tensor, gradient: Tensor, lr: float) -> None:
        """Take one descent step, in place."""
        self.steps += 1
        self.first.lerp_(gradient, 0.1)
        self.second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        scale = (self.second / (1 - 0.999**self.steps)).sqrt_().add_(1e-8)
        variables.addcdiv_(self.first, scale, value=-lr / (1 - 0.9**self.steps))

    def keep(self, rows: Tensor) -> None:
        """Keep only these images."""
        self.first, self.second = self.first[rows], self.second[rows]


def _image(squashed: Tensor) -> Tensor:
    return (squashed + 1).mul_(0.5)


def _hinge(net: nn.Module, x: Tensor, y: Tensor, confidence: float, before: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Position of images relative to the hinge; if many are beyond it, these need no backward pass.

    Args:
        net, x, y, confidence: see `carlini_wagner`.
        before: images that were beyond the hinge in the previous step, [B] bool; they are likely to be beyond it again.

    Returns:
        Which images are beyond the hinge, [B] bool; the gradient of min(lead of the best other class, confidence), like x; and
        which images are successful, [B] bool.
    """
    if before is not None and 4 * int(before.sum()) >= len(x):  # two smaller forward passes cost more than one
        beyond, success = before.clone(), torch.zeros_like(before)
        beyond[before], success[before] = _lead(net(x[before]), y[before], confidence)[1:]
        rest = ~beyond
        gradient = torch.zeros_like(x)
        if rest.any():
            beyond[rest], gradient[rest], success[rest] = _hinge(net, x[rest], y[rest], confidence)
        return beyond, gradient, success
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        lead, beyond, success = _lead(net(x), y, confidence)
        gradient = torch.zeros_like(x)
        if lead.requires_grad:  # not if the network detaches its input
            lead = lead.clamp(max=confidence).sum()
            (gradient,) = torch.autograd.grad(lead, x, allow_unused=True, materialize_grads=True)
    return beyond, gradient.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0), success


def _lead(logits: Tensor, y: Tensor, confidence: float) -> tuple[Tensor, Tensor, Tensor]:
    """Lead of the best other class; whether it exceeds `confidence`; and whether it does by more than rounding; all [B]."""
    lead = cw(logits, y)
    rounding = ROUNDING * torch.finfo(logits.dtype).eps * logits.detach().abs().amax(1)
    return lead, lead.detach() > confidence, lead.detach() > confidence + rounding
