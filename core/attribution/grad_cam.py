"""Grad-CAM (Selvaraju et al. 2017): the maps that a network pools, weighted by their effect on the class's logit."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.modes import eval_mode, with_autograd
from core.nets.maps import LastMaps, last_maps_of


@with_autograd
def grad_cam(net: nn.Module, x: Tensor, y: Tensor, *, layer: nn.Module | None = None, batch_size: int = 256) -> Tensor:
    """M = relu(sum_k a_k A_k) with a_k = mean over positions of dz_y / dA_k, upsampled bilinearly to the image's size.

    A are the maps that the network pools (see `core.nets.last_maps_of`), z the logits. If the network averages them over
    positions and ends with a linear layer, as ResNets do, M before the rectifier is CAM (Zhou et al. 2016) divided by the number of
    positions. Maps with few positions localise little: a MobileNet pools 2x2 for images of 32x32.

    Args:
        net: images -> logits; returned to its own mode.
        x: images in [0, 1], [N, c, h, w].
        y: classes to explain, [N].
        layer: the layer of `net` whose output is A, [B, k, h', w']; default the maps that the network pools.
        batch_size: images per pass.

    Returns:
        Maps [N, h, w], at least 0; all zero if no position raises the class's logit.

    Raises:
        ValueError: no `layer`, and the maps cannot be found.
    """
    from captum.attr import LayerGradCam  # seconds of import

    maps = [x.new_zeros(0, *x.shape[2:])]
    if len(x):
        where, at_input = (layer, False) if layer is not None else _last_maps(net, x)
        cam = LayerGradCam(net, where)
        with eval_mode(net, freeze_weights=True):
            for part, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
                coarse = cam.attribute(part, labels, attribute_to_layer_input=at_input, relu_attributions=True)
                assert isinstance(coarse, Tensor)
                maps.append(F.interpolate(coarse.detach(), x.shape[2:], mode="bilinear", align_corners=False)[:, 0])
    return torch.cat(maps)


def _last_maps(net: nn.Module, x: Tensor) -> LastMaps:
    try:
        return last_maps_of(net, x)
    except ValueError as error:
        raise ValueError(f"{error}; pass layer=, the layer whose output Grad-CAM explains") from None
