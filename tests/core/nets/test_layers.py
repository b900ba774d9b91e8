"""The layers of a network against Table 1 of the GAT paper, with weights counted by hand."""

import pytest
import torch
from built_nets import make, meta_net, parameter_count
from torch import nn

from core import nets
from core.nets.layers import Layer, layers_of
from core.perturbations.gat import build_generator

torch.set_num_threads(1)


def conv(into: int, out: int, kernel: int = 3) -> int:
    """Number of weights of a convolution with biases."""
    return kernel**2 * into * out + out


@pytest.mark.parametrize("classes, weights", [(10, 240_058), (100, 248_788)])
def test_the_classifier_has_the_layers_of_table_1(classes, weights):
    layers = layers_of(meta_net("allconv", classes=classes), (3, 32, 32))
    assert layers == [
        Layer("3x3 conv 48, ReLU", (48, 32, 32), conv(3, 48)),
        Layer("3x3 conv 48, stride 2, ReLU", (48, 16, 16), conv(48, 48)),
        Layer("3x3 conv 96, ReLU", (96, 16, 16), conv(48, 96)),
        Layer("3x3 conv 96, stride 2, ReLU", (96, 8, 8), conv(96, 96)),
        Layer("3x3 conv 96, ReLU", (96, 8, 8), conv(96, 96)),
        Layer("1x1 conv 96, ReLU", (96, 8, 8), conv(96, 96, 1)),
        Layer("global average", (96, 1, 1), 0),
        Layer(f"linear {classes}", (classes,), conv(96, classes, 1)),
    ]
    assert sum(layer.weights for layer in layers) == weights


def test_the_generator_has_the_layers_of_table_1():
    layers = layers_of(build_generator(3), (3, 32, 32))
    assert [layer.name for layer in layers] == [*["3x3 conv 48, ReLU"] * 6, "1x1 conv 48, ReLU", "1x1 conv 3, tanh"]
    assert [layer.weights for layer in layers] == [conv(3, 48), *[conv(48, 48)] * 5, conv(48, 48, 1), conv(48, 3, 1)]
    assert {layer.output for layer in layers[:-1]} == {(48, 32, 32)} and layers[-1].output == (3, 32, 32)
    assert sum(layer.weights for layer in layers) == 107_763


@pytest.mark.parametrize("name", ["resnet10", "convnet", "densenet"])
def test_every_weight_of_a_network_is_counted(name):
    net = make(name)
    before = [module.training for module in net.train().modules()]
    assert sum(layer.weights for layer in layers_of(net, (3, 32, 32))) == parameter_count(net)
    assert [module.training for module in net.modules()] == before
    assert not any(module._forward_hooks for module in net.modules())


def test_a_layer_that_is_called_twice_has_its_weights_once_and_dropout_is_left_out():
    shared = nn.Conv2d(2, 2, 3, padding=1)
    layers = layers_of(nn.Sequential(shared, nn.Dropout(0.5), nn.ReLU(), shared, nn.Flatten()), (2, 5, 5))
    assert layers == [Layer("3x3 conv 2, ReLU", (2, 5, 5), 38), Layer("3x3 conv 2", (2, 5, 5), 0)]


def test_dropout_does_not_change_the_layers():
    plain, dropped = (nets.build(nets.NETS["allconv"](dropout=rate), (3, 32, 32), 10) for rate in (0.0, 0.5))
    assert layers_of(plain, (3, 32, 32)) == layers_of(dropped, (3, 32, 32))
