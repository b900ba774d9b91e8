"""The attack loss that contains the regularizer of BPFC."""

import torch
from torch import nn

from core.evaluation.adaptive_bpfc import bpfc_loss
from core.regularizers.bpfc import BPFC, quantise

torch.set_num_threads(1)


class Linear(nn.Module):
    """A network with two opposite logits, linear in the pixels."""

    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, x):
        z = x.flatten(1) @ self.w
        return torch.stack([z, -z], 1)


def test_the_adaptive_attack_ascends_the_regularizer_with_the_identity_as_the_gradient_of_the_quantiser():
    """For a linear g, d/dx |g(x) - g(q(x))|^2 would then be 0; here g is a tanh of a linear function."""
    w = torch.randn(64, generator=torch.Generator().manual_seed(0))
    net = nn.Sequential(Linear(w), nn.Tanh())
    x = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
    y = torch.zeros(5, dtype=torch.long)
    loss, plain = bpfc_loss(BPFC(k=5, noise=0.0), 3.0), bpfc_loss(BPFC(k=5, noise=0.0), 0.0)
    logits = net(x)
    (with_, without) = (torch.autograd.grad(f(net, x, logits, y).sum(), x, retain_graph=True)[0] for f in (loss, plain))
    q = quantise(x, 5, 0.0)
    a = (x.flatten(1) @ w).detach()
    b = (q.flatten(1) @ w).detach()
    # d = (tanh a - tanh b)^2 * 2 columns; its derivative by x with dq/dx = 1 is
    derivative = 4 * (a.tanh() - b.tanh()) * ((1 - a.tanh() ** 2) - (1 - b.tanh() ** 2))
    torch.testing.assert_close(with_ - without, 3 * (derivative[:, None] * w).view(5, 1, 8, 8), rtol=1e-3, atol=1e-5)
