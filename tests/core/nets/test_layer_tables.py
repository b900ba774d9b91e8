"""Networks against the layer tables of their papers: parameter counts, numbers of layers and legal depths."""

import itertools

import pytest
import torch
from built_nets import SHAPE, layers_of, meta_net, parameter_count
from torch import nn

from core.errors import InputError
from core.nets import NETS
from core.nets.activations import activations

torch.set_num_threads(1)


@pytest.mark.parametrize(
    "name, classes, knobs, count",
    [
        ("allconv", 10, {}, 240_058),
        ("allconv", 100, {}, 248_788),
        ("resnet18", 10, {}, 11_173_962),
        ("resnet18", 100, {}, 11_220_132),
        ("resnet50", 10, {}, 23_520_842),
        ("mobilenet", 10, {}, 3_217_226),
        ("wrn", 10, {"depth": 28, "widen": 10}, 36_479_194),
        ("wrn", 10, {"depth": 16, "widen": 4}, 2_748_890),
        ("densenet", 10, {"depth": 100}, 769_162),
    ],
)
def test_parameter_counts_are_the_published_ones(name, classes, knobs, count):
    assert parameter_count(meta_net(name, classes=classes, **knobs)) == count


def test_mlenet_has_the_published_count_for_grey_28x28():
    assert parameter_count(meta_net("mlenet", (1, 28, 28))) == 1_791_466
    narrow = conv(1, 8, 5) + conv(8, 8, 5) + conv(8, 16, 5) + conv(16, 16, 5) + linear(16 * 49, 512) + linear(512, 10)
    assert parameter_count(meta_net("mlenet", (1, 28, 28), width=8)) == narrow


def conv(into, out, kernel=3, groups=1, bias=True, bn=False):
    """Number of weights of a convolution."""
    return kernel**2 * into * out // groups + bias * out + 2 * bn * out


def linear(into, out):
    """Number of weights of a linear layer."""
    return into * out + out


VGG = {
    "vgg11_bn": [3, 64, 128, 256, 256, 512, 512, 512, 512],
    "vgg16": [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512],
}


