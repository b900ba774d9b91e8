"""DP-SGD (Abadi et al., CCS 2016) with Opacus: each image's gradient is clipped, and noise is added to their sum.

Batches are drawn as the accountant assumes: each member is in each batch independently with the same probability. The guarantee
is (epsilon, delta)-differential privacy of the final weights with respect to adding or removing one member; `DPSGD.spent`
computes epsilon with Opacus' RDP accountant. The guarantee does not cover the choice of settings by their results, nor an
adversary who knows the seed, from which the noise is drawn so that a run can be repeated.
"""

import functools
import math
from typing import Annotated

import torch

from core.errors import InputError
from core.knobs import Bounds, knobs
from core.nets import NETS, Net, has_batch_norm
from core.optimizers.standard import Scheduled
from core.space import LogUniform

PER_IMAGE_SLOTS = ("loss", "perturbation", "regularizer", "augmentation")
"""Slots whose components must treat each image separately."""


@knobs
class DPSGD(Scheduled):
    """SGD on clipped gradients with noise, for networks without batch norm and components that treat each image separately."""

    lr: Annotated[float, Bounds(0), LogUniform(1e-2, 5.0)] = 0.5
    """Learning rate before the schedule; usually ten times that of SGD, because clipped gradients are small."""
    momentum: Annotated[float, Bounds(0, 1)] = 0.9
    """Share of the previous update that is kept."""
    noise_multiplier: Annotated[float, Bounds(0), LogUniform(0.01, 10.0)] = 1.0
    """Standard deviation of the noise, in units of `max_grad_norm`. Below about 0.5 the guarantee is weak."""
    max_grad_norm: Annotated[float, Bounds(1e-6), LogUniform(0.1, 10.0)] = 1.2
    """L2 norm to which each image's gradient is clipped."""
    delta: Annotated[float, Bounds(1e-15, 0.1)] = 1e-5
    """Probability with which the guarantee may fail; must be below 1 / members."""

    poisson = True

    def check_compatible(self, config) -> None:
        """Reject settings that would void the guarantee.

        Raises:
            InputError: normalisation, batch norm, or a component that does not treat each image separately.
        """
        if config.normalize:
            raise InputError("optimizer=dp_sgd cannot hide the members' channel statistics; use normalize=false")
        if _has_batch_norm(config.net):
            compatible = [name for name, net in NETS.items() if not _has_batch_norm(net())]
            raise InputError(f"optimizer=dp_sgd cannot clip per image through batch norm; use net={', '.join(compatible)}")
        for slot in PER_IMAGE_SLOTS:
            if not getattr(getattr(config, slot), "per_image", False):
                name = config.params()[slot]
                raise InputError(
                    f"optimizer=dp_sgd needs the gradient of each image separately, which {slot}={name} does not allow; "
                    f"use another {slot}"
                )

    def bind(self, net: Net, batch_size: float) -> torch.optim.Optimizer:
        """Build the private optimizer, which records per-image gradients while `recording()`."""
        from core.optimizers.private import PrivateSGD

        return PrivateSGD(net, self, batch_size)

    def spent(self, members: int, steps_per_epoch: int, epochs: int) -> float:
        """The epsilon that a run spends at `delta`; infinite without noise.

        Raises:
            InputError: `delta` is not below 1 / members.
        """
        if self.delta * members >= 1:
            raise InputError(f"optimizer.delta={self.delta:g} must be below 1 / {members} members; lower it")
        if not self.noise_multiplier:
            return math.inf
        import warnings

        from opacus.accountants import RDPAccountant

        accountant = RDPAccountant()
        accountant.history = [(self.noise_multiplier, 1 / steps_per_epoch, steps_per_epoch * epochs)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Opacus warns if the best order is the last one of its list
            return float(accountant.get_epsilon(self.delta))


@functools.cache
def _has_batch_norm(net) -> bool:
    with torch.device("meta"):
        halves = net.build(3, 32, 10)[:2]
    return any(has_batch_norm(half) for half in halves)
