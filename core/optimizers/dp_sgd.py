"""DP-SGD (Abadi et al., CCS 2016) through Opacus: each image's gradient is clipped, noise is added to their sum.

Batches are drawn as the accountant assumes: each member is in each batch with the same probability, independently. The
guarantee is (epsilon, delta)-differential privacy of the final weights with respect to adding or removing one member, by
Opacus' RDP accountant; `spent` says which epsilon. What it does not cover: settings chosen by looking at results, and
readers who know the seed, from which the noise is drawn so that a run can be repeated.
"""

import functools
import math
from typing import Annotated

import torch

from core.errors import InputError
from core.nets import NETS, Net, has_batch_norm
from core.optimizers.standard import Scheduled
from core.space import Bounds, LogUniform, knobs

SLOTS = ("loss", "perturbation", "regularizer", "augmentation")


@knobs
class DPSGD(Scheduled):
    """SGD on clipped and noised gradients; a network without batch norm, and slots that look at one image at a time."""

    lr: Annotated[float, Bounds(0), LogUniform(1e-2, 5.0)] = 0.5
    """Learning rate before the schedule. Clipped gradients are small: an order of magnitude above SGD's is usual."""
    momentum: Annotated[float, Bounds(0, 1)] = 0.9
    """Share of the last update that is kept."""
    noise_multiplier: Annotated[float, Bounds(0), LogUniform(0.01, 10.0)] = 1.0
    """Deviation of the noise, in units of `max_grad_norm`. Below about 0.5 the guarantee is worth little."""
    max_grad_norm: Annotated[float, Bounds(1e-6), LogUniform(0.1, 10.0)] = 1.2
    """L2 norm to which an image's gradient is clipped."""
    delta: Annotated[float, Bounds(1e-15, 0.1)] = 1e-5
    """Probability with which the guarantee may fail; must be below 1 / members."""

    poisson = True

    def fits(self, config) -> None:
        """Refuse whatever would void the guarantee.

        Raises:
            InputError: with what to change.
        """
        if config.normalize:
            raise InputError("optimizer=dp_sgd cannot hide the members' channel statistics; use normalize=false")
        if _has_batch_norm(config.net):
            able = [name for name, net in NETS.items() if not _has_batch_norm(net())]
            raise InputError(f"optimizer=dp_sgd cannot clip per image through batch norm; use net={', '.join(able)}")
        for slot in SLOTS:
            if not getattr(getattr(config, slot), "per_image", False):
                name = config.params()[slot]
                raise InputError(
                    f"optimizer=dp_sgd needs gradients of one image at a time, and {slot}={name} does not keep to that; "
                    f"use another {slot}"
                )

    def bind(self, net: Net, batch_size: float) -> torch.optim.Optimizer:
        """The private optimizer; it listens to the network's layers while `recording()`."""
        from core.optimizers.private import PrivateSGD

        return PrivateSGD(net, self, batch_size)

    def spent(self, members: int, steps_per_epoch: int, epochs: int) -> float:
        """The epsilon of a run at `delta`; infinite without noise.

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
            warnings.simplefilter("ignore")  # that the best order is at the end of its list
            return float(accountant.get_epsilon(self.delta))


@functools.cache
def _has_batch_norm(net) -> bool:
    with torch.device("meta"):
        halves = net.build(3, 32, 10)[:2]
    return any(has_batch_norm(half) for half in halves)
