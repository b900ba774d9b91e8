"""The metrics of one trial."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from core.errors import TrialError

UNBOUNDED = 1e9
"""Finite value that represents infinity: epsilon of DP-SGD without noise, or the radius of a network that is never fooled."""


@dataclass(frozen=True)
class Metrics:
    """Metrics by name, as MLflow shows them. Every value is finite.

    Raises:
        TrialError: a value is NaN or infinite.
    """

    values: Mapping[str, float]

    def __post_init__(self):
        bad = sorted(name for name, value in self.values.items() if not math.isfinite(value))
        if bad:
            raise TrialError(f"not finite: {', '.join(bad)}")

    def __getitem__(self, name: str) -> float:
        return self.values[name]
