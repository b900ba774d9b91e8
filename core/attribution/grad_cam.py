"""Grad-CAM (Selvaraju et al. 2017): the maps of the last convolution, weighted by their effect on the class's logit."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.modes import eval_mode, with_autograd
from core.nets.activations import RECTIFIERS

MIN_SIDE = 4
"""Minimum side of a map that still localises, in positions."""


@with_autograd
def grad_cam(net: nn.Module, x: Tensor, y: Tensor, *, batch_size: int = 256) -> Tensor:
    """M = relu(sum_k a_k A_k) with a_k = mean over positions of dz_y / dA_k, upsampled bilinearly to the image's size.

    A are the outputs of the layer that `last_convolution` finds, z the logits.

    Args:
        net: images -> logits; returned to its own mode.
        x: images in [0, 1], [N, c, h, w].
        y: classes to explain, [N].
        batch_size: images per pass.

    Returns:
        Maps [N, h, w], at least 0; all zero if no position raises the class's logit.

    Raises:
        ValueError: the network has no convolution.
    """
    from captum.attr import LayerGradCam  # seconds of import

    maps = [x.new_zeros(0, *x.shape[2:])]
    if len(x):
        cam = LayerGradCam(net, last_convolution(net, x[:1]))
        with eval_mode(net, freeze_weights=True):
            for part, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
                coarse = cam.attribute(part, labels, relu_attributions=True)
                assert isinstance(coarse, Tensor)
                maps.append(F.interpolate(coarse.detach(), x.shape[2:], mode="bilinear", align_corners=False)[:, 0])
    return torch.cat(maps)


@torch.no_grad()
def last_convolution(net: nn.Module, x: Tensor) -> nn.Module:
    """The layer whose output contains the last convolution's maps, in the order of execution.

    Convolutions whose maps have fewer than 4x4 positions for these images, like the last ones of VGG, are skipped; if all have
    fewer, it is the last one of those with the largest maps. If batch norm and a rectifier follow directly, the layer is the last
    of these: before batch norm a convolution's zero has no meaning, and only with rectified maps Grad-CAM equals CAM on a network
    that averages its maps and ends with a linear layer, as in both papers. In a network that joins branches (GoogLeNet, DenseNet)
    the maps are those of the last branch only.

    Args:
        net: images -> logits; returned to its own mode.
        x: images in [0, 1], [N, c, h, w]; one is enough.

    Raises:
        ValueError: the network has no convolution.
    """
    calls: list[tuple[nn.Module, Tensor, Tensor, int]] = []

    def record(module: nn.Module, inputs: tuple[Tensor], out: Tensor) -> None:
        calls.append((module, inputs[0], out, min([MIN_SIDE, *out.shape[2:]])))

    kinds = (nn.Conv2d, nn.BatchNorm2d, *RECTIFIERS)
    hooks = [module.register_forward_hook(record) for module in net.modules() if isinstance(module, kinds)]  # pyright: ignore[reportArgumentType]
    try:
        with eval_mode(net):
            net(x)
    finally:
        for hook in hooks:
            hook.remove()
    convolutions = [i for i, (module, *_) in enumerate(calls) if isinstance(module, nn.Conv2d)]
    if not convolutions:
        raise ValueError("Grad-CAM needs a network with a convolution, but this one has none")
    at = max(convolutions, key=lambda i: (calls[i][3], i))
    called = [module for module, *_ in calls]
    while at + 1 < len(calls) and calls[at + 1][1] is calls[at][2]:  # the next layer's input is this layer's output
        if isinstance(called[at + 1], nn.Conv2d) or called.count(called[at + 1]) > 1:  # captum would use its last call
            break
        at += 1
    return called[at]
