"""The L2 attack of Carlini and Wagner (2017): Adam on |x' - x|^2 + c * hinge, with a search for c."""

import torch
from torch import Tensor, nn

from core.attacks.gradient import frozen
from core.attacks.losses import cw, fooled

SHRINK = 1 - 1e-6
"""Images are drawn in by so much before tanh is inverted, so that black and white pixels stay finite and can move."""
ROUNDING = 16
"""Images count as found from so many units in the last place of the largest logit beyond the boundary: a forward pass in
another batch rounds in other places, and the smallest of thousands of iterates is one that is close to the boundary."""


def carlini_wagner(
    net: nn.Module, x: Tensor, y: Tensor, *, steps: int = 1000, lr: float = 5e-3, confidence: float = 0.0,
    c: float = 1e-2, search_steps: int = 5,
) -> Tensor:  # fmt: skip
    """Minimise |x' - x|^2 + c * max(z_y - max_{i != y} z_i, -confidence) over w, with x' = (tanh(w) + 1) / 2.

    Every image has its own c. `search_steps` times Adam starts anew from the image; after each, c becomes ten times as large
    as long as no c was large enough, else the middle between the largest that was too small and the smallest that sufficed.
    The smallest successful image of all iterates of all searches is kept.

    Every image takes every step of every search, but for shortcuts that change no result. Left out altogether are images that
    are wrong already and images where no pixel moves the margin: there the gradient of the first step is zero for any c, so
    Adam never moves. And beyond the hinge, where its gradient is zero, none is computed. Nothing is given up for lack of
    progress: other implementations do so for a batch as a whole, which makes an image's result depend on its company.

    Args:
        net: images -> logits; attacked in eval mode, handed back as it came.
        x: images in [0, 1], [B, C, H, W].
        y: their labels, [B].
        steps: of Adam, in each search.
        lr: its step size, in units of w.
        confidence: by how much, in logits, another class has to lead.
        c: where the search for c starts.
        search_steps: how many values of c; 1 takes c as it is.

    Returns:
        Images like x: for each the smallest successful one, x itself where there is none or where it is wrong already.
    """
    x = x.detach()
    best = x.clone()
    if not len(x):
        return best
    with frozen(net, weights=True), torch.no_grad():
        rows = torch.nonzero(~fooled(net(x), y)).squeeze(1)
        start = torch.atanh((2 * x[rows] - 1) * SHRINK)
        if len(rows):
            _, slope, _ = _lead(net, _image(start.tanh()), y[rows], float("inf"))
            moves = slope.flatten(1).any(1)
            rows, start = rows[moves], start[moves]
        search = _Search(start, y[rows], c)
        for _ in range(search_steps if len(rows) else 0):
            search.descend(net, steps, lr, confidence)
        found = search.size.isfinite()
        best[rows[found]] = search.best[found]
    return best


class _Search:
    """The search for c, for images that have the variables `start`."""

    def __init__(self, start: Tensor, y: Tensor, c: float):
        self.start, self.y = start, y
        self.clean = _image(start.tanh())
        self.best = self.clean.clone()
        self.size = start.new_full((len(start),), float("inf"))
        """Squared length of the best so far."""
        self.c = torch.full_like(self.size, c)
        self.low, self.high = torch.zeros_like(self.size), torch.full_like(self.size, float("inf"))

    def descend(self, net: nn.Module, steps: int, lr: float, confidence: float) -> None:
        """One run of Adam for each image, then its next c."""
        w, adam = self.start.clone(), Adam(self.start)
        weight = self.c.view(-1, 1, 1, 1)
        ahead = reached = torch.zeros_like(self.y, dtype=torch.bool)
        for _ in range(steps):
            squashed = w.tanh()
            adv = _image(squashed)
            ahead, slope, success = _lead(net, adv, self.y, confidence, ahead)
            reached = reached | success
            offset = adv - self.clean
            size = offset.square().sum((1, 2, 3))
            better = success & (size < self.size)
            if better.any():
                self.best[better], self.size[better] = adv[better], size[better]
            gradient = offset.mul_(2).sub_(slope.mul_(weight))
            adam.update_(w, gradient.mul_(squashed.square_().neg_().add_(1).mul_(0.5)), lr)
        self.high = torch.where(reached, self.c, self.high)
        self.low = torch.where(reached, self.low, self.c)
        self.c = torch.where(self.high.isinf(), 10 * self.c, (self.low + self.high) / 2)


class Adam:
    """Adam (Kingma and Ba 2015) on a tensor whose rows are images and may be dropped."""

    def __init__(self, like: Tensor):
        """`like`: what is to be updated."""
        self.first, self.second = torch.zeros_like(like), torch.zeros_like(like)
        self.steps = 0

    def update_(self, variables: Tensor, gradient: Tensor, lr: float) -> None:
        """One step down the gradient, in place."""
        self.steps += 1
        self.first.lerp_(gradient, 0.1)
        self.second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        scale = (self.second / (1 - 0.999**self.steps)).sqrt_().add_(1e-8)
        variables.addcdiv_(self.first, scale, value=-lr / (1 - 0.9**self.steps))

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the images."""
        self.first, self.second = self.first[rows], self.second[rows]


def _image(squashed: Tensor) -> Tensor:
    return (squashed + 1).mul_(0.5)


def _lead(net: nn.Module, x: Tensor, y: Tensor, confidence: float, ahead: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """How images stand to the hinge, with no backward pass for those beyond it, if these are many.

    Args:
        net, x, y, confidence: as in `carlini_wagner`.
        ahead: which images were beyond the hinge the last time, [B] bool; they tend to be so again.

    Returns:
        Which images are beyond the hinge now, [B] bool; the gradient of min(lead of the best other class, confidence), like x;
        and which images are successful, [B] bool.
    """
    if ahead is not None and 4 * int(ahead.sum()) >= len(x):  # two smaller forward passes have a price of their own
        beyond, success = ahead.clone(), torch.zeros_like(ahead)
        beyond[ahead], success[ahead] = _beyond(net(x[ahead]), y[ahead], confidence)[1:]
        rest = ~beyond
        slope = torch.zeros_like(x)
        if rest.any():
            beyond[rest], slope[rest], success[rest] = _lead(net, x[rest], y[rest], confidence)
        return beyond, slope, success
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        lead, beyond, success = _beyond(net(x), y, confidence)
        slope = torch.zeros_like(x)
        if lead.requires_grad:  # a network may cut its input off
            lead = lead.clamp(max=confidence).sum()
            (slope,) = torch.autograd.grad(lead, x, allow_unused=True, materialize_grads=True)
    return beyond, slope.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0), success


def _beyond(logits: Tensor, y: Tensor, confidence: float) -> tuple[Tensor, Tensor, Tensor]:
    """The lead of the best other class; where it is more than `confidence`; and where it is so beyond doubt; all [B]."""
    lead = cw(logits, y)
    doubt = ROUNDING * torch.finfo(logits.dtype).eps * logits.detach().abs().amax(1)
    return lead, lead.detach() > confidence, lead.detach() > confidence + doubt
