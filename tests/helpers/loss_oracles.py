"""Random batches for tests of losses, and losses computed from their definitions."""

import math

import torch

from core import nets
from core.slots import Context

torch.set_num_threads(1)
B, C, D = 6, 4, 5
"""Batch size, number of classes, length of the feature vector."""
BELOW, ABOVE = 0.3, 3.0
"""Factors on a mean loss that put the target below or above it."""


def context(classes: int = C, features: int = D, epochs: int = 2) -> Context:
    """The context of a small network."""
    net = nets.build(nets.NETS["convnet"](hidden=features), (1, 8, 8), classes)
    return Context(classes, features, (1, 8, 8), epochs, net)


def batch(seed: int = 0, classes: int = C, scale: float = 2.0):
    """Logits, features (both leaves) and labels, float64; some predictions are correct, some are not."""
    stream = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(B, classes, generator=stream, dtype=torch.float64)
    features = torch.randn(B, D, generator=stream, dtype=torch.float64)
    labels = torch.randint(classes, (B,), generator=stream)
    labels[0], labels[1] = logits[0].argmax(), logits[1].argmin()
    return logits.requires_grad_(), features.requires_grad_(), labels


def batch_without_class_3(seed: int = 0, scale: float = 2.0):
    """Logits, features (both leaves) and labels, float64; the labels are 0, 1 and 2, of 4 classes."""
    stream = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(B, C, generator=stream, dtype=torch.float64)
    features = torch.randn(B, D, generator=stream, dtype=torch.float64)
    return logits.requires_grad_(), features.requires_grad_(), torch.tensor([0, 0, 2, 1, 2, 2])


def gradient(value, leaf):
    """The gradient of a scalar by a leaf; zero if it does not depend on the leaf."""
    (grad,) = torch.autograd.grad(value, leaf, retain_graph=True, allow_unused=True)
    return torch.zeros_like(leaf) if grad is None else grad


def probabilities(row) -> list[float]:
    """The softmax of one row of logits, without torch."""
    total = sum(math.exp(z) for z in row.tolist())
    return [math.exp(z) / total for z in row.tolist()]


def cross_entropies(logits, labels):
    """-log(exp(z_y) / sum exp(z)), one number per image."""
    return torch.log(torch.exp(logits).sum(1)) - logits[torch.arange(len(labels)), labels]


def soft_label_cross_entropies(logits, labels, upper=1.0, detach=False, scored=None):
    """-sum_i t_i log p_i in a loop over images and classes, one number per image."""
    rows = []
    for row, z in enumerate(logits):
        p = torch.exp(z) / torch.exp(z).sum()
        p_y = torch.clamp(p[labels[row]], max=upper)
        if detach:
            p_y = p_y.detach()
        s = z if scored is None else scored[row]
        log_q = s - torch.log(torch.exp(s).sum())
        terms = [(p_y if i == labels[row] else (1 - p_y) / (len(z) - 1)) * log_q[i] for i in range(len(z))]
        rows.append(-sum(terms))
    return torch.stack(rows)


def assert_equal_with_gradients(value, expected, *leaves) -> None:
    """Check that two scalars are equal, and that their gradients by every leaf are."""
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    for leaf in leaves:
        torch.testing.assert_close(gradient(value, leaf), gradient(expected, leaf), rtol=1e-10, atol=1e-12)
