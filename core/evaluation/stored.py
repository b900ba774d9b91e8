"""Facts that every evaluation of a network needs: its members, its stored weights, its threat model and finite logits."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core import data
from core.bound import Bound, State, bind
from core.config import TrialConfig
from core.data import Images, Parts
from core.errors import TrialError
from core.judging import Judge
from core.modes import predict


def member_rows(config: TrialConfig, images: Images, parts: Parts) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the pool that the network is trained on, and rows of the reference set held out from the members (often empty)."""
    if not config.reference:
        return parts.members, parts.members[:0]
    rows = parts.members
    kept, reference = data.hold_out(images.y[rows], images.ids[rows], config.reference, config.seed)
    return rows[kept], rows[reference]


def stored_model(config: TrialConfig, modules: Mapping[str, State], images: Images, device: torch.device) -> Bound:
    """Restore a network and its bound components from `TrialResult.state["modules"]`."""
    members = images.at(config.parts(images).members)
    bound = bind(config, members.to(device), device)
    bound.load_modules(modules)
    return bound


def threat_model(judge: Judge) -> dict[str, Any]:
    """Radius and norm of the threat model, as keyword arguments of attacks."""
    return {"epsilon": judge.epsilon, "norm": judge.norm}


def finite_logits(net: nn.Module, x: Tensor) -> Tensor:
    """Logits of a trained network, [N, C]; see `core.modes.predict`.

    Raises:
        TrialError: a logit is NaN or infinite.
    """
    return checked_finite(predict(net, x))


def checked_finite(logits: Tensor) -> Tensor:
    """Return logits unchanged if all are finite.

    Raises:
        TrialError: a logit is NaN or infinite.
    """
    if not logits.isfinite().all():
        raise TrialError("the trained network's logits are not finite; lower optimizer.lr")
    return logits
