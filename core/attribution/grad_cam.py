"""Grad-CAM (Selvaraju et al. 2017): the maps of the last convolution, weighted by what the class's logit gains from each."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.attacks.gradient import frozen
from core.density import RECTIFIERS

SIDE = 4
"""Of a map that still shows where something is, in positions."""


def grad_cam(net: nn.Module, x: Tensor, y: Tensor, *, batch_size: int = 256) -> Tensor:
    """M = relu(sum_k a_k A_k) with a_k = mean over positions of dz_y / dA_k, upsampled bilinearly to the image's size.

    A are the maps that `last_convolution` finds, z the logits.

    Args:
        net: images -> logits. x: images in [0, 1], [N, c, h, w]. y: classes, [N]. batch_size: images at once.

    Returns:
        [N, h, w], at least 0; all zero where no map speaks for the class.

    Raises:
        ValueError: the network has no convolution.
    """
    from captum.attr import LayerGradCam  # seconds of import

    maps = [x.new_zeros(0, *x.shape[2:])]
    if len(x):
        cam = LayerGradCam(net, last_convolution(net, x[:1]))
        with frozen(net, weights=True):
            for part, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
                coarse = cam.attribute(part, labels, relu_attributions=True)
                assert isinstance(coarse, Tensor)
                maps.append(F.interpolate(coarse.detach(), x.shape[2:], mode="bilinear", align_corners=False)[:, 0])
    return torch.cat(maps)


@torch.no_grad()
def last_convolution(net: nn.Module, x: Tensor) -> nn.Module:
    """The layer whose output holds the last convolution's maps, in the order of execution.

    Of convolutions whose maps have less than 4x4 positions for these images, as the last of VGG have, none is taken unless all
    have; then it is the last of those with the largest maps. Where batch norm and a rectifier follow right behind, the layer is
    the last of them: a convolution's zero means nothing before its batch norm, and only rectified maps make Grad-CAM equal to
    CAM on a network that averages them and ends with a linear layer, as the authors of both have it. In a network that joins
    branches (GoogLeNet, DenseNet) the maps are those of the last branch alone.

    Args:
        net: images -> logits. x: images in [0, 1], [N, c, h, w]; one is enough.

    Raises:
        ValueError: the network has no convolution.
    """
    calls: list[tuple[nn.Module, Tensor, Tensor, int]] = []

    def note(module: nn.Module, given: tuple[Tensor], out: Tensor) -> None:
        calls.append((module, given[0], out, min([SIDE, *out.shape[2:]])))

    kinds = (nn.Conv2d, nn.BatchNorm2d, *RECTIFIERS)
    hooks = [module.register_forward_hook(note) for module in net.modules() if isinstance(module, kinds)]  # pyright: ignore[reportArgumentType]
    try:
        with frozen(net):
            net(x)
    finally:
        for hook in hooks:
            hook.remove()
    convolutions = [i for i, (module, *_) in enumerate(calls) if isinstance(module, nn.Conv2d)]
    if not convolutions:
        raise ValueError("Grad-CAM needs a network with a convolution, this one has none")
    at = max(convolutions, key=lambda i: (calls[i][3], i))
    called = [module for module, *_ in calls]
    while at + 1 < len(calls) and calls[at + 1][1] is calls[at][2]:  # the next layer reads what this one gave out
        if isinstance(called[at + 1], nn.Conv2d) or called.count(called[at + 1]) > 1:  # captum would take the last call
            break
        at += 1
    return called[at]
