"""The configuration of one trial: frozen data with a flat serial form.

`TrialConfig.params()` returns that form, `{"loss": "crl", "loss.lambda": 0.1, ...}`. `TrialConfig.of` is its inverse; it accepts
values and text (MLflow returns parameters as text).
"""

import math
from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any

from core.augmentations import AUGMENTATIONS
from core.data import SPLITS, Images, Parts, split
from core.errors import InputError, unknown
from core.judging import Judge
from core.knobs import Bounds, Knob, knobs, knobs_of
from core.losses import LOSSES
from core.nets import NETS
from core.optimizers import OPTIMIZERS
from core.perturbations import PERTURBATIONS
from core.regularizers import REGULARIZERS
from core.selection import SELECTIONS
from core.space import Value

SLOTS: dict[str, dict[str, type]] = {
    "net": NETS,
    "loss": LOSSES,
    "perturbation": PERTURBATIONS,
    "regularizer": REGULARIZERS,
    "augmentation": AUGMENTATIONS,
    "optimizer": OPTIMIZERS,
}
"""The components of each slot, by name."""
CHOICES: dict[str, dict[str, type]] = {"split": SPLITS, **SLOTS, "selection": SELECTIONS}
"""The settings that are a component with settings of its own: the protocol of the split, the slots of a recipe, and the choice of
the epoch."""


MIN_MAP_SIDE = 3
"""Shorter side of the smallest images that have attribution maps: a 5x5 kernel reflects 2 pixels at the border."""


