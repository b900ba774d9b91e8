"""The sliding patch (occlusion; Zeiler and Fergus 2014), as in the sparsity paper: a grey square, moved in steps of 2."""

from typing import Literal

import torch
from torch import Tensor, nn

from core.attacks.gradient import frozen
from core.errors import unknown

SCORES = {"probability": lambda logits: logits.softmax(1), "logit": lambda logits: logits}


@torch.no_grad()
def occlusion(
    net: nn.Module, x: Tensor, y: Tensor, *, patch: int = 4, stride: int = 2, fill: float = 0.5,
    score: Literal["probability", "logit"] = "probability", numbers_at_once: int = 1 << 19,
) -> Tensor:  # fmt: skip
    """Of each pixel, how far the score of class y drops when a grey patch hides it: the mean over the patch's positions.

    Positions start at 0, stride, 2 stride, ... in both directions until the image is covered. Where the stride does not divide
    side - patch, the last patch is cut off at the border (captum's rule; the paper has even sizes alone, where nothing is cut).

    Args:
        net: images -> logits. x: images in [0, 1], [N, c, h, w]. y: classes, [N].
        patch: side of the square, in pixels. stride: between positions, in pixels. fill: its grey, in [0, 1].
        score: what drops, the probability or the logit.
        numbers_at_once: the most pixel values (images x positions x c x h x w) that go through the network in one batch.

    Returns:
        [N, h, w], in units of the score; negative where the patch helps the class.

    Raises:
        ValueError: the patch is larger than the image, or the stride larger than the patch, which would leave pixels out.
    """
    from captum.attr import Occlusion  # seconds of import

    channels, height, width = x.shape[1:]
    if not 1 <= patch <= min(height, width):
        raise ValueError(f"a patch has 1 to {min(height, width)} pixels a side on images of {height}x{width}, not {patch}")
    if not 1 <= stride <= patch:
        raise ValueError(f"the stride of a patch of {patch} is 1 to {patch}, not {stride}")
    if score not in SCORES:
        raise unknown("score", score, SCORES)
    rows = max(1, numbers_at_once // x[0].numel()) if len(x) else 1
    images = min(len(x), max(1, rows // 8))  # 8 positions at once are enough to make captum's own work small
    slide = Occlusion(
        lambda images: SCORES[score](net(images.contiguous(memory_format=torch.channels_last)))
    )  # twice as fast on CPUs
    maps = [x.new_zeros(0, height, width)]
    with frozen(net):
        for part, labels in zip(x.split(images or 1), y.split(images or 1), strict=True):
            drop = slide.attribute(
                part, (channels, patch, patch), (channels, stride, stride), baselines=fill, target=labels,
                perturbations_per_eval=max(1, rows // max(1, len(part))),
            )  # fmt: skip
            maps.append(drop[:, 0])  # the same in all channels
    return torch.cat(maps)
