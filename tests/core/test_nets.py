"""Networks: sizes, the split into features and head, and what the papers' layer tables say."""

import collections
import copy
import functools
import itertools
import math
import types

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from core import nets
from core.data import Images
from core.errors import InputError
from core.nets import NETS

torch.set_num_threads(1)


LIGHT = {"wrn": {"depth": 10, "widen": 1}, "densenet": {"depth": 16}}
"""Knobs that make the slow networks small where their numbers are computed; they are counted as they are."""
SHAPE = collections.defaultdict(lambda: (3, 32, 32), mlenet=(1, 28, 28), net_a=(1, 28, 28))
"""The images that a network was made for."""
TRIED = SHAPE | dict.fromkeys(("resnet18", "resnet50", "googlenet", "mobilenet"), (3, 16, 16))
"""The images on which its numbers are computed; without weights it is followed at the size that it was made for."""
SMALLEST = {
    "resnet18": 16, "resnet50": 16, "vgg11_bn": 32, "vgg16": 32, "mobilenet": 16, "densenet": 8, "googlenet": 8, "wrn": 8,
    "mlenet": 4, "net_a": 9,
}  # fmt: skip
SQUARE_ONLY = ("mlenet", "net_a")


def make(name: str, shape=(3, 32, 32), classes=10, seed=0, **stats):
    torch.manual_seed(seed)
    return nets.build(NETS[name](**LIGHT.get(name, {})), shape, classes, **stats).eval()


@functools.cache
def ready(name: str) -> nets.Net:
    """A network with weights that no test changes."""
    return make(name, TRIED[name])


