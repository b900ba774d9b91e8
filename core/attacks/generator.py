"""The generator that GAT trained against its classifier (Lee, Han, Lee 2017), as an attack on it or on another network."""

import torch
from torch import Tensor, nn

from core.attacks.ball import Norm, project, step
from core.attacks.gradient import frozen
from core.attacks.losses import fooled
from core.perturbations.gat import Adversary, probability_slope


def generator(net: nn.Module, x: Tensor, y: Tensor, *, epsilon: float, norm: Norm = "linf", adversary: Adversary) -> Tensor:
    """One step of the generator's choice to the edge of the ball: what FGSM is with the gradient.

    Args:
        net: images -> logits; handed back as it came. x: images in [0, 1], [B, c, h, w]. y: labels to leave, [B].
        epsilon, norm: the ball; the generator gives the direction, sign(G) or G / |G|.
        adversary: the bound perturbation `gat` of a trained network.

    Returns:
        Images like x; images that are wrong already, unchanged.
    """
    if not len(x):
        return x.clone()
    with frozen(net), torch.no_grad():
        wrong = fooled(net(x), y)
    delta, _ = probability_slope(net, x, y)
    with torch.no_grad():
        adv = project(x + step(adversary.offset(delta), epsilon, norm), x, epsilon, norm)
    return torch.where(wrong.view(-1, 1, 1, 1), x, adv)
