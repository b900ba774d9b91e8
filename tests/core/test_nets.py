"""Networks: sizes, the split into features and head, and what the papers' layer tables say."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from core import nets
from core.data import Images
from core.errors import InputError
from core.nets import NETS

torch.set_num_threads(1)


def make(name: str, shape=(3, 32, 32), classes=10, seed=0, **stats):
    torch.manual_seed(seed)
    return nets.build(NETS[name](), shape, classes, **stats).eval()


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def image(shape=(3, 32, 32), batch=2, seed=0):
    return torch.rand(batch, *shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "name, classes, count",
    [
        ("allconv", 10, 240_058),
        ("allconv", 100, 248_788),
        ("resnet18", 10, 11_173_962),
        ("resnet18", 100, 11_220_132),
    ],
)
def test_parameter_counts_are_the_published_ones(name, classes, count):
    assert parameters(make(name, classes=classes)) == count


def test_vgg11_bn_has_the_weights_of_its_layer_table():
    widths = [3, 64, 128, 256, 256, 512, 512, 512, 512]
    convolutions = sum(9 * a * b + b + 2 * b for a, b in itertools.pairwise(widths))
    assert parameters(make("vgg11_bn")) == convolutions + 2 * (512 * 512 + 512) + 512 * 10 + 10


def test_allconv_averages_the_logits_of_a_one_by_one_convolution_over_8x8():
    net, x = make("allconv"), image()
    with torch.no_grad():
        maps = x
        convolutions = [m for m in net.body.modules() if isinstance(m, nn.Conv2d)]
        table = [(48, 3, 1), (48, 3, 2), (96, 3, 1), (96, 3, 2), (96, 3, 1), (96, 1, 1)]
        assert [(c.out_channels, c.kernel_size[0], c.stride[0]) for c in convolutions] == table
        for layer, (_, kernel, stride) in zip(convolutions, table, strict=True):
            maps = F.relu(F.conv2d(maps, layer.weight, layer.bias, stride, kernel // 2))
        assert maps.shape == (2, 96, 8, 8)
        logits = F.conv2d(maps, net.head.weight[:, :, None, None], net.head.bias).mean((2, 3))
        torch.testing.assert_close(net(x), logits, rtol=1e-5, atol=1e-6)


def test_allconv_starts_with_zero_biases_and_xavier_weights():
    net = make("allconv")
    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == 7
    for layer in layers:
        assert (layer.bias == 0).all()
        taps = layer.weight[0, 0].numel() if layer.weight.ndim == 4 else 1
        bound = (6 / (taps * (layer.weight.shape[0] + layer.weight.shape[1]))) ** 0.5
        assert 0.9 * bound < layer.weight.abs().max() <= bound


@pytest.mark.parametrize("name", NETS)
def test_head_of_features_is_the_network(name):
    net, x = make(name), image()
    with torch.no_grad():
        features = net.features(x)
        assert features.shape == (2, net.dim)
        assert torch.equal(net.head(features), net(x))
        assert net(x).shape == (2, 10)


@pytest.mark.parametrize("name", NETS)
def test_normalisation_is_inside_the_network(name):
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.1])
    x = image()
    with torch.no_grad():
        inside = make(name, mean=mean, std=std)(x)
        outside = make(name)((x - mean[:, None, None]) / std[:, None, None])
        torch.testing.assert_close(inside, outside)
        assert not torch.allclose(inside, make(name)(x))


def test_normalisation_statistics_are_the_members_and_can_be_left_out():
    from core.config import TrialConfig
    from core.train import bind

    x = torch.randint(0, 256, (20, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    x[:, 1] //= 4
    members = Images(x, torch.arange(20) % 2, 2)
    net = bind(TrialConfig(), members, torch.device("cpu")).net
    for channel in range(3):
        pixels = x[:, channel].double() / 255
        assert net.mean[channel].item() == pytest.approx(pixels.mean().item(), rel=1e-5)
        assert net.std[channel].item() == pytest.approx(pixels.std().item(), rel=1e-3)
    off = bind(TrialConfig(normalize=False), members, torch.device("cpu")).net
    assert (off.mean == 0).all() and (off.std == 1).all()


def test_a_constant_channel_does_not_divide_by_zero():
    from core.config import TrialConfig
    from core.train import bind

    members = Images(torch.full((10, 1, 8, 8), 7, dtype=torch.uint8), torch.arange(10) % 2, 2)
    net = bind(TrialConfig(), members, torch.device("cpu")).net
    assert torch.isfinite(net(torch.rand(2, 1, 8, 8))).all()


def test_vgg11_bn_features_are_the_second_hidden_layer_before_its_relu():
    net, x = make("vgg11_bn"), image()
    assert net.dim == 512
    first, last = net.head
    assert isinstance(first, nn.ReLU) and isinstance(last, nn.Linear)
    with torch.no_grad():
        assert (net.features(x) < 0).any()


def test_resnet18_features_are_pooled_after_a_relu_at_4x4():
    net, x = make("resnet18"), image()
    shapes = []
    net.body.layer4.register_forward_hook(lambda *args: shapes.append(args[2].shape))
    with torch.no_grad():
        assert (net.features(x) >= 0).all()
    assert shapes == [(2, 512, 4, 4)]


@pytest.mark.parametrize("name, shape", [("resnet18", (1, 8, 8)), ("resnet18", (3, 32, 15)), ("vgg11_bn", (1, 28, 28))])
def test_too_small_images_are_refused(name, shape):
    with pytest.raises(InputError, match=f"net={name} needs images of at least .* use net=") as caught:
        make(name, shape=shape)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["convnet", "allconv"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 14), (1, 4, 4)])
def test_small_networks_take_any_image_size(name, shape):
    assert make(name, shape=shape, classes=3)(image(shape)).shape == (2, 3)


def test_has_batch_norm_tells_which_networks_normalise_over_the_batch():
    assert {name: nets.has_batch_norm(make(name)) for name in NETS} == {
        "convnet": False, "allconv": False, "resnet18": True, "vgg11_bn": True,
    }  # fmt: skip
