"""Membership scores of one image from its logits; larger means more likely a member. All in float64, [N, C] -> [N].

From log-probabilities throughout: a sure network has p_y = 1 to float32, and forming log(1 - p_y) would lose everything.
"""

import torch
from torch import Tensor


def confidence(logits: Tensor, y: Tensor) -> Tensor:
    """p_y (Yeom 2018)."""
    return _log_p(logits).gather(1, y.unsqueeze(1)).squeeze(1).exp()


def loss(logits: Tensor, y: Tensor) -> Tensor:
    """log p_y, the negative cross-entropy: the confidence's order, without its ties at 1."""
    return _log_p(logits).gather(1, y.unsqueeze(1)).squeeze(1)


def entropy(logits: Tensor, y: Tensor) -> Tensor:
    """-H(p) = sum_i p_i log p_i; knows nothing of the label."""
    del y
    log_p = _log_p(logits)
    return (log_p.exp() * log_p).nan_to_num(0.0).sum(1)


def modified_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """-M with M = -(1 - p_y) log p_y - sum_{i != y} p_i log(1 - p_i) (Song and Mittal 2021).

    M is 0 for a sure and right prediction and unbounded for a sure and wrong one.
    """
    log_p = _log_p(logits)
    log_rest = _log_one_minus(log_p)
    is_true = torch.zeros_like(log_p, dtype=torch.bool).scatter_(1, y.unsqueeze(1), True)
    terms = torch.where(is_true, log_rest.exp() * log_p, log_p.exp() * log_rest)
    return terms.nan_to_num(0.0).sum(1)  # 0 * -inf is 0 here


SCORES = {"confidence": confidence, "loss": loss, "entropy": entropy, "modified_entropy": modified_entropy}


def _log_p(logits: Tensor) -> Tensor:
    return logits.double().log_softmax(1)


def _log_one_minus(log_p: Tensor) -> Tensor:
    """log(1 - p_i) as logsumexp of the other classes: prefix and suffix sums, so no class is ever subtracted."""
    before = torch.logcumsumexp(log_p, 1)
    after = torch.logcumsumexp(log_p.flip(1), 1).flip(1)
    nothing = torch.full_like(log_p[:, :1], float("-inf"))
    return torch.logaddexp(torch.cat([nothing, before[:, :-1]], 1), torch.cat([after[:, 1:], nothing], 1))
