"""Occlusion by a sliding patch (Zeiler and Fergus 2014), as in the sparsity paper: a grey square, moved in steps of 2 pixels."""

from typing import Literal

import torch
from torch import Tensor, nn

from core.errors import unknown
from core.modes import eval_mode

CLASS_SCORES = {"probability": lambda logits: logits.softmax(1), "logit": lambda logits: logits}
"""Scores of classes by name: logits [N, C] -> [N, C]."""


@torch.no_grad()
def occlusion(
    net: nn.Module, x: Tensor, y: Tensor, *, patch: int = 4, stride: int = 2, fill: float = 0.5,
    score: Literal["probability", "logit"] = "probability", numbers_at_once: int = 1 << 19,
) -> Tensor:  # fmt: skip
    """Drop of the score of class y when a grey patch hides a pixel, mean over the positions of the patch that hide it.

    Positions start at 0, stride, 2 stride, ... in both directions until the image is covered. If the stride does not divide
    side - patch, the last patch is cut off at the border (captum's rule; the paper has only sizes for which nothing is cut off).

    Args:
        net: images -> logits; returned to its own mode.
        x: images in [0, 1], [N, c, h, w].
        y: classes to explain, [N].
        patch: side of the square, in pixels.
        stride: distance between positions, in pixels.
        fill: grey level of the patch, in [0, 1].
        score: score of the class, its probability or its logit.
        numbers_at_once: pixel values (images x positions x c x h x w) per forward pass, at most.

    Returns:
        Maps [N, h, w], in units of the score; negative where the patch raises the class's score.

    Raises:
        ValueError: the patch is larger than the image, or the stride larger than the patch, so that pixels would be left out.
        InputError: there is no such score.
    """
    from captum.attr import Occlusion  # seconds of import

    channels, height, width = x.shape[1:]
    if not 1 <= patch <= min(height, width):
        raise ValueError(f"patch must be 1 to {min(height, width)} pixels on images of {height}x{width}, got {patch}")
    if not 1 <= stride <= patch:
        raise ValueError(f"stride must be 1 to {patch} for a patch of {patch} pixels, got {stride}")
    if score not in CLASS_SCORES:
        raise unknown("score", score, CLASS_SCORES)
    rows = max(1, numbers_at_once // x[0].numel()) if len(x) else 1
    images = min(len(x), max(1, rows // 8))  # with 8 positions at once, captum's overhead is small
    slide = Occlusion(
        lambda images: CLASS_SCORES[score](net(images.contiguous(memory_format=torch.channels_last)))
    )  # twice as fast on CPUs
    maps = [x.new_zeros(0, height, width)]
    with eval_mode(net):
        for part, labels in zip(x.split(images or 1), y.split(images or 1), strict=True):
            drop = slide.attribute(
                part, (channels, patch, patch), (channels, stride, stride), baselines=fill, target=labels,
                perturbations_per_eval=max(1, rows // max(1, len(part))),
            )  # fmt: skip
            maps.append(drop[:, 0])  # all channels are equal
    return torch.cat(maps)
