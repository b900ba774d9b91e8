"""Networks against their architectures as functions: order of layers, branches, dropout and initial weights."""

import copy
import itertools
import math

import pytest
import torch
from built_nets import SHAPE, layers_of, make, meta_net, random_images, shared_net
from torch import nn
from torch.nn import functional as F

from core import nets
from core.nets import NETS

torch.set_num_threads(1)


def with_random_batch_norms(net: nn.Module) -> nn.Module:
    """Randomise the batch norms of a network, so that the order of its layers matters."""
    for layer in layers_of(net, nn.BatchNorm2d):
        for values in (layer.weight.data, layer.bias.data, layer.running_mean, layer.running_var):
            values.uniform_(0.2, 1.0)
    return net


def layer_functions(net: nn.Module):
    """Two functions that apply the next batch norm and the next convolution of a network."""
    bns, convs = iter(layers_of(net.body, nn.BatchNorm2d)), iter(layers_of(net.body, nn.Conv2d))

    def bn(x):
        m = next(bns)
        scale, shift, mean, var = (v[:, None, None] for v in (m.weight, m.bias, m.running_mean, m.running_var))
        return (x - mean) / (var + m.eps).sqrt() * scale + shift

    def convolve(x, stride=1):
        w = next(convs).weight
        return F.conv2d(x, w, stride=stride, padding=w.shape[-1] // 2)

    return bn, convolve


@pytest.mark.parametrize("slope", [0.0, 0.1])
def test_wrn_activates_before_its_convolutions_and_shortcuts(slope):
    torch.manual_seed(0)
    settings = NETS["wrn"](depth=16, widen=2, slope=slope)
    net, x = with_random_batch_norms(nets.build(settings, (3, 16, 16), 10)).eval(), random_images((3, 16, 16))
    bn, convolve = layer_functions(net)
    with torch.no_grad():
        h = convolve(x)
        for stage, block in itertools.product((1, 2, 3), (1, 2)):
            stride = 2 if stage > 1 and block == 1 else 1
            active = F.leaky_relu(bn(h), slope)
            residual = convolve(F.leaky_relu(bn(convolve(active, stride)), slope))
            h = residual + (convolve(active, stride) if block == 1 else h)
        torch.testing.assert_close(net.features(x), F.leaky_relu(bn(h), slope).mean((2, 3)), rtol=1e-4, atol=1e-4)
    assert len(layers_of(net, nn.LeakyReLU)) == (13 if slope else 0)
    assert len(layers_of(net, nn.ReLU)) == (0 if slope else 13)


def test_densenet_layers_read_the_outputs_of_all_earlier_layers_of_the_block():
    torch.manual_seed(0)
    settings = NETS["densenet"](depth=16, growth=4)
    net, x = with_random_batch_norms(nets.build(settings, (3, 16, 16), 10)).eval(), random_images((3, 16, 16))
    bn, convolve = layer_functions(net)
    with torch.no_grad():
        h = convolve(x)
        for block in (1, 2, 3):
            if block > 1:
                h = F.avg_pool2d(convolve(F.relu(bn(h))), 2)
            for _ in range(2):
                h = torch.cat([h, convolve(F.relu(bn(convolve(F.relu(bn(h))))))], 1)
        torch.testing.assert_close(net.features(x), F.relu(bn(h)).mean((2, 3)), rtol=1e-4, atol=1e-4)


def test_googlenet_concatenates_four_branches_at_16_8_and_4_pixels():
    net, sizes = copy.deepcopy(meta_net("googlenet")), []
    blocks = [layer for layer in net.body if hasattr(layer, "branches")]
    for layer in blocks:
        layer.register_forward_hook(lambda m, args, out: sizes.append(tuple(out.shape[1:])))
    net(torch.zeros(2, 3, 32, 32, device="meta"))
    channels = [256, 480, 512, 512, 512, 528, 832, 832, 1024]
    assert sizes == [(c, s, s) for c, s in zip(channels, [16] * 2 + [8] * 5 + [4] * 2, strict=True)]
    block = layers_of(shared_net("googlenet"), type(blocks[0]))[0]
    with torch.no_grad():
        x = torch.rand(1, 192, 8, 8)
        one, three, five, pool = block.branches
        for branch, part in zip((one, three, five, pool), block(x).split([64, 128, 32, 32], 1), strict=True):
            assert torch.equal(branch(x), part)
        assert torch.equal(pool[1:](F.max_pool2d(x, 3, 1, 1)), pool(x))


def test_googlenet_and_net_a_have_dropout_between_features_and_logits():
    for name, p in (("googlenet", 0.4), ("net_a", 0.5)):
        drop, last = meta_net(name, SHAPE[name]).head
        assert isinstance(drop, nn.Dropout) and drop.p == p and isinstance(last, nn.Linear)
    assert meta_net("googlenet", dropout=0.1).head[0].p == 0.1
    assert [m.p for m in layers_of(meta_net("net_a").body, nn.Dropout)] == [0.25]


@pytest.mark.parametrize("name", ["vgg11_bn", "vgg16"])
def test_vgg_has_dropout_before_both_hidden_layers(name):
    layers = list(meta_net(name, dropout=0.3).body)[-5:]
    assert [type(m) for m in layers] == [nn.Dropout, nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    assert layers[0].p == layers[3].p == 0.3


def test_allconv_dropout_follows_the_stride_2_convolutions_and_changes_no_initial_weight():
    plain = make("allconv")
    torch.manual_seed(0)
    with_dropout = nets.build(NETS["allconv"](dropout=0.3), (3, 32, 32), 10)
    for a, b in zip(plain.parameters(), with_dropout.parameters(), strict=True):
        assert torch.equal(a, b)
    layers = list(with_dropout.body)
    where = [i for i, m in enumerate(layers) if isinstance(m, nn.Dropout)]
    assert [layers[i - 2].stride for i in where] == [(2, 2), (2, 2)] and all(isinstance(layers[i - 1], nn.ReLU) for i in where)
    assert not layers_of(plain, nn.Dropout)
    x = random_images()
    with torch.no_grad():
        assert torch.equal(with_dropout.eval()(x), plain(x))
        assert not torch.equal(with_dropout.train()(x), plain(x))


def test_wrn_dropout_is_between_the_convolutions_of_each_block():
    assert not layers_of(meta_net("wrn", depth=16, widen=1), nn.Dropout)
    net = meta_net("wrn", depth=16, widen=1, dropout=0.3)
    for block in (m for m in net.modules() if hasattr(m, "residual")):
        assert [type(m) for m in block.residual] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Dropout, nn.Conv2d]
    assert [m.p for m in layers_of(net, nn.Dropout)] == [0.3] * 6


@pytest.mark.parametrize("name", ["vgg16", "vgg19", "mobilenet", "densenet", "googlenet", "wrn"])
def test_convolutions_have_kaiming_weights_by_their_outgoing_connections(name):
    large = [m for m in layers_of(shared_net(name), nn.Conv2d) if m.weight.numel() > 1000]
    assert len(large) > 5
    for m in large:
        outgoing = m.kernel_size[0] ** 2 * m.out_channels / m.groups
        assert m.weight.std().item() == pytest.approx(math.sqrt(2 / outgoing), rel=0.1)
        assert m.bias is None or (m.bias == 0).all()


def test_allconv_equals_the_average_of_one_by_one_convolution_logits_over_8x8_positions():
    net, x = make("allconv"), random_images()
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


@pytest.mark.parametrize("name", ["vgg11_bn", "vgg16"])
def test_vgg_features_are_the_second_hidden_layer_before_its_relu(name):
    net, x = shared_net(name), random_images()
    assert net.dim == 512
    first, last = net.head
    assert isinstance(first, nn.ReLU) and isinstance(last, nn.Linear)
    with torch.no_grad():
        assert (net.features(x) < 0).any()


@pytest.mark.parametrize("name, width, dim", [("resnet10", 16, 128), ("resnet18", 64, 512), ("resnet50", 64, 2048)])
def test_resnet_features_are_pooled_at_4x4(name, width, dim):
    net, shapes = copy.deepcopy(meta_net(name, width=width)), []
    net.body.layer4.register_forward_hook(lambda *args: shapes.append(args[2].shape))
    net(torch.zeros(2, 3, 32, 32, device="meta"))
    assert shapes == [(2, dim, 4, 4)]


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_a_resnet_of_width_64_is_torchvisions_with_another_stem_bit_for_bit(name):
    """The initial weights that a seed draws, and the outputs, are those of torchvision's class with its stem replaced."""
    resnet = pytest.importorskip("torchvision.models.resnet")
    net, x = shared_net(name), random_images((3, 16, 16))
    torch.manual_seed(0)
    body = getattr(resnet, name)(num_classes=10)
    body.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(body.conv1.weight, mode="fan_out", nonlinearity="relu")
    body.maxpool, head, body.fc = nn.Identity(), body.fc, nn.Identity()
    assert torch.equal(net.head.weight, head.weight) and torch.equal(net.head.bias, head.bias)
    ours, theirs = net.body.state_dict(), body.state_dict()
    assert list(ours) == list(theirs) and all(torch.equal(ours[key], theirs[key]) for key in theirs)
    with torch.no_grad():
        assert torch.equal(net(x), head(body.eval()(x)))


def test_resnet10_is_the_network_of_four_residual_blocks():
    """Written out with functions on the same weights: a stem, four blocks of 3x3 convolutions, and 1x1 shortcuts."""
    net, x = make("resnet10", (3, 16, 16)), random_images((3, 16, 16))
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):  # new ones leave maps unchanged, which would hide a missing one
            nn.init.uniform_(layer.weight, 0.5, 2.0)
            nn.init.uniform_(layer.running_mean, -0.1, 0.1)
    weights = net.body.state_dict()

    def conv_bn(maps, conv, bn, stride=1):
        maps = F.conv2d(maps, weights[f"{conv}.weight"], stride=stride, padding=weights[f"{conv}.weight"].shape[2] // 2)
        return F.batch_norm(maps, *(weights[f"{bn}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")))

    with torch.no_grad():
        maps = conv_bn(x, "conv1", "bn1").relu()
        for stage, stride in ((1, 1), (2, 2), (3, 2), (4, 2)):
            block = f"layer{stage}.0."
            residual = conv_bn(maps, block + "conv1", block + "bn1", stride).relu()
            residual = conv_bn(residual, block + "conv2", block + "bn2")
            if stride > 1:
                maps = conv_bn(maps, block + "downsample.0", block + "downsample.1", stride)
            maps = (residual + maps).relu()
        assert maps.shape == (2, 64, 2, 2)
        torch.testing.assert_close(net(x), net.head(maps.mean((2, 3))))


def write_out(net: nn.Module, x: torch.Tensor, blocks: int, relu_before_addition: bool) -> torch.Tensor:
    """Logits of a ResNet of basic blocks, written out with functions on copies of its weights and running statistics."""
    state = {name: value.clone() for name, value in net.state_dict().items()}

    def convolve(maps, name, stride=1):
        return F.conv2d(maps, state[f"body.{name}.weight"], stride=stride, padding=state[f"body.{name}.weight"].shape[-1] // 2)

    def normalise(maps, name):
        scale, shift, mean, var = (state[f"body.{name}.{key}"] for key in ("weight", "bias", "running_mean", "running_var"))
        return (maps - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt() * scale[:, None, None] + shift[:, None, None]

    maps = normalise(convolve(x, "conv1"), "bn1").clamp(min=0)
    for stage, block in itertools.product((1, 2, 3, 4), range(blocks)):
        name, stride = f"layer{stage}.{block}", 2 if stage > 1 and not block else 1
        residual = normalise(convolve(maps, f"{name}.conv1", stride), f"{name}.bn1").clamp(min=0)
        residual = normalise(convolve(residual, f"{name}.conv2"), f"{name}.bn2")
        if relu_before_addition:
            residual = residual.clamp(min=0)
        if stride == 2:
            maps = normalise(convolve(maps, f"{name}.downsample.0", 2), f"{name}.downsample.1")
        maps = (residual + maps).clamp(min=0)
    return maps.mean((2, 3)) @ state["head.weight"].T + state["head.bias"]


@pytest.mark.parametrize("name, width, blocks", [("resnet18", 64, 2), ("resnet18", 8, 2), ("resnet10", 8, 1)])
def test_a_resnet_with_a_relu_before_each_addition_is_that_of_bpfc_written_out_with_functions(name, width, blocks):
    torch.manual_seed(0)
    settings = NETS[name](width=width, relu_before_addition=True)
    net, x = with_random_batch_norms(nets.build(settings, (3, 16, 16), 10)).eval(), random_images((3, 16, 16))
    with torch.no_grad():
        logits, expected, without = net(x), write_out(net, x, blocks, True), write_out(net, x, blocks, False)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    assert (logits - without).norm() > 0.05 * without.norm()


def test_a_relu_before_each_addition_changes_the_logits_and_no_initial_weight():
    torch.manual_seed(0)
    plain = nets.build(NETS["resnet18"](), (3, 16, 16), 10).eval()
    torch.manual_seed(0)
    net, x = nets.build(NETS["resnet18"](relu_before_addition=True), (3, 16, 16), 10).eval(), random_images((3, 16, 16))
    ours, theirs = net.state_dict(), plain.state_dict()
    assert list(ours) == list(theirs) and all(torch.equal(ours[key], theirs[key]) for key in theirs)
    with torch.no_grad():
        assert (net(x) - plain(x)).norm() > 0.3 * plain(x).norm()


def test_gradients_of_a_resnet_with_a_relu_before_each_addition_are_those_of_its_reference():
    """Layers that work in place could overwrite what the backward pass needs."""
    torch.manual_seed(0)
    settings = NETS["resnet10"](width=4, relu_before_addition=True)
    net = with_random_batch_norms(nets.build(settings, (3, 16, 16), 10)).eval()
    x = random_images((3, 16, 16)).requires_grad_()
    (ours,) = torch.autograd.grad(net(x)[:, 3].sum(), x)
    (expected,) = torch.autograd.grad(write_out(net, x, 1, True)[:, 3].sum(), x)
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())
