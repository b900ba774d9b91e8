"""The contract of every network: features and head, gradients, activations, normalisation, and the sizes that it accepts."""

import collections
import copy
import functools
import types

import pytest
import torch
from built_nets import SHAPE, SMALL_KNOBS, TEST_SHAPE, make, meta_net, random_images, shared_net, shared_outputs
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from core import nets
from core.errors import InputError
from core.nets import NETS

torch.set_num_threads(1)

SMALLEST = {
    "resnet10": 16, "resnet18": 16, "resnet50": 16, "vgg11_bn": 32, "vgg16": 32, "vgg19": 32, "mobilenet": 16, "densenet": 8,
    "googlenet": 8, "wrn": 8, "mlenet": 4, "net_a": 9, "single_layer": 5,
}  # fmt: skip
SQUARE_ONLY = ("mlenet", "net_a", "single_layer")


# -- features and head ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETS)
def test_the_network_is_its_head_applied_to_its_features(name):
    net, (features, logits) = shared_net(name), shared_outputs(name)
    assert features.shape == (2, net.dim)
    assert logits.shape == (2, 10)
    with torch.no_grad():
        assert torch.equal(net.head(features), logits)


def test_feature_lengths_are_those_of_the_papers():
    lengths = {}
    for name in NETS:
        net = meta_net(name, SHAPE[name])
        assert net.features(torch.zeros(2, *SHAPE[name], device="meta")).shape == (2, net.dim)
        lengths[name] = net.dim
    assert lengths == {
        "convnet": 64, "allconv": 96, "resnet10": 512, "resnet18": 512, "resnet50": 2048, "vgg11_bn": 512, "vgg16": 512,
        "vgg19": 512, "mobilenet": 1024, "densenet": 405, "googlenet": 1024, "wrn": 640, "mlenet": 512, "net_a": 128,
        "single_layer": 39_200,
    }  # fmt: skip


@pytest.mark.parametrize("name", [name for name in NETS if name not in ("vgg11_bn", "vgg16")])
def test_features_come_after_a_relu(name):
    features, _ = shared_outputs(name)
    assert (features >= 0).all() and features.any()


# -- gradients and activations ----------------------------------------------------------------------------------------


@functools.cache
def gradients_of_second_loss(name: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Gradients of the loss of the second of two images by both images, and by every parameter."""
    net, x = shared_net(name), random_images(TEST_SHAPE[name]).requires_grad_()
    gradients = torch.autograd.grad(F.cross_entropy(net(x)[1:], torch.tensor([3])), [x, *net.parameters()])
    return gradients[0], dict(zip(dict(net.named_parameters()), gradients[1:], strict=True))


@pytest.mark.parametrize("name", NETS)
def test_images_of_a_batch_are_independent_in_evaluation_mode(name):
    net, x = shared_net(name), random_images(TEST_SHAPE[name])
    with torch.no_grad():
        torch.testing.assert_close(shared_outputs(name)[1][1:], net(x[1:]), rtol=1e-4, atol=1e-5)
    by_first, by_second = gradients_of_second_loss(name)[0]
    assert not by_first.any() and by_second.any()


@pytest.mark.parametrize("name", NETS)
def test_gradients_reach_every_parameter(name):
    gradients = gradients_of_second_loss(name)[1]
    assert [path for path, grad in gradients.items() if not grad.any()] == []
    assert all(torch.isfinite(grad).all() for grad in gradients.values())


class ActivationCounter(TorchDispatchMode):
    """Counts calls of activation functions, from modules or not."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += any(word in func.__name__ for word in ("relu", "elu", "sigmoid", "tanh", "softplus", "silu", "hardswish"))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", NETS)
