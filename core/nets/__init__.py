"""Networks: `NETS` maps names to settings; each network is a normalisation, a body and a head. One family per file.

Networks that a method trains for itself, such as GAT's generator, belong in the method's file.

Images are passed in [0, 1]: normalisation is part of the network, so that epsilon, clipping and all other arithmetic on images is
in pixel units. `head(features(x))` are logits, never probabilities. `pool` is the layer that reads the last feature maps, which
`last_maps_of` also finds in other networks.
"""

import torch
from torch import Tensor, nn

from core.errors import InputError
from core.nets.allconv import AllConv
from core.nets.convnet import ConvNet
from core.nets.densenet import DenseNet
from core.nets.googlenet import GoogLeNet
from core.nets.maps import last_maps_of
from core.nets.mnist import MLeNet, NetA
from core.nets.mobilenet import MobileNet
from core.nets.net import Halves, Net
from core.nets.resnet import ResNet10, ResNet18, ResNet50
from core.nets.single_layer import SingleLayer
from core.nets.vgg import VGG11BN, VGG16, VGG19
from core.nets.wide_resnet import WideResNet

__all__ = ["NETS", "Halves", "Net", "build", "has_batch_norm", "last_maps_of"]

NETS = {
    "convnet": ConvNet,
    "allconv": AllConv,
    "resnet10": ResNet10,
    "resnet18": ResNet18,
    "resnet50": ResNet50,
    "vgg11_bn": VGG11BN,
    "vgg16": VGG16,
    "vgg19": VGG19,
    "mobilenet": MobileNet,
    "densenet": DenseNet,
    "googlenet": GoogLeNet,
    "wrn": WideResNet,
    "mlenet": MLeNet,
    "net_a": NetA,
    "single_layer": SingleLayer,
}


def has_batch_norm(net: nn.Module) -> bool:
    """Whether any layer normalises over the batch."""
    return any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in net.modules())


def build(settings, shape: tuple[int, int, int], classes: int, mean: Tensor | None = None, std: Tensor | None = None) -> Net:
    """Build a network for images of `shape` (channels, height, width), with weights from the global random state.

    Raises:
        InputError: the images are too small for the network, or are not square although it requires square images.
    """
    channels, height, width = shape
    if getattr(settings, "square", False) and height != width:
        name = next(name for name, cls in NETS.items() if cls is type(settings))
        raise InputError(f"net={name} needs square images, these are {height}x{width}; use net=convnet or net=allconv")
    halves = Halves(*settings.build(channels, min(height, width), classes))
    mean = torch.zeros(channels) if mean is None else mean
    std = torch.ones(channels) if std is None else std
    return Net(halves, mean, std)
