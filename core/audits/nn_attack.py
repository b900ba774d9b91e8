"""The neural attack of the CRL paper (after Shokri 2017): a network that learns from shadow models to recognise members."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core import rng
from core.modes import with_autograd

HIDDEN = (128, 64, 64)
EPOCHS, BATCH_SIZE, LR = 100, 256, 0.1
DECAY = {0: 1.0, 30: 0.1, 60: 0.01, 90: 0.001}
"""Factors of the learning rate, by the percentage of the epochs after which they apply."""


class NNAttack(nn.Module):
    """A classifier of membership from an image's predicted probabilities and its label."""

    def __init__(self, classes: int):
        super().__init__()
        one, two, three = HIDDEN
        self.layers = nn.Sequential(
            nn.Linear(2 * classes, one), nn.ReLU(), nn.Dropout(0.2), nn.Linear(one, two), nn.ReLU(), nn.Dropout(0.2),
            nn.Linear(two, three), nn.Linear(three, 2),
        )  # fmt: skip

    def forward(self, probabilities: Tensor, y: Tensor) -> Tensor:
        """Logits of non-member and member, [N, 2], from softmax outputs [N, C] and labels [N]."""
        return self.layers(torch.cat([probabilities, F.one_hot(y, probabilities.shape[1]).to(probabilities)], 1))

    @torch.no_grad()
    def score(self, probabilities: Tensor, y: Tensor) -> Tensor:
        """Log-odds of membership, float64 [N]."""
        self.eval()
        logits = self(probabilities, y).double()
        return logits[:, 1] - logits[:, 0]


@with_autograd
def train_attack(
    probabilities: Tensor, y: Tensor, member: Tensor, *, seed: int, epochs: int = EPOCHS, lr: float = LR,
    batch_size: int = BATCH_SIZE,
) -> NNAttack:  # fmt: skip
    """Train the attack on the pooled outputs of shadow models.

    SGD with momentum 0.9 and weight decay 5e-4. At 30, 60 and 90 % of the epochs the learning rate falls to 1/10, 1/100 and 1/1000
    of `lr` (0.1 in the paper's code; 0.01 for ResNet-18 on CIFAR-10 and for SVHN).

    Args:
        probabilities: softmax outputs, float32 [N, C]; images with values that are not finite are left out.
        y: labels, [N].
        member: whether the shadow model was trained on the image, bool [N].
        seed: seed of weights, order and dropout.
        epochs: passes over the outputs.
        lr: initial learning rate.
        batch_size: outputs per step.

    Raises:
        ValueError: there are no outputs.
    """
    finite = probabilities.isfinite().all(1)
    if not finite.any():
        raise ValueError("the neural attack needs finite outputs of at least one shadow model")
    if not finite.all():
        probabilities, y, member = probabilities[finite], y[finite], member[finite]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(rng.fold(seed, "nn_attack"))  # leaves the GPU's generator unchanged
        attack = NNAttack(probabilities.shape[1])
        optimizer = torch.optim.SGD(attack.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
        attack.train()
        for epoch in range(epochs):
            for group in optimizer.param_groups:
                group["lr"] = lr * min(factor for start, factor in DECAY.items() if 100 * epoch >= start * epochs)
            for rows in torch.randperm(len(y)).split(batch_size):
                optimizer.zero_grad()
                F.cross_entropy(attack(probabilities[rows], y[rows]), member[rows].long()).backward()
                optimizer.step()
    return attack