@functools.cache
def answers(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Features and logits of that network."""
    with torch.no_grad():
        return ready(name).features(image(TRIED[name])), ready(name)(image(TRIED[name]))


@functools.cache
def outline(name: str, shape=(3, 32, 32), classes=10, **knobs) -> nets.Net:
    """The network without memory for its weights, one for all tests: to count, and to follow shapes."""
    with torch.device("meta"):
        return nets.build(NETS[name](**knobs), shape, classes).eval()


def kinds(net: nn.Module, kind) -> list:
    return [m for m in net.modules() if isinstance(m, kind)]


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def image(shape=(3, 32, 32), batch=2, seed=0):
    return torch.rand(batch, *shape, generator=torch.Generator().manual_seed(seed))


# -- what the layer tables say ----------------------------------------------------------------------------------------


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
    assert parameters(outline(name, classes=classes, **knobs)) == count


def test_mlenet_has_the_published_count_for_grey_28x28():
    assert parameters(outline("mlenet", (1, 28, 28))) == 1_791_466


def conv(into, out, kernel=3, groups=1, bias=True, bn=False):
    return kernel**2 * into * out // groups + bias * out + 2 * bn * out


def linear(into, out):
    return into * out + out


VGG = {
    "vgg11_bn": [3, 64, 128, 256, 256, 512, 512, 512, 512],
    "vgg16": [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512],
}


@pytest.mark.parametrize("name, bn, knobs", [("vgg11_bn", True, {}), ("vgg16", True, {}), ("vgg16", False, {"batch_norm": False})])
def test_vgg_has_the_weights_of_its_layer_table(name, bn, knobs):
    convolutions = sum(conv(a, b, bn=bn) for a, b in itertools.pairwise(VGG[name]))
    assert parameters(outline(name, **knobs)) == convolutions + 2 * linear(512, 512) + linear(512, 10)


def test_vgg16_pools_after_its_2_2_3_3_3_convolutions():
    layers = [m for m in outline("vgg16").body if isinstance(m, nn.Conv2d | nn.MaxPool2d)]
    runs = [len(list(run)) for is_conv, run in itertools.groupby(layers, lambda m: isinstance(m, nn.Conv2d)) if is_conv]
    assert runs == [2, 2, 3, 3, 3] and isinstance(layers[-1], nn.MaxPool2d)


@pytest.mark.parametrize("alpha", [1, 0.5, 0.25])
def test_mobilenet_has_the_weights_of_its_layer_table(alpha):
    widths = [int(alpha * w) for w in (32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024)]
    pairs = itertools.pairwise(widths)
    separable = sum(conv(a, a, groups=a, bias=False, bn=True) + conv(a, b, 1, bias=False, bn=True) for a, b in pairs)
    net = outline("mobilenet", width=float(alpha))
    assert parameters(net) == conv(3, widths[0], bias=False, bn=True) + separable + linear(widths[-1], 10)
    assert net.dim == widths[-1]
    depthwise = [m for m in kinds(net, nn.Conv2d) if m.groups > 1]
    assert [m.stride[0] for m in depthwise] == [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]


def densenet_parameters(n: int, k: int, classes: int) -> int:
    """By sums over arithmetic series: layer i of a block that w channels enter reads w + i k."""
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
    assert parameters(outline("densenet", depth=depth, growth=growth)) == densenet_parameters(n, growth, 10)


def test_densenet_121_has_the_405_features_of_the_crl_paper_and_is_the_net_of_depth_118():
    net = outline("densenet")
    assert net.dim == 405
    assert {k: v.shape for k, v in net.state_dict().items()} == {
        k: v.shape for k, v in outline("densenet", depth=118).state_dict().items()
    }


INCEPTION = """a3 192 64 96 128 16 32 32; b3 256 128 128 192 32 96 64; a4 480 192 96 208 16 48 64; b4 512 160 112 224 24 64 64;
    c4 512 128 128 256 24 64 64; d4 512 112 144 288 32 64 64; e4 528 256 160 320 32 128 128; a5 832 256 160 320 32 128 128;
    b5 832 384 192 384 48 128 128"""


def test_googlenet_has_the_weights_of_its_layer_table():
    plan = [(3, 64, 3), (64, 64, 3), (64, 192, 3)]
    for row in INCEPTION.split(";"):
        x, one, r3, three, r5, five, pool = map(int, row.split()[1:])
        plan += [(x, one, 1), (x, r3, 1), (r3, three, 3), (x, r5, 1), (r5, five, 3), (five, five, 3), (x, pool, 1)]
    count = parameters(outline("googlenet"))
    assert count == sum(conv(*row, bias=False, bn=True) for row in plan) + linear(1024, 10)
    one_layer = conv(3, 192, 3, bias=False, bn=True) - sum(conv(*row, bias=False, bn=True) for row in plan[:3])
    biases = sum(out for _, out, _ in plan[3:]) + 192
    assert count + one_layer + biases == 6_166_250  # kuangliu/pytorch-cifar: a stem of one layer, convolutions with biases


def test_net_a_and_convnet_have_the_weights_of_their_layer_tables():
    assert parameters(outline("net_a", (1, 28, 28))) == conv(1, 64, 5) + conv(64, 64, 5) + linear(400 * 64, 128) + linear(128, 10)
    convolutions = conv(3, 16) + conv(16, 32) + conv(32, 32)
    assert parameters(outline("convnet")) == convolutions + linear(16 * 32, 64) + linear(64, 10)


def test_weighted_layers_are_as_many_as_the_names_say():
    """Shortcuts not counted. DenseNet "121" has 118, and WRN-28 says 28 for 25 + 3 shortcuts, without the linear layer."""
    found = {}
    for name in NETS:
        layers = [n for n, m in outline(name, SHAPE[name]).named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        found[name] = len([n for n in layers if "downsample" not in n and "shortcut" not in n])
    assert found == {
        "convnet": 5, "allconv": 7, "resnet18": 18, "resnet50": 50, "vgg11_bn": 11, "vgg16": 16, "mobilenet": 28,
        "densenet": 118, "googlenet": 3 + 9 * 7 + 1, "wrn": 26, "mlenet": 6, "net_a": 4,
    }  # fmt: skip


@pytest.mark.parametrize("depth", [10, 16, 28, 34])
def test_wrn_depth_counts_the_convolutions_with_those_of_the_shortcuts(depth):
    assert len(kinds(outline("wrn", depth=depth, widen=2), nn.Conv2d)) == depth


@pytest.mark.parametrize(
    "name, depth, near",
    [
        ("densenet", 120, "118, 121"),
        ("densenet", 122, "121, 124"),
        ("wrn", 27, "22, 28"),
        ("wrn", 32, "28, 34"),
        ("wrn", 121, "118, 124"),
    ],
)
def test_illegal_depths_are_refused_with_the_nearest_legal_ones(name, depth, near):
    with pytest.raises(InputError, match=f"depth={depth} .*: {near}$"):
        NETS[name](depth=depth)
    for legal in near.split(", "):
        NETS[name](depth=int(legal))


def test_depths_too_small_for_one_layer_a_block_are_refused():
    for name in ("densenet", "wrn"):
        with pytest.raises(InputError, match=r"depth=4 is outside \[10, inf\)"):
            NETS[name](depth=4)


# -- what they compute ------------------------------------------------------------------------------------------------


def shuffled_batch_norms(net: nn.Module) -> nn.Module:
    """Batch norms that are not the identity, so that their place matters."""
    for layer in kinds(net, nn.BatchNorm2d):
        for values in (layer.weight.data, layer.bias.data, layer.running_mean, layer.running_var):
            values.uniform_(0.2, 1.0)
    return net


def by_hand(net: nn.Module):
    """The batch norms and convolutions of a network, one after the other as functions."""
    bns, convs = iter(kinds(net.body, nn.BatchNorm2d)), iter(kinds(net.body, nn.Conv2d))

    def bn(x):
        m = next(bns)
        scale, shift, mean, var = (v[:, None, None] for v in (m.weight, m.bias, m.running_mean, m.running_var))
        return (x - mean) / (var + m.eps).sqrt() * scale + shift

    def convolve(x, stride=1):
        w = next(convs).weight
        return F.conv2d(x, w, stride=stride, padding=w.shape[-1] // 2)

    return bn, convolve


@pytest.mark.parametrize("slope", [0.0, 0.1])
def test_wrn_activates_before_it_convolves_and_before_its_shortcuts(slope):
    torch.manual_seed(0)
    settings = NETS["wrn"](depth=16, widen=2, slope=slope)
    net, x = shuffled_batch_norms(nets.build(settings, (3, 16, 16), 10)).eval(), image((3, 16, 16))
    bn, convolve = by_hand(net)
    with torch.no_grad():
        h = convolve(x)
        for stage, block in itertools.product((1, 2, 3), (1, 2)):
            stride = 2 if stage > 1 and block == 1 else 1
            active = F.leaky_relu(bn(h), slope)
            residual = convolve(F.leaky_relu(bn(convolve(active, stride)), slope))
            h = residual + (convolve(active, stride) if block == 1 else h)
        torch.testing.assert_close(net.features(x), F.leaky_relu(bn(h), slope).mean((2, 3)), rtol=1e-4, atol=1e-4)
    assert len(kinds(net, nn.LeakyReLU)) == (13 if slope else 0)
    assert len(kinds(net, nn.ReLU)) == (0 if slope else 13)


def test_densenet_hands_every_layer_all_that_came_before_it_in_the_block():
    torch.manual_seed(0)
    net, x = shuffled_batch_norms(nets.build(NETS["densenet"](depth=16, growth=4), (3, 16, 16), 10)).eval(), image((3, 16, 16))
    bn, convolve = by_hand(net)
    with torch.no_grad():
        h = convolve(x)
        for block in (1, 2, 3):
            if block > 1:
                h = F.avg_pool2d(convolve(F.relu(bn(h))), 2)
            for _ in range(2):
                h = torch.cat([h, convolve(F.relu(bn(convolve(F.relu(bn(h))))))], 1)
        torch.testing.assert_close(net.features(x), F.relu(bn(h)).mean((2, 3)), rtol=1e-4, atol=1e-4)


def test_googlenet_puts_its_four_branches_side_by_side_at_16_8_and_4_pixels():
    net, sizes = copy.deepcopy(outline("googlenet")), []
    blocks = [layer for layer in net.body if hasattr(layer, "branches")]
    for layer in blocks:
        layer.register_forward_hook(lambda m, args, out: sizes.append(tuple(out.shape[1:])))
    net(torch.zeros(2, 3, 32, 32, device="meta"))
    channels = [*[int(row.split()[1]) for row in INCEPTION.split(";")[1:]], 1024]
    assert sizes == [(c, s, s) for c, s in zip(channels, [16] * 2 + [8] * 5 + [4] * 2, strict=True)]
    block = kinds(ready("googlenet"), type(blocks[0]))[0]
    with torch.no_grad():
        x = torch.rand(1, 192, 8, 8)
        one, three, five, pool = block.branches
        for branch, part in zip((one, three, five, pool), block(x).split([64, 128, 32, 32], 1), strict=True):
            assert torch.equal(branch(x), part)
        assert torch.equal(pool[1:](F.max_pool2d(x, 3, 1, 1)), pool(x))


def test_googlenet_and_net_a_drop_out_between_features_and_logits():
    for name, p in (("googlenet", 0.4), ("net_a", 0.5)):
        drop, last = outline(name, SHAPE[name]).head
        assert isinstance(drop, nn.Dropout) and drop.p == p and isinstance(last, nn.Linear)
    assert outline("googlenet", dropout=0.1).head[0].p == 0.1
    assert [m.p for m in kinds(outline("net_a").body, nn.Dropout)] == [0.25]


@pytest.mark.parametrize("name", ["vgg11_bn", "vgg16"])
def test_vgg_drops_out_before_both_hidden_layers(name):
    layers = list(outline(name, dropout=0.3).body)[-5:]
    assert [type(m) for m in layers] == [nn.Dropout, nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    assert layers[0].p == layers[3].p == 0.3


def test_allconv_dropout_comes_after_the_stride_2_convolutions_and_changes_no_initial_weight():
    plain = make("allconv")
    torch.manual_seed(0)
    dropping = nets.build(NETS["allconv"](dropout=0.3), (3, 32, 32), 10)
    for a, b in zip(plain.parameters(), dropping.parameters(), strict=True):
        assert torch.equal(a, b)
    layers = list(dropping.body)
    where = [i for i, m in enumerate(layers) if isinstance(m, nn.Dropout)]
    assert [layers[i - 2].stride for i in where] == [(2, 2), (2, 2)] and all(isinstance(layers[i - 1], nn.ReLU) for i in where)
    assert not kinds(plain, nn.Dropout)
    x = image()
    with torch.no_grad():
        assert torch.equal(dropping.eval()(x), plain(x))
        assert not torch.equal(dropping.train()(x), plain(x))


def test_wrn_dropout_is_between_the_convolutions_of_each_block():
    assert not kinds(outline("wrn", depth=16, widen=1), nn.Dropout)
    net = outline("wrn", depth=16, widen=1, dropout=0.3)
    for block in (m for m in net.modules() if hasattr(m, "residual")):
        assert [type(m) for m in block.residual] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Dropout, nn.Conv2d]
    assert [m.p for m in kinds(net, nn.Dropout)] == [0.3] * 6


@pytest.mark.parametrize("name", ["vgg16", "mobilenet", "densenet", "googlenet", "wrn"])
def test_convolutions_start_as_kaiming_says_by_their_outgoing_connections(name):
    large = [m for m in kinds(ready(name), nn.Conv2d) if m.weight.numel() > 1000]
    assert len(large) > 5
    for m in large:
        outgoing = m.kernel_size[0] ** 2 * m.out_channels / m.groups
        assert m.weight.std().item() == pytest.approx(math.sqrt(2 / outgoing), rel=0.1)
        assert m.bias is None or (m.bias == 0).all()


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


# -- the contract of every network ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETS)
def test_head_of_features_is_the_network(name):
    net, (features, logits) = ready(name), answers(name)
    assert features.shape == (2, net.dim)
    assert logits.shape == (2, 10)
    with torch.no_grad():
        assert torch.equal(net.head(features), logits)


@pytest.mark.parametrize("name", SQUARE_ONLY)
@pytest.mark.parametrize("shape", [(3, 33, 33), (3, 64, 64), (1, 10, 10)])
def test_networks_that_flatten_take_every_square_size(name, shape):
    net, x = outline(name, shape, 7), torch.zeros(2, *shape, device="meta")
    assert net.features(x).shape == (2, net.dim)
    assert net(x).shape == (2, 7)


@pytest.mark.parametrize("name", SQUARE_ONLY)
def test_networks_that_need_square_images_say_so_before_they_are_trained(name):
    with pytest.raises(InputError, match=f"^net={name} needs square images, these are 35x40; use net=convnet or net=allconv$"):
        outline(name, (1, 35, 40))


def test_feature_lengths_are_those_of_the_papers():
    found = {}
    for name in NETS:
        net = outline(name, SHAPE[name])
        assert net.features(torch.zeros(2, *SHAPE[name], device="meta")).shape == (2, net.dim)
        found[name] = net.dim
    assert found == {
        "convnet": 64, "allconv": 96, "resnet18": 512, "resnet50": 2048, "vgg11_bn": 512, "vgg16": 512, "mobilenet": 1024,
        "densenet": 405, "googlenet": 1024, "wrn": 640, "mlenet": 512, "net_a": 128,
    }  # fmt: skip


@functools.cache
def slopes(name: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Gradients of the second image's loss with respect to both images, and to every parameter."""
    net, x = ready(name), image(TRIED[name]).requires_grad_()
    found = torch.autograd.grad(F.cross_entropy(net(x)[1:], torch.tensor([3])), [x, *net.parameters()])
    return found[0], dict(zip(dict(net.named_parameters()), found[1:], strict=True))


@pytest.mark.parametrize("name", NETS)
def test_images_of_a_batch_do_not_see_each_other_in_eval_mode(name):
    net, x = ready(name), image(TRIED[name])
    with torch.no_grad():
        torch.testing.assert_close(answers(name)[1][1:], net(x[1:]), rtol=1e-4, atol=1e-5)
    other, itself = slopes(name)[0]
    assert not other.any() and itself.any()


@pytest.mark.parametrize("name", NETS)
def test_gradients_reach_every_parameter(name):
    assert [path for path, slope in slopes(name)[1].items() if not slope.any()] == []
    assert all(torch.isfinite(slope).all() for slope in slopes(name)[1].values())


class Activations(TorchDispatchMode):
    """Counts what makes a network non-linear, however it is called."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += any(word in func.__name__ for word in ("relu", "elu", "sigmoid", "tanh", "softplus", "silu", "hardswish"))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", NETS)
def test_every_activation_is_a_module_that_a_hook_sees(name):
    net, seen = copy.deepcopy(outline(name, SHAPE[name], **LIGHT.get(name, {}))), collections.Counter()
    for path, layer in net.named_modules():
        if not list(layer.children()):
            layer.register_forward_hook(lambda m, args, out, path=path: seen.update([path]))
    with torch.no_grad(), Activations() as activations:
        net(torch.zeros(2, *SHAPE[name], device="meta"))
    hooked = sum(seen[path] for path, m in net.named_modules() if isinstance(m, nn.ReLU | nn.LeakyReLU))
    assert hooked == activations.count > 2
    if not name.startswith("resnet"):  # torchvision's blocks use one ReLU several times
        assert max(seen.values()) == 1


@pytest.mark.parametrize("name", NETS)
def test_normalisation_is_inside_the_network(name):
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.1])
    shape = (3, *TRIED[name][1:])
    plain, x = ready(name) if shape == TRIED[name] else make(name, shape), image(shape)
    same = types.SimpleNamespace(build=lambda *args: (plain.body, plain.head, plain.dim))
    with torch.no_grad():
        inside = nets.build(same, tuple(x.shape[1:]), 10, mean, std).eval()(x)
        outside = plain((x - mean[:, None, None]) / std[:, None, None])
        torch.testing.assert_close(inside, outside)
        assert not torch.allclose(inside, answers(name)[1] if shape == TRIED[name] else plain(x))


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


@pytest.mark.parametrize("name", ["vgg11_bn", "vgg16"])
def test_vgg_features_are_the_second_hidden_layer_before_its_relu(name):
    net, x = ready(name), image()
    assert net.dim == 512
    first, last = net.head
    assert isinstance(first, nn.ReLU) and isinstance(last, nn.Linear)
    with torch.no_grad():
        assert (net.features(x) < 0).any()


@pytest.mark.parametrize("name, dim", [("resnet18", 512), ("resnet50", 2048)])
def test_resnet_features_are_pooled_at_4x4(name, dim):
    net, shapes = copy.deepcopy(outline(name)), []
    net.body.layer4.register_forward_hook(lambda *args: shapes.append(args[2].shape))
    net(torch.zeros(2, 3, 32, 32, device="meta"))
    assert shapes == [(2, dim, 4, 4)]


@pytest.mark.parametrize("name", [name for name in NETS if "vgg" not in name])
def test_features_come_after_a_relu(name):
    features, _ = answers(name)
    assert (features >= 0).all() and features.any()


def test_every_network_is_in_one_of_the_size_tables():
    assert {*SMALLEST, "convnet", "allconv"} == set(NETS)


@pytest.mark.parametrize("name, size", SMALLEST.items())
def test_the_smallest_legal_image_trains_and_one_pixel_less_is_refused(name, size):
    shape = (1, size, size if name in SQUARE_ONLY else size + 5)
    net = copy.deepcopy(outline(name, shape, 3, **LIGHT.get(name, {}))).train()
    assert net(torch.zeros(2, *shape, device="meta")).shape == (2, 3)
    with pytest.raises(InputError, match=f"net={name} needs images of at least {size}x{size}, .*; use net=convnet or net=allconv$"):
        make(name, shape=(1, size - 1, size - 1))


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
    assert {name: nets.has_batch_norm(outline(name)) for name in NETS} == {
        "convnet": False, "allconv": False, "resnet18": True, "resnet50": True, "vgg11_bn": True, "vgg16": True,
        "mobilenet": True, "densenet": True, "googlenet": True, "wrn": True, "mlenet": False, "net_a": False,
    }  # fmt: skip
    assert not nets.has_batch_norm(outline("vgg16", batch_norm=False))
