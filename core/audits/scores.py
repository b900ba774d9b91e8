"""Membership scores of one image from its logits; larger means more likely a member. All in float64, [N, C] -> [N].

All are computed from log-odds: with a confident network p_y rounds to 1, and 1 - p_y would lose the differences between images.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def confidence(logits: Tensor, y: Tensor) -> Tensor:
    """Predicted probability of the label, p_y (Yeom 2018)."""
    return loss(logits, y).exp()


def loss(logits: Tensor, y: Tensor) -> Tensor:
    """Negative cross-entropy log p_y: it orders images like the confidence, without ties at 1."""
    return logsigmoid(log_odds(logits, y))


def log_odds(logits: Tensor, y: Tensor) -> Tensor:
    """log(p_y / (1 - p_y)): the order of the loss, on a scale on which scores are close to normal (LiRA's phi, Carlini 2022)."""
    return _log_odds(logits).gather(1, y.unsqueeze(1)).squeeze(1)


def entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Negative entropy of the prediction, sum_i p_i log p_i; independent of the label."""
    del y
    log_p = logsigmoid(_log_odds(logits))
    return torch.where(log_p.isneginf(), 0.0, log_p.exp() * log_p).sum(1)


def modified_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Negative modified entropy: -M with M = -(1 - p_y) log p_y - sum_{i != y} p_i log(1 - p_i) (Song and Mittal 2021).

    M is 0 for a certain and correct prediction, and unbounded for a certain and incorrect one.
    """
    odds = _log_odds(logits)
    log_p, log_rest = logsigmoid(odds), logsigmoid(-odds)
    is_true = torch.zeros_like(odds, dtype=torch.bool).scatter_(1, y.unsqueeze(1), True)
    return torch.where(is_true, log_rest.exp() * log_p, log_p.exp() * log_rest).sum(1)


SCORES = {"confidence": confidence, "loss": loss, "entropy": entropy, "modified_entropy": modified_entropy}


def _log_odds(logits: Tensor) -> Tensor:
    """log(p_i / (1 - p_i)) = z_i - logsumexp of the other logits, for all classes, by cumulative sums from both sides [N, C].

    log p and log(1 - p) are the logsigmoid of it and of its negative, accurate even if the network is certain.
    """
    z = logits.double()
    before = torch.logcumsumexp(z, 1)
    after = torch.logcumsumexp(z.flip(1), 1).flip(1)
    nothing = torch.full_like(z[:, :1], float("-inf"))
    others = torch.logaddexp(torch.cat([nothing, before[:, :-1]], 1), torch.cat([after[:, 1:], nothing], 1))
    return z - others
