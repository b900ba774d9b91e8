"""ResNets (He et al. 2016) for 32x32 images: torchvision's, with a 3x3 stem of stride 1 and no max-pooling."""

from torch import nn

from core.knobs import knobs
from core.nets.net import Halves, check_size


@knobs
class ResNet18:
    """ResNet-18 for 32x32 images: 3x3 stem with stride 1, no max-pooling; 512 pooled features."""

    def build(self, channels: int, size: int, classes: int) -> Halves:
        """Build the body and the head; return them with the feature length."""
        check_size(16, size, "resnet18")
        return _small_stem("resnet18", channels, classes)


@knobs
class ResNet50:
    """ResNet-50 for 32x32 images: bottleneck blocks, 3x3 stem with stride 1, no max-pooling; 2048 pooled features."""

    def build(self, channels: int, size: int, classes: int) -> Halves:
        """Build the body and the head; return them with the feature length."""
        check_size(16, size, "resnet50")
        return _small_stem("resnet50", channels, classes)


def _small_stem(name: str, channels: int, classes: int) -> Halves:
    from torchvision.models import resnet  # imported here because the import takes two seconds

    net: resnet.ResNet = getattr(resnet, name)(num_classes=classes)
    net.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    net.maxpool = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    head, net.fc = net.fc, nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    return Halves(net, head, head.in_features, net.avgpool)
