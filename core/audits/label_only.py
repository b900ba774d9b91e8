"""Label-only audit: training images lie farther from the decision boundary than other images (Choquette-Choo 2021)."""

import torch
from torch import Tensor, nn

from core.attacks.hop_skip_jump import hop_skip_jump
from core.modes import as_float, predict, with_autograd
from core.rng import PerImage


@with_autograd
def boundary_distance(
    net: nn.Module, x: Tensor, y: Tensor, *, draw: PerImage, steps: int = 8, samples: int = 50, batch_size: int = 256
) -> Tensor:
    """L2 distance of each image to the decision boundary, by HopSkipJump; larger means more likely a member.

    Args:
        net: images -> logits, of which only the argmax is used.
        x: images, uint8 or in [0, 1], [N, c, h, w].
        y: labels, [N].
        draw: source of noise for these images.
        steps, samples: see `core.attacks.hop_skip_jump`; an image takes about steps^1.5 * samples queries.
        batch_size: images that are attacked at a time.

    Returns:
        float64, [N]; 0 for a misclassified image, and the largest possible distance if no image of another class was found.
    """
    distances = []
    for rows in torch.arange(len(x), device=x.device).split(batch_size):
        images = as_float(x[rows])
        adv = hop_skip_jump(net, images, y[rows], draw=draw.at(rows), steps=steps, samples=samples)
        distance = (adv - images).double().flatten(1).norm(dim=1)
        correct = predict(net, images).argmax(1) == y[rows]
        distances.append(torch.where(correct & (distance == 0), images[0].numel() ** 0.5, distance))
    return torch.cat(distances)
