"""Label-only audit: images that a network was trained on lie farther from its decision boundary (Choquette-Choo 2021)."""

import torch
from torch import Tensor, nn

from core.attacks.hop_skip_jump import hop_skip_jump
from core.rng import PerImage
from core.train import as_float, predict


def boundary_distance(
    net: nn.Module, x: Tensor, y: Tensor, *, draw: PerImage, steps: int = 8, samples: int = 50, batch_size: int = 256
) -> Tensor:
    """The L2 length of what HopSkipJump found; larger means more likely a member.

    Args:
        net: images -> logits, of which the attacker is told the label only. x: uint8 or [0, 1] images, [N, c, h, w]. y: [N].
        draw: noise for these images. steps, samples: as in `core.attacks.hop_skip_jump`; about steps^1.5 * samples labels an image.

    Returns:
        float64, [N]; 0 for an image that is read wrong, and the longest possible where no other class was found.
    """
    found = []
    for rows in torch.arange(len(x), device=x.device).split(batch_size):
        images = as_float(x[rows])
        adv = hop_skip_jump(net, images, y[rows], draw=draw.at(rows), steps=steps, samples=samples)
        distance = (adv - images).double().flatten(1).norm(dim=1)
        right = predict(net, images).argmax(1) == y[rows]
        found.append(torch.where(right & (distance == 0), images[0].numel() ** 0.5, distance))
    return torch.cat(found)
