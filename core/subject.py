"""What judging a trained network has to know: its members, its stored weights, the ball that it is attacked in."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from core import data
from core.config import Judge, TrialConfig
from core.data import Images, Parts
from core.train import Bound, State, bind


def member_rows(config: TrialConfig, images: Images, parts: Parts) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the pool that the network is trained on, and those of the reference set that a slot keeps apart (often none)."""
    if not config.reference:
        return parts.members, parts.members[:0]
    kept, aside = data.set_aside(images.y[parts.members], config.reference, config.seed)
    return parts.members[kept], parts.members[aside]


def stored(config: TrialConfig, modules: Mapping[str, State], images: Images, device: torch.device) -> Bound:
    """A network and its slots as they were stored: `Result.state["modules"]`."""
    members = images.at(data.split(images, config.split, config.replicate, config.shadow).members)
    bound = bind(config, members.to(device), device)
    for name, module in bound.modules.items():
        module.load_state_dict(modules[name])
    return bound


def ball(judge_: Judge) -> dict[str, Any]:
    """Radius and norm, as attacks take them."""
    return {"epsilon": judge_.epsilon, "norm": judge_.norm}
