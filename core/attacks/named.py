"""Attacks by name with their settings, as `judge.attacks` and the papers' tables request them.

    fgsm+ifgsm:steps=7+pgd:steps=20:step_size=2/255

Each attack runs on all images, whatever the attacks before it have fooled, so that its accuracy is that of the attack alone.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

from torch import Tensor, nn

from core.attacks.apgd import apgd, targeted_apgd
from core.attacks.ball import Norm, inside_each
from core.attacks.carlini_wagner import carlini_wagner
from core.attacks.deepfool import deepfool
from core.attacks.gradient import fgsm, ifgsm, pgd, rfgsm
from core.attacks.hop_skip_jump import hop_skip_jump
from core.attacks.noise import noise
from core.attacks.spsa import spsa
from core.attacks.square import square
from core.attacks.suite import Attack
from core.errors import InputError, unknown
from core.knobs import Bounds, knobs, knobs_of

LENGTH = Bounds(0, 1, l2=True)
"""Legal lengths of steps, in units of [0, 1] images."""


class Named(Protocol):
    """Settings of an attack."""

    def attack(self, restarts: int) -> Attack:
        """The attack; `restarts` is the number of random starts if the settings do not name one."""
        ...


@knobs
class FGSM:
    """One signed gradient step (Goodfellow 2015), or one step along the gradient in L2."""

    def attack(self, restarts: int) -> Attack:
        """See `core.attacks.gradient.fgsm`."""
        return Attack(fgsm, random=False)


@knobs
class IFGSM:
    """FGSM in several steps of length epsilon / steps, without a random start (Kurakin 2017)."""

    steps: Annotated[int, Bounds(1)] = 7
    """Number of steps."""

    def attack(self, restarts: int) -> Attack:
        """See `core.attacks.gradient.ifgsm`."""
        return Attack(ifgsm, {"steps": self.steps, "stop_when_fooled": True}, random=False)


@knobs
class RFGSM:
    """A random signed step, then a signed gradient step (Tramer 2018); in Linf."""

    start: Annotated[float, LENGTH] = 2 / 255
    """Length of the random step; with a smaller epsilon, half of that."""

    def attack(self, restarts: int) -> Attack:
        """See `core.attacks.gradient.rfgsm`."""
        return Attack(_rfgsm_within, {"start": self.start})


@knobs
class PGD:
    """Projected gradient ascent from random points of the ball (Madry 2018)."""

    steps: Annotated[int, Bounds(1)] = 20
    """Number of steps."""
    step_size: Annotated[float, LENGTH] = 0.0
    """Length of a step in units of [0, 1] images; 0 is 2.5 * epsilon / steps."""
    restarts: Annotated[int, Bounds(0)] = 0
    """Number of random starts; 0 is `judge.restarts`."""
    random_start: bool = True
    """Start at random points of the ball instead of the image itself."""
    loss: Literal["ce", "cw", "dlr"] = "ce"
    """Loss to ascend: cross-entropy, the margin of logits, or that margin divided by the spread of the logits."""

    def attack(self, restarts: int) -> Attack:
        """See `core.attacks.gradient.pgd`."""
        knobs_ = {"steps": self.steps, "step_size": self.step_size or None, "loss": self.loss, "stop_when_fooled": True}
        starts = (self.restarts or restarts) if self.random_start else 0
        return Attack(pgd, {**knobs_, "restarts": starts})


@knobs
class APGD:
    """Auto-PGD, whose step size adapts itself (Croce and Hein 2020)."""

    steps: Annotated[int, Bounds(1)] = 100
    """Number of steps."""
    restarts: Annotated[int, Bounds(1)] = 1
    """Number of random starts."""
    loss: Literal["ce", "cw", "dlr"] = "ce"
    """Loss to ascend; see `PGD.loss`."""

    def attack(self, restarts: int) -> Attack:
        """See `core.attacks.apgd.apgd`."""
        return Attack(apgd, {"steps": self.steps, "restarts": self.restarts, "loss": self.loss})


@knobs
class TargetedAPGD:
    """Auto-PGD towards the most likely other classes, one after the other (Croce and Hein 2020)."""

    steps: Annotated[int, Bounds(1)] = 100
    """Number of steps for each class."""
    targets: Annotated[int, Bounds(1)] = 9
    """Number of classes."""

    def attack(self, restarts: int) -> Attack:
        """See `core.attacks.apgd.targeted_apgd`."""
        return Attack(targeted_apgd, {"steps": self.steps, "targets": self.targets})


@knobs
class Square:
    """Random search with squares, by logits only (Andriushchenko 2020)."""

    queries: Annotated[int, Bounds(1)] = 5000
    """Number of queries."""

    def attack(self, restarts: int) -> Attack:
        """See `core.attacks.square.square`."""
        return Attack(square, {"queries": self.queries}, black_box=True)


@knobs
class SPSA:
    """Ascent along gradients that are estimated from logits (Uesato 2018)."""

    samples: Annotated[int, Bounds(1)] = 128
    """Number of directions in each estimate; 2,048 to 8,192 for a conclusive check."""
    steps: Annotated[int, Bounds(1)] = 100
    """Number of estimates."""
    delta: Annotated[float, Bounds(1e-6, 1)] = 0.01
    """Distance per pixel from the image to the points that are compared, in units of [0, 1] images."""
    lr: Annotated[float, Bounds(0)] = 0.01
    """Step size of Adam, in units of [0, 1] images."""

    def attack(self, restarts: int) -> Attack:
        """See `core.attacks.spsa.spsa`."""
        settings = {"samples": self.samples, "steps": self.steps, "delta": self.delta, "lr": self.lr}
        return Attack(spsa, settings, black_box=True)


@knobs
class Noise:
    """Random directions, the control for every attack."""

    tries: Annotated[int, Bounds(1)] = 10
    """Number of directions."""

    def attack(self, restarts: int) -> Attack:
        """See `core.attacks.noise.noise`."""
        return Attack(noise, {"tries": self.tries}, black_box=True)


@knobs
class DeepFool:
    """Steps to the nearest linearised boundary (Moosavi-Dezfooli 2016). An image counts as fooled if its result is in the ball."""

    steps: Annotated[int, Bounds(1)] = 50
    """Largest number of steps."""
    overshoot: Annotated[float, Bounds(0)] = 0.02
    """Step beyond the boundary, as a share of the perturbation."""
    candidates: Annotated[int, Bounds(2)] = 10
    """Number of classes to consider, with the image's own."""

    def attack(self, restarts: int) -> Attack:
        """See `core.attacks.deepfool.deepfool`."""
        settings = {"steps": self.steps, "overshoot": self.overshoot, "candidates": self.candidates}
        return Attack(_Unbounded(deepfool), settings, random=False)


