"""The neural attack of the CRL paper (after Shokri 2017): a network that learns from shadow models what a member looks like."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core import rng

HIDDEN = (128, 64, 64)
EPOCHS, BATCH = 100, 256
FALLS = {0: 1.0, 30: 0.1, 60: 0.01, 90: 0.001}
"""Factor of the learning rate, from that percentage of the epochs on."""


class NNAttack(nn.Module):
    """P(member) of an image from the probabilities that a network gives it, and its label."""

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
        """The log-odds of being a member, float64, [N]."""
        self.eval()
        logits = self(probabilities, y).double()
        return logits[:, 1] - logits[:, 0]


def train_attack(
    probabilities: Tensor, y: Tensor, member: Tensor, *, seed: int, epochs: int = EPOCHS, lr: float = 0.1, batch_size: int = BATCH
) -> NNAttack:
    """Train it on what shadow models said of images, all models' answers in one heap.

    SGD with momentum 0.9 and weight decay 5e-4; the learning rate falls at 30, 60 and 90 % of the epochs to a tenth of `lr` (0.1
    in the paper's code, 0.01 for ResNet-18 on CIFAR-10 and for SVHN), a hundredth and a thousandth.

    Args:
        probabilities: softmax outputs, float32, [N, C]. y: labels, [N]. member: whether that model was trained on it, [N] bool.
        seed: of weights, order and dropout.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(rng.fold(seed, "nn_attack"))  # and not a GPU's
        attack = NNAttack(probabilities.shape[1])
        optimizer = torch.optim.SGD(attack.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
        attack.train()
        for epoch in range(epochs):
            for group in optimizer.param_groups:
                group["lr"] = lr * min(factor for start, factor in FALLS.items() if 100 * epoch >= start * epochs)
            for rows in torch.randperm(len(y)).split(batch_size):
                optimizer.zero_grad()
                F.cross_entropy(attack(probabilities[rows], y[rows]), member[rows].long()).backward()
                optimizer.step()
    return attack