@pytest.mark.parametrize("width", [1, 16, 64])
def test_vgg16_has_the_weights_of_its_layer_table_at_every_width(width):
    widths = [3, *(width * channels // 64 for channels in VGG["vgg16"][1:])]
    convolutions = sum(conv(a, b, bn=True) for a, b in itertools.pairwise(widths))
    net = meta_net("vgg16", width=width)
    assert net.dim == 8 * width
    assert parameter_count(net) == convolutions + 2 * linear(8 * width, 8 * width) + linear(8 * width, 10)


@pytest.mark.parametrize("name, bn, knobs", [("vgg11_bn", True, {}), ("vgg16", True, {}), ("vgg16", False, {"batch_norm": False})])
def test_vgg_has_the_weights_of_its_layer_table(name, bn, knobs):
    convolutions = sum(conv(a, b, bn=bn) for a, b in itertools.pairwise(VGG[name]))
    assert parameter_count(meta_net(name, **knobs)) == convolutions + 2 * linear(512, 512) + linear(512, 10)


@pytest.mark.parametrize("name, blocks", [("vgg16", [2, 2, 3, 3, 3]), ("vgg19", [2, 2, 4, 4, 4])])
def test_vgg_pools_after_each_of_five_blocks_of_convolutions(name, blocks):
    layers = [m for m in meta_net(name).body if isinstance(m, nn.Conv2d | nn.MaxPool2d)]
    runs = [len(list(run)) for is_conv, run in itertools.groupby(layers, lambda m: isinstance(m, nn.Conv2d)) if is_conv]
    assert runs == blocks and isinstance(layers[-1], nn.MaxPool2d)


@pytest.mark.parametrize("width", [64, 8, 1])
def test_vgg19_has_the_weights_of_its_layer_table_and_no_hidden_layer(width):
    widths = [3, *(width * factor for factor in (1, 1, 2, 2, *[4] * 4, *[8] * 8))]
    convolutions = sum(conv(a, b, bn=True) for a, b in itertools.pairwise(widths))
    net = meta_net("vgg19", width=width)
    assert parameter_count(net) == convolutions + linear(8 * width, 10) and net.dim == 8 * width


@pytest.mark.parametrize("alpha", [1, 0.5, 0.25])
def test_mobilenet_has_the_weights_of_its_layer_table(alpha):
    widths = [int(alpha * w) for w in (32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024)]
    pairs = itertools.pairwise(widths)
    separable = sum(conv(a, a, groups=a, bias=False, bn=True) + conv(a, b, 1, bias=False, bn=True) for a, b in pairs)
    net = meta_net("mobilenet", width=float(alpha))
    assert parameter_count(net) == conv(3, widths[0], bias=False, bn=True) + separable + linear(widths[-1], 10)
    assert net.dim == widths[-1]
    depthwise = [m for m in layers_of(net, nn.Conv2d) if m.groups > 1]
    assert [m.stride[0] for m in depthwise] == [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]


def densenet_parameters(n: int, k: int, classes: int) -> int:
    """Number of weights, from sums over arithmetic series: layer i of a block with w input channels reads w + i k."""
    layer_fixed = 2 * 4 * k + conv(4 * k, k, bias=False)  # batch norm of the bottleneck, 3x3 convolution
    total, w = conv(3, 2 * k, bias=False), 2 * k
    for block in range(3):
        total += (2 + 4 * k) * (n * w + k * n * (n - 1) // 2) + n * layer_fixed
        w += n * k
        if block < 2:
            total += 2 * w + w * (w // 2)
            w //= 2
    return total + 2 * w + linear(w, classes)


@pytest.mark.parametrize("depth, growth, n", [(121, 12, 19), (100, 12, 16), (40, 12, 6), (10, 1, 1), (22, 5, 3)])
def test_densenet_has_the_weights_of_its_layer_table(depth, growth, n):
    assert parameter_count(meta_net("densenet", depth=depth, growth=growth)) == densenet_parameters(n, growth, 10)


def test_densenet_121_has_the_405_features_of_the_crl_paper_and_is_the_net_of_depth_118():
    net = meta_net("densenet")
    assert net.dim == 405
    assert {k: v.shape for k, v in net.state_dict().items()} == {
        k: v.shape for k, v in meta_net("densenet", depth=118).state_dict().items()
    }


INCEPTION = """a3 192 64 96 128 16 32 32; b3 256 128 128 192 32 96 64; a4 480 192 96 208 16 48 64; b4 512 160 112 224 24 64 64;
    c4 512 128 128 256 24 64 64; d4 512 112 144 288 32 64 64; e4 528 256 160 320 32 128 128; a5 832 256 160 320 32 128 128;
    b5 832 384 192 384 48 128 128"""


def test_googlenet_has_the_weights_of_its_layer_table():
    plan = [(3, 64, 3), (64, 64, 3), (64, 192, 3)]
    for row in INCEPTION.split(";"):
        x, one, r3, three, r5, five, pool = map(int, row.split()[1:])
        plan += [(x, one, 1), (x, r3, 1), (r3, three, 3), (x, r5, 1), (r5, five, 3), (five, five, 3), (x, pool, 1)]
    count = parameter_count(meta_net("googlenet"))
    assert count == sum(conv(*row, bias=False, bn=True) for row in plan) + linear(1024, 10)
    stem_difference = conv(3, 192, 3, bias=False, bn=True) - sum(conv(*row, bias=False, bn=True) for row in plan[:3])
    biases = sum(out for _, out, _ in plan[3:]) + 192
    assert count + stem_difference + biases == 6_166_250  # kuangliu/pytorch-cifar, which has a stem of one layer and biases


@pytest.mark.parametrize("name, blocks", [("resnet10", 1), ("resnet18", 2)])
@pytest.mark.parametrize("width", [1, 16, 64])
def test_a_resnet_of_basic_blocks_has_the_weights_of_its_layer_table_at_every_width(name, blocks, width):
    count = conv(3, width, bias=False, bn=True)
    for into, out in ((width, width), (width, 2 * width), (2 * width, 4 * width), (4 * width, 8 * width)):
        count += conv(into, out, bias=False, bn=True) + (2 * blocks - 1) * conv(out, out, bias=False, bn=True)
        count += conv(into, out, kernel=1, bias=False, bn=True) if into != out else 0
    assert parameter_count(meta_net(name, width=width)) == count + linear(8 * width, 10)


def test_a_bottleneck_resnet_has_the_weights_of_its_layer_table_at_width_16():
    into, count = 16, conv(3, 16, bias=False, bn=True)
    for blocks, planes in zip((3, 4, 6, 3), (16, 32, 64, 128), strict=True):
        count += conv(into, 4 * planes, kernel=1, bias=False, bn=True)
        for _ in range(blocks):
            count += conv(into, planes, kernel=1, bias=False, bn=True) + conv(planes, planes, bias=False, bn=True)
            count += conv(planes, 4 * planes, kernel=1, bias=False, bn=True)
            into = 4 * planes
    assert parameter_count(meta_net("resnet50", width=16)) == count + linear(512, 10)


def test_net_a_and_convnet_have_the_weights_of_their_layer_tables():
    net_a = parameter_count(meta_net("net_a", (1, 28, 28)))
    assert net_a == conv(1, 64, 5) + conv(64, 64, 5) + linear(400 * 64, 128) + linear(128, 10)
    narrow = parameter_count(meta_net("net_a", (1, 28, 28), width=8))
    assert narrow == conv(1, 8, 5) + conv(8, 8, 5) + linear(400 * 8, 128) + linear(128, 10)
    convolutions = conv(3, 16) + conv(16, 32) + conv(32, 32)
    assert parameter_count(meta_net("convnet")) == convolutions + linear(16 * 32, 64) + linear(64, 10)


@pytest.mark.parametrize("shape, knobs", [((3, 32, 32), {}), ((1, 28, 28), {"padding": 2})])
def test_the_single_layer_network_has_the_39200_units_of_the_sparsity_paper(shape, knobs):
    net = meta_net("single_layer", shape, **knobs)
    with activations(net) as outputs:
        net(torch.zeros(2, *shape, device="meta"))
    assert [tuple(a.shape) for a in outputs] == [(2, 50, 28, 28)] and net.dim == 50 * 28 * 28 == 39_200
    assert parameter_count(net) == conv(shape[0], 50, 5) + linear(39_200, 10)


def test_the_numbers_of_weighted_layers_match_the_names():
    """Without shortcuts. DenseNet "121" has 118 layers; WRN-28 has 25 convolutions, 3 shortcuts and a linear layer."""
    counts = {}
    for name in NETS:
        layers = [n for n, m in meta_net(name, SHAPE[name]).named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        counts[name] = len([n for n in layers if "downsample" not in n and "shortcut" not in n])
    assert counts == {
        "convnet": 5, "allconv": 7, "resnet10": 10, "resnet18": 18, "resnet50": 50, "vgg11_bn": 11, "vgg16": 16,
        "vgg19": 17, "mobilenet": 28, "densenet": 118, "googlenet": 3 + 9 * 7 + 1, "wrn": 26, "mlenet": 6, "net_a": 4,
        "single_layer": 2,
    }  # fmt: skip


@pytest.mark.parametrize("depth", [10, 16, 28, 34])
def test_wrn_depth_counts_the_convolutions_including_the_shortcuts(depth):
    assert len(layers_of(meta_net("wrn", depth=depth, widen=2), nn.Conv2d)) == depth


@pytest.mark.parametrize(
    "name, depth, nearest",
    [
        ("densenet", 120, "118, 121"),
        ("densenet", 122, "121, 124"),
        ("wrn", 27, "22, 28"),
        ("wrn", 32, "28, 34"),
        ("wrn", 121, "118, 124"),
    ],
)
def test_illegal_depths_are_rejected_with_the_nearest_legal_ones(name, depth, nearest):
    with pytest.raises(InputError, match=f"depth={depth} .*: {nearest}$"):
        NETS[name](depth=depth)
    for legal in nearest.split(", "):
        NETS[name](depth=int(legal))


def test_depths_with_less_than_one_layer_per_block_are_rejected():
    for name in ("densenet", "wrn"):
        with pytest.raises(InputError, match=r"depth=4 is outside \[10, inf\)"):
            NETS[name](depth=4)
