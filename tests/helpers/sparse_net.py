"""A network for tests of penalties on weights."""

import torch
from torch import nn


class NetWithZeros(nn.Module):
    """A convolution, batch norm and two linear layers, one of which has no bias; some weights are exactly zero."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 4, bias=False))
        self.head = nn.Linear(4, 3)
        with torch.no_grad():
            for w in (self.body[0].weight, self.head.weight):
                w.view(-1)[::3] = 0

    def features(self, x):
        return self.body(x)
