"""Adaptive attack on GAT (Lee, Han, Lee 2017): the generator that was trained against the classifier, as an attack."""

import torch
from torch import Tensor, nn

from core.attacks.ball import Norm, project, step
from core.attacks.contract import attack
from core.attacks.losses import misclassified
from core.modes import eval_mode
from core.perturbations.gat import Adversary, probability_gradient


@attack
def generator(net: nn.Module, x: Tensor, y: Tensor, *, epsilon: float, norm: Norm = "linf", adversary: Adversary) -> Tensor:
    """One step to the edge of the ball in the generator's direction, as FGSM takes one in the gradient's direction.

    Args:
        net: images -> logits; returned to its own mode.
        x: images in [0, 1], [B, c, h, w].
        y: true labels, [B].
        epsilon: radius of the ball.
        norm: norm of the ball; the direction is sign(G) in Linf and G / |G| in L2.
        adversary: the bound perturbation `gat` of a trained network; its training statistics are used, so that the result for an
            image does not depend on the others.

    Returns:
        Images like x; images that are misclassified already are unchanged.

    Raises:
        ValueError: the generator was never trained; see `Adversary.scaled`.
    """
    if not len(x):
        return x.clone()
    with eval_mode(net), torch.no_grad():
        unchanged = misclassified(net(x), y)
    delta, _ = probability_gradient(net, x, y)
    with eval_mode(adversary), torch.no_grad():
        offset = adversary.offset(delta.to(next(adversary.parameters()).dtype)).to(x)
        adv = project(x + step(offset, epsilon, norm), x, epsilon, norm)
    return torch.where(unchanged.view(-1, 1, 1, 1), x, adv)
