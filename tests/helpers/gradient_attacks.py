"""Networks of three classes, images and gradients for tests of FGSM and PGD."""

import functools

import attack_contract as contract
import torch
import torch.nn.functional as F
from torch import nn


def mlp(seed=0, dtype=torch.float32):
    """A small network with random weights."""
    return contract.mlp(seed, 3, dtype=dtype)


def images(n=32, classes=3, **knobs):
    """Random images with random labels."""
    return contract.images(n, classes, **knobs)


trained = functools.partial(contract.trained, count=400)


def affine(w, dtype=torch.float64):
    """A network with logits w @ pixels + b; w: [classes, pixels]."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(w.shape[1], len(w))).to(dtype)
    with torch.no_grad():
        net[1].weight.copy_(w)
        net[1].bias.copy_(torch.linspace(-0.1, 0.1, len(w)))
    return net


def with_batch_norm():
    """A network with dropout and batch norm, in training mode except for the batch norm."""
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(16, 3))
    net.train()
    net[1].eval()
    return net


def cross_entropy_gradient(net, x, y):
    """The gradient of the cross-entropy by the images."""
    x = x.clone().requires_grad_()
    F.cross_entropy(net(x), y, reduction="sum").backward()
    return x.grad