def test_every_activation_is_a_module_with_hooks(name):
    net, calls = copy.deepcopy(meta_net(name, SHAPE[name], **SMALL_KNOBS.get(name, {}))), collections.Counter()
    for path, layer in net.named_modules():
        if not list(layer.children()):
            layer.register_forward_hook(lambda m, args, out, path=path: calls.update([path]))
    with torch.no_grad(), ActivationCounter() as activations:
        net(torch.zeros(2, *SHAPE[name], device="meta"))
    hooked = sum(calls[path] for path, m in net.named_modules() if isinstance(m, nn.ReLU | nn.LeakyReLU))
    assert hooked == activations.count >= (1 if name == "single_layer" else 3)
    if not name.startswith("resnet"):  # torchvision's blocks use one ReLU several times
        assert max(calls.values()) == 1


def test_has_batch_norm_is_true_for_networks_that_normalise_over_the_batch():
    assert {name: nets.has_batch_norm(meta_net(name)) for name in NETS} == {
        "convnet": False, "allconv": False, "resnet10": True, "resnet18": True, "resnet50": True, "vgg11_bn": True,
        "vgg16": True, "vgg19": True, "mobilenet": True, "densenet": True, "googlenet": True, "wrn": True, "mlenet": False,
        "net_a": False, "single_layer": False,
    }  # fmt: skip
    assert not nets.has_batch_norm(meta_net("vgg16", batch_norm=False))


# -- normalisation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETS)
def test_normalisation_is_part_of_the_network(name):
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.1])
    shape = (3, *TEST_SHAPE[name][1:])
    plain, x = shared_net(name) if shape == TEST_SHAPE[name] else make(name, shape), random_images(shape)
    settings = types.SimpleNamespace(build=lambda *args: (plain.body, plain.head, plain.dim))
    with torch.no_grad():
        inside = nets.build(settings, tuple(x.shape[1:]), 10, mean, std).eval()(x)
        outside = plain((x - mean[:, None, None]) / std[:, None, None])
        torch.testing.assert_close(inside, outside)
        assert not torch.allclose(inside, shared_outputs(name)[1] if shape == TEST_SHAPE[name] else plain(x))


# -- sizes of images --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SQUARE_ONLY)
@pytest.mark.parametrize("shape", [(3, 33, 33), (3, 64, 64), (1, 10, 10)])
def test_networks_that_flatten_accept_every_square_size(name, shape):
    net, x = meta_net(name, shape, 7), torch.zeros(2, *shape, device="meta")
    assert net.features(x).shape == (2, net.dim)
    assert net(x).shape == (2, 7)


@pytest.mark.parametrize("name", SQUARE_ONLY)
def test_networks_that_require_square_images_reject_others_when_they_are_built(name):
    with pytest.raises(InputError, match=f"^net={name} needs square images, these are 35x40; use net=convnet or net=allconv$"):
        meta_net(name, (1, 35, 40))


def test_every_network_has_a_smallest_size_or_accepts_any_size():
    assert {*SMALLEST, "convnet", "allconv"} == set(NETS)


@pytest.mark.parametrize("name, size", SMALLEST.items())
def test_the_smallest_legal_image_is_accepted_and_one_pixel_less_is_rejected(name, size):
    shape = (1, size, size if name in SQUARE_ONLY else size + 5)
    net = copy.deepcopy(meta_net(name, shape, 3, **SMALL_KNOBS.get(name, {}))).train()
    assert net(torch.zeros(2, *shape, device="meta")).shape == (2, 3)
    with pytest.raises(InputError, match=f"net={name} needs images of at least {size}x{size}, .*; use net=convnet or net=allconv$"):
        make(name, shape=(1, size - 1, size - 1))


@pytest.mark.parametrize("name, shape", [("resnet18", (1, 8, 8)), ("resnet18", (3, 32, 15)), ("vgg11_bn", (1, 28, 28))])
def test_images_that_are_too_small_are_rejected(name, shape):
    with pytest.raises(InputError, match=f"net={name} needs images of at least .* use net=") as caught:
        make(name, shape=shape)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["convnet", "allconv"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 14), (1, 4, 4)])
def test_small_networks_accept_any_image_size(name, shape):
    assert make(name, shape=shape, classes=3)(random_images(shape)).shape == (2, 3)