@knobs
class CarliniWagner:
    """The smallest L2 perturbation by Adam (Carlini and Wagner 2017). An image counts as fooled if its result is in the ball."""

    steps: Annotated[int, Bounds(1)] = 1000
    """Number of steps for each weight of the margin."""
    lr: Annotated[float, Bounds(0)] = 5e-3
    """Step size of Adam."""
    confidence: Annotated[float, Bounds(0)] = 0.0
    """Lead in logits that another class must have."""
    c: Annotated[float, Bounds(0)] = 1e-2
    """Initial weight of the margin."""
    search_steps: Annotated[int, Bounds(1)] = 5
    """Number of weights that are tried."""

    def attack(self, restarts: int) -> Attack:
        """See `core.attacks.carlini_wagner.carlini_wagner`."""
        settings = {name: getattr(self, name) for name in ("steps", "lr", "confidence", "c", "search_steps")}
        return Attack(_Unbounded(carlini_wagner), settings, random=False)


@knobs
class HopSkipJump:
    """Walk along the boundary by predicted labels only (Chen 2020). An image counts as fooled if its result is in the ball."""

    steps: Annotated[int, Bounds(1)] = 20
    """Number of steps."""
    samples: Annotated[int, Bounds(1)] = 100
    """Number of directions in the first step."""

    def attack(self, restarts: int) -> Attack:
        """See `core.attacks.hop_skip_jump.hop_skip_jump`."""
        return Attack(_Unbounded(hop_skip_jump), {"steps": self.steps, "samples": self.samples}, black_box=True)