@knobs
class TrialConfig:
    """All settings that determine a trial's metrics."""

    dataset: str = "digits"
    """Name of a data set in `core.data.DATASETS`, or parquet:DIR."""
    pool: Annotated[int, Bounds(0)] = 0
    """Number of images to use, a fixed draw stratified over classes; 0 is all."""
    split: Any = field(default_factory=SPLITS["stratified"])
    replicate: Annotated[int, Bounds(0)] = 0
    """Number of the replicate; above 0, members are redrawn from members + val."""
    shadow: Annotated[int, Bounds(0)] = 0
    """Number of the shadow model, 0 for a target. A shadow model's members are half of `split.shadow`, drawn by this number."""
    seed: Annotated[int, Bounds(0)] = 0
    """Random seed of initial weights, order, augmentation and attacks."""
    epochs: Annotated[int, Bounds(1)] = 30
    """Number of passes over the members."""
    batch_size: Annotated[int, Bounds(2)] = 128
    """Number of images per step over all workers; an epoch is cut into batches of equal size, at most this large."""
    normalize: bool = True
    """Standardise channels by the members' mean and standard deviation, inside the network."""
    net: Any = field(default_factory=NETS["convnet"])
    loss: Any = field(default_factory=LOSSES["cross_entropy"])
    perturbation: Any = field(default_factory=PERTURBATIONS["none"])
    regularizer: Any = field(default_factory=REGULARIZERS["none"])
    augmentation: Any = field(default_factory=AUGMENTATIONS["none"])
    optimizer: Any = field(default_factory=OPTIMIZERS["sgd"])
    selection: Any = field(default_factory=SELECTIONS["none"])
    judge: Judge = field(default_factory=Judge)

    def check(self) -> None:
        """Reject a component that does not belong to its slot, and components that cannot be combined."""
        for name, family in CHOICES.items():
            if type(getattr(self, name)) not in family.values():
                raise InputError(
                    f"{name} takes one of {', '.join(c.__name__ for c in family.values())}, got {getattr(self, name)!r}"
                )
        for name in SLOTS:
            if check_compatible := getattr(getattr(self, name), "check_compatible", None):
                check_compatible(self)
        if self.judge.inversion != "none" and not getattr(self.split, "shadow", 1):
            if self.judge.inversion == "all":
                raise InputError("judge.inversion=all trains a GAN on images of the shadow models, and split.shadow=0 leaves none")
            if self.judge.inversion_start == "image":
                raise InputError("judge.inversion_start=image is an image of the shadow models, and split.shadow=0 leaves none")
        if not getattr(self.split, "val", 1) and self.judge.part == "val":
            raise InputError("judge.part=val judges images of val, and split.val=0 leaves none; use judge.part=test")
        if not getattr(self.split, "val", 1) and self.selection.images:
            raise InputError("selection chooses the epoch by images of val, and split.val=0 leaves none; use selection=none")

    def parts(self, images: Images) -> Parts:
        """The parts of a pool for this configuration's network; see `core.data.split`."""
        return split(images, self.split, self.replicate, self.shadow, self.selection.images)

    @property
    def reference(self) -> float:
        """Share of the members that a component holds out as a reference set."""
        return max(float(getattr(getattr(self, name), "held_out", 0)) for name in SLOTS)

    def check_shape(self, shape: tuple[int, int, int]) -> None:
        """Reject settings that do not fit images of this shape, (channels, height, width).

        Raises:
            InputError: an L2 radius is longer than every difference of two images, or the images have no attribution maps.
        """
        longest = math.sqrt(math.prod(shape))
        for name in ("judge", "perturbation", "selection"):
            part, size = getattr(self, name), "x".join(map(str, shape))
            if getattr(part, "norm", "") == "l2" and part.epsilon > longest:
                raise InputError(
                    f"{name}.epsilon={part.epsilon:g} is longer than the L2 distance {longest:.4g} from black to white of {size} "
                    f"images; images are in [0, 1]"
                )
        if self.judge.attribution and min(shape[1:]) < MIN_MAP_SIDE:
            raise InputError(
                f"judge.attribution needs images of at least {MIN_MAP_SIDE}x{MIN_MAP_SIDE} pixels, as it blurs them with a 5x5 "
                f"kernel; these are {shape[1]}x{shape[2]}, so set judge.attribution=0"
            )

    def params(self) -> dict[str, Value]:
        """The configuration in flat form, `{dotted name: value}`."""
        flat: dict[str, Value] = {}
        for name, knob in knobs_of(TrialConfig).items():
            part = getattr(self, knob.attribute)
            if name in CHOICES:
                flat[name] = next(key for key, cls in CHOICES[name].items() if cls is type(part))
            if name in CHOICES or name == "judge":
                flat |= {f"{name}.{key}": getattr(part, k.attribute) for key, k in knobs_of(type(part)).items()}
            else:
                flat[name] = part
        return flat

    @classmethod
    def of(cls, params: Mapping[str, Value]) -> "TrialConfig":
        """Build a configuration from flat parameters; all others keep their defaults."""
        return cls().set(params)

    def set(self, changes: Mapping[str, Value]) -> "TrialConfig":
        """Copy the configuration with some flat parameters changed. A new component of a slot starts from its defaults.

        Raises:
            InputError: a name is unknown, or a value is not legal.
        """
        parts = {knob.attribute: getattr(self, knob.attribute) for knob in knobs_of(TrialConfig).values()}
        for name in CHOICES.keys() & changes.keys():
            if str(changes[name]) not in CHOICES[name]:
                raise unknown(name, changes[name], CHOICES[name])
            component = CHOICES[name][str(changes[name])]
            if type(parts[name]) is not component:
                parts[name] = component()
        inner: dict[str, dict[str, Any]] = {}
        for name, value in changes.items():
            head, dot, tail = name.partition(".")
            if name in CHOICES:
                continue
            if not dot and head in knobs_of(TrialConfig) and head != "judge":
                parts[knobs_of(TrialConfig)[head].attribute] = knobs_of(TrialConfig)[head].read(name, value)
            elif dot and (head in CHOICES or head == "judge"):
                known = knobs_of(type(parts[head]))
                if tail not in known:
                    raise _no_such_knob(head, tail, parts[head])
                inner.setdefault(head, {})[known[tail].attribute] = known[tail].read(name, value)
            else:
                raise unknown("setting", name, self.params())
        for head, values in inner.items():
            for tail, knob in knobs_of(type(parts[head])).items():
                if knob.attribute in values:
                    knob.check(f"{head}.{tail}", values[knob.attribute], values.get("norm", getattr(parts[head], "norm", "")))
            try:
                parts[head] = type(parts[head])(**(vars(parts[head]) | values))
            except InputError as error:
                raise InputError(f"{head}: {error}") from None
        return TrialConfig(**parts)

    def knob(self, name: str) -> Knob:
        """The knob with a flat name.

        Raises:
            InputError: this configuration has no such knob.
        """
        head, dot, tail = name.partition(".")
        if not dot and head in knobs_of(TrialConfig) and head not in CHOICES and head != "judge":
            return knobs_of(TrialConfig)[head]
        if dot and (head in CHOICES or head == "judge"):
            part = getattr(self, head)
            if tail in knobs_of(type(part)):
                return knobs_of(type(part))[tail]
            raise _no_such_knob(head, tail, part)
        raise unknown("knob", name, [n for n in self.params() if n not in CHOICES])


def _no_such_knob(slot: str, knob: str, part: object) -> InputError:
    owners = [name for name, cls in CHOICES.get(slot, {}).items() if knob in knobs_of(cls)]
    elsewhere = f"; {slot}={' or '.join(owners)} has it" if owners else ""
    names = {cls: name for family in CHOICES.values() for name, cls in family.items()}
    where = f"{slot}={names[type(part)]}" if slot in CHOICES else slot
    return InputError(f"{unknown(f'knob of {where}:', knob, knobs_of(type(part)) or ['(it has none)'])}{elsewhere}")