ATTACKS: dict[str, type[Named]] = {
    "fgsm": FGSM,
    "ifgsm": IFGSM,
    "rfgsm": RFGSM,
    "pgd": PGD,
    "apgd": APGD,
    "apgd_t": TargetedAPGD,
    "square": Square,
    "spsa": SPSA,
    "noise": Noise,
    "deepfool": DeepFool,
    "cw": CarliniWagner,
    "hop_skip_jump": HopSkipJump,
}
"""The attacks that a configuration can request, by name."""


@dataclass(frozen=True)
class _Unbounded:
    """An attack without a ball, whose results beyond the ball do not count."""

    run: Callable[..., Tensor]

    def __call__(self, net: nn.Module, x: Tensor, y: Tensor, *, epsilon: float, norm: Norm, **settings: Any) -> Tensor:
        found = self.run(net, x, y, **settings)
        return found.where(inside_each(found, x, epsilon, norm).view(-1, 1, 1, 1), x)


def _rfgsm_within(net: nn.Module, x: Tensor, y: Tensor, *, epsilon: float, norm: Norm, start: float, **draw: Any) -> Tensor:
    """R-FGSM with a random step that leaves at least half of the ball to the gradient step; in Linf."""
    assert norm == "linf", "the settings of the evaluation do not allow this"
    return rfgsm(net, x, y, epsilon=epsilon, start=min(start, epsilon / 2), **draw)


def attacks_of(text: str, restarts: int = 1, norm: Norm = "linf") -> dict[str, Attack]:
    """The attacks that a text requests, by the name of their verdict: `pgd:steps=7` is `pgd_steps_7`.

    Args:
        text: names separated by +, each followed by :SETTING=VALUE for settings that are not the default.
        restarts: number of random starts of PGD without a number of its own.
        norm: norm of the threat model.

    Raises:
        InputError: an attack or a setting is unknown, a value is not legal, an attack is listed twice, or is not defined in the
            norm.
    """
    found: dict[str, Attack] = {}
    for part in filter(None, re.split(r"[+\s]+", text)):
        name, *assignments = part.split(":")
        if name not in ATTACKS:
            raise unknown("attack", name, ATTACKS)
        if norm != "linf" and name == "rfgsm":
            raise InputError(f"the attack {name} is defined in Linf, and norm={norm}; use pgd:steps=1")
        known, values = knobs_of(ATTACKS[name]), {}
        for assignment in assignments:
            setting, equals, value = assignment.partition("=")
            if not equals or setting not in known:
                raise unknown(f"setting of the attack {name}", setting, known or ["(it has none)"])
            values[setting] = known[setting].read(setting, value)
        try:
            attack = ATTACKS[name](**values).attack(restarts)
        except InputError as error:
            raise InputError(f"attack {name}: {error}") from None
        label = "_".join([name, *(word for assignment in assignments for word in _words(assignment))])
        if label in found:
            raise InputError(f"attack {part} is listed twice")
        found[label] = Attack(attack.run, attack.knobs, attack.random, attack.black_box, on_all_images=True)
    return found


def _words(assignment: str) -> list[str]:
    """The words of a setting in the name of a verdict, which metrics and files can have: 2/255 is written 2_255."""
    return re.sub(r"[^\w.-]", "_", assignment).split("=")
