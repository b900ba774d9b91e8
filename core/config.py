"""What a trial, an objective and a study are: frozen data with one flat serial form.

`TrialConfig.params()` is that form, `{"loss": "crl", "loss.lambda": 0.1, ...}`, and `TrialConfig.of` is its inverse,
from values or from text (MLflow gives text back).
"""

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from core import space
from core.attacks.ball import Norm
from core.augmentations import AUGMENTATIONS
from core.errors import InputError, TrialError, unknown
from core.losses import LOSSES
from core.nets import NETS
from core.optimizers import OPTIMIZERS
from core.perturbations import PERTURBATIONS
from core.perturbations.adversarial import IN_PIXELS
from core.regularizers import REGULARIZERS
from core.space import Bounds, LogUniform, Range, Switch, Value, knobs

SLOTS: dict[str, dict[str, type]] = {
    "net": NETS,
    "loss": LOSSES,
    "perturbation": PERTURBATIONS,
    "regularizer": REGULARIZERS,
    "augmentation": AUGMENTATIONS,
    "optimizer": OPTIMIZERS,
}


@knobs
class Judge:
    """How a trained network is attacked and audited."""

    part: Literal["val", "test", "both"] = "val"
    """Which non-members it is judged on. A sweep looks at `val`; only confirm looks at `test`."""
    norm: Norm = "linf"
    """Threat model of the attacks."""
    epsilon: Annotated[float, Bounds(0, 1, IN_PIXELS)] = 8 / 255
    """Its radius, in units of [0, 1] images."""
    suite: Literal["quick", "standard", "strong"] = "quick"
    """Which attacks: see `core.attacks.suite`."""
    steps: Annotated[int, Bounds(1)] = 20
    """PGD steps; some attacks of a suite take twice as many."""
    restarts: Annotated[int, Bounds(1)] = 1
    """PGD random starts; later ones only on images still standing."""
    images: Annotated[int, Bounds(0)] = 1000
    """Attack at most this many images; 0 is all. Accuracy and audits always use all."""
    audits: Literal["scores", "standard", "full"] = "scores"
    """`scores`: what one forward pass gives; `standard`: also gradient norms, adversarial images where training had such, and
    answers kept for audits by other networks; `full`: also the distance to the boundary from labels only, on `images`."""
    inversion: Literal["none", "ascent", "all"] = "none"
    """Reconstruct images of each class from the weights: by gradient ascent, or also by DeepDream and an AC-GAN."""
    inversion_iterations: Annotated[int, Bounds(1), LogUniform(1000, 10000)] = 1000
    """Steps of the ascent."""
    inversion_lr: Annotated[float, Bounds(0), LogUniform(1e-4, 10)] = 0.1
    """Their length, in units of [0, 1] images times the gradient of the class's logit."""
    attribution: Annotated[int, Bounds(0)] = 0
    """Compare heat maps of this many images; 0 is none."""


@knobs
class TrialConfig:
    """Everything that decides a trial's numbers."""

    dataset: str = "digits"
    """A name in `core.data.DATASETS`, or parquet:DIR."""
    pool: Annotated[int, Bounds(0)] = 0
    """Use this many images of the data set, drawn once and evenly over classes; 0 is all."""
    split: Literal["stratified", "paper"] = "stratified"
    """`paper`: the unstratified split of the CRL paper's code."""
    replicate: Annotated[int, Bounds(0)] = 0
    """Above 0, members are drawn anew from members + val."""
    shadow: Annotated[int, Bounds(0)] = 0
    """Above 0, this is a shadow model: its members are half of the shadow models' images, drawn by this number."""
    seed: Annotated[int, Bounds(0)] = 0
    """Folded into initial weights, order, augmentation and attacks."""
    epochs: Annotated[int, Bounds(1)] = 30
    """Passes over the members."""
    batch_size: Annotated[int, Bounds(2)] = 128
    """Images per step over all workers; an epoch is cut into equal batches of at most this size."""
    normalize: bool = True
    """Standardise channels by the members' mean and deviation, inside the network."""
    net: Any = field(default_factory=NETS["convnet"])
    loss: Any = field(default_factory=LOSSES["cross_entropy"])
    perturbation: Any = field(default_factory=PERTURBATIONS["none"])
    regularizer: Any = field(default_factory=REGULARIZERS["none"])
    augmentation: Any = field(default_factory=AUGMENTATIONS["none"])
    optimizer: Any = field(default_factory=OPTIMIZERS["sgd"])
    judge: Judge = field(default_factory=Judge)

    def check(self) -> None:
        """Refuse a slot that is filled with something else, and slots that do not go together."""
        for name, family in SLOTS.items():
            if type(getattr(self, name)) not in family.values():
                raise InputError(
                    f"{name} takes one of {', '.join(c.__name__ for c in family.values())}, got {getattr(self, name)!r}"
                )
        for name in SLOTS:
            if fits := getattr(getattr(self, name), "fits", None):
                fits(self)

    @property
    def reference(self) -> float:
        """The share of the members that a slot wants apart from those that are trained on."""
        return max(float(getattr(getattr(self, name), "reference", 0)) for name in SLOTS)

    def params(self) -> dict[str, Value]:
        """The flat form."""
        flat: dict[str, Value] = {}
        for name, knob in space.of(TrialConfig).items():
            part = getattr(self, knob.attribute)
            if name in SLOTS:
                flat[name] = next(key for key, cls in SLOTS[name].items() if cls is type(part))
            if name in SLOTS or name == "judge":
                flat |= {f"{name}.{key}": getattr(part, k.attribute) for key, k in space.of(type(part)).items()}
            else:
                flat[name] = part
        return flat

    @classmethod
    def of(cls, params: Mapping[str, Value]) -> "TrialConfig":
        """The configuration with these flat parameters; what is not named is at its default."""
        return cls().set(params)

    def set(self, changes: Mapping[str, Value]) -> "TrialConfig":
        """A copy with some flat parameters changed. A slot that gets another filling gets that filling's defaults.

        Raises:
            InputError: an unknown name, or a value that is not legal there.
        """
        parts = {knob.attribute: getattr(self, knob.attribute) for knob in space.of(TrialConfig).values()}
        for name in SLOTS.keys() & changes.keys():
            if str(changes[name]) not in SLOTS[name]:
                raise unknown(name, changes[name], SLOTS[name])
            filling = SLOTS[name][str(changes[name])]
            if type(parts[name]) is not filling:
                parts[name] = filling()
        inner: dict[str, dict[str, Any]] = {}
        for name, value in changes.items():
            head, dot, tail = name.partition(".")
            if name in SLOTS:
                continue
            if not dot and head in space.of(TrialConfig) and head != "judge":
                parts[space.of(TrialConfig)[head].attribute] = space.of(TrialConfig)[head].read(name, value)
            elif dot and (head in SLOTS or head == "judge"):
                known = space.of(type(parts[head]))
                if tail not in known:
                    raise _no_such_knob(head, tail, parts[head])
                value = known[tail].read(name, value)
                known[tail].check(name, value)
                inner.setdefault(head, {})[known[tail].attribute] = value
            else:
                raise unknown("setting", name, self.params())
        for head, values in inner.items():
            try:
                parts[head] = type(parts[head])(**(vars(parts[head]) | values))
            except InputError as error:
                raise InputError(f"{head}: {error}") from None
        return TrialConfig(**parts)

    def knob(self, name: str) -> space.Knob:
        """The knob behind a flat name.

        Raises:
            InputError: there is none in this configuration.
        """
        head, dot, tail = name.partition(".")
        if not dot and head in space.of(TrialConfig) and head not in SLOTS and head != "judge":
            return space.of(TrialConfig)[head]
        if dot and (head in SLOTS or head == "judge"):
            part = getattr(self, head)
            if tail in space.of(type(part)):
                return space.of(type(part))[tail]
            raise _no_such_knob(head, tail, part)
        raise unknown("knob", name, [n for n in self.params() if n not in SLOTS])


def _no_such_knob(slot: str, knob: str, part: object) -> InputError:
    owners = [name for name, cls in SLOTS.get(slot, {}).items() if knob in space.of(cls)]
    elsewhere = f"; {slot}={' or '.join(owners)} has it" if owners else ""
    names = {cls: name for family in SLOTS.values() for name, cls in family.items()}
    where = f"{slot}={names[type(part)]}" if slot in SLOTS else slot
    return InputError(f"{unknown(f'knob of {where}:', knob, space.of(type(part)) or ['(it has none)'])}{elsewhere}")


@dataclass(frozen=True)
class Metrics:
    """The numbers of one trial, by the names that MLflow shows. They are finite or there are none."""

    values: Mapping[str, float]

    def __post_init__(self):
        bad = sorted(name for name, value in self.values.items() if not math.isfinite(value))
        if bad:
            raise TrialError(f"not finite: {', '.join(bad)}")

    def __getitem__(self, name: str) -> float:
        return self.values[name]


@dataclass(frozen=True)
class Objective:
    """A metric, which way is better, and the two values between which it is normalised.

    Everything downstream minimises `loss`, which is 0 at `ideal` and 1 at `reference`. A trial worse than a reference is
    on no front, and the hypervolume is measured from the references, so it never depends on the data.
    """

    metric: str
    direction: Literal["max", "min"]
    reference: float
    ideal: float

    def __post_init__(self):
        if (self.ideal - self.reference) * (1 if self.direction == "max" else -1) <= 0:
            raise InputError(
                f"objective {self.metric}: {self.direction} needs ideal on the better side of reference, "
                f"got ideal={self.ideal:g}, reference={self.reference:g}"
            )

    def loss(self, value: float) -> float:
        """0 at the ideal (and beyond it), 1 at the reference, above 1 for worse."""
        loss = (value - self.ideal) / (self.reference - self.ideal)
        return 0.0 if loss < 0 else loss  # max() would turn NaN into a perfect 0


@dataclass(frozen=True)
class Limit:
    """A requirement on a metric."""

    metric: str
    sign: Literal[">=", "<="]
    value: float

    @classmethod
    def of(cls, text: str) -> "Limit":
        """From METRIC>=VALUE or METRIC<=VALUE.

        Raises:
            InputError: it is neither.
        """
        found = re.fullmatch(r"\s*([^<>=\s]+)\s*(>=|<=)\s*([^<>=\s]+)\s*", text)
        if not found:
            hint = "" if set("<>") & set(text) else "; quote it, since a shell takes > for itself"
            raise InputError(f"--require takes METRIC>=VALUE or METRIC<=VALUE, got {text!r}{hint}")
        try:
            return cls(found[1], found[2], space.number(found[3]))  # pyright: ignore[reportArgumentType]
        except InputError as error:
            raise InputError(f"--require {text}: {error}") from None

    def __str__(self) -> str:
        short = f"{self.value:g}"  # where it is the same number: what is stored is read again
        return f"{self.metric}{self.sign}{short if float(short) == self.value else repr(self.value)}"

    def lacks(self, value: float) -> float:
        """By how much a value misses it; 0 if it does not. What was not measured misses it by any amount."""
        if math.isnan(value):
            return math.inf
        return max(0.0, self.value - value if self.sign == ">=" else value - self.value)


def trilemma(classes: int) -> tuple[Objective, ...]:
    """The three objectives of the project, for data with this many classes."""
    return (
        Objective("accuracy", "max", reference=1 / classes, ideal=1.0),
        Objective("robust_accuracy", "max", reference=0.0, ideal=1.0),
        Objective("mia_auc", "min", reference=1.0, ideal=0.5),
    )


@dataclass(frozen=True, kw_only=True)
class Preset:
    """How large a study is: the configuration that the space varies, and the two budgets."""

    config: TrialConfig
    trials: int
    confirm: Mapping[str, Value] = field(default_factory=dict)
    """What confirm changes in a configuration: `test` part, more steps, restarts."""
    replicates: int = 3
    """Fresh seeds and members per front point in confirm."""
    shadows: int = 0
    """Shadow models per front point in confirm, on images that no other network sees."""


CONFIRM: Mapping[str, Value] = {
    "judge.part": "test", "judge.suite": "standard", "judge.restarts": 2, "judge.images": 0, "judge.audits": "standard",
}  # fmt: skip
"""What confirm usually changes: unseen images, all of them, and attacks and audits that a sweep could not pay for."""
PUBLISH: Mapping[str, Value] = {
    "judge.part": "test", "judge.suite": "strong", "judge.restarts": 1, "judge.images": 1000, "judge.audits": "full",
}  # fmt: skip
"""The same for numbers that others will quote: the field's standard attack, on 1,000 images as is usual."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A question: which recipe, which knobs, judged by what."""

    name: str
    question: str
    presets: Mapping[str, Preset]
    space: Callable[[TrialConfig], dict[str, Range]]
    """What a sweep may turn, given the configuration (its threat model, say); `core.space.switch` for a slot's filling."""
    baselines: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    """Configurations that are always run first, by name: changes to the preset's configuration."""
    objectives: Callable[[int], tuple[Objective, ...]] = trilemma
    """Objectives for a number of classes."""

    def __post_init__(self):
        for preset in self.presets.values():
            checked_space(preset.config, self.space(preset.config))
            preset.config.set(preset.confirm)
            for changes in self.baselines.values():
                preset.config.set(changes)


def checked_space(config: TrialConfig, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """The ranges in their knobs' types, after making sure that each names a knob and that all of it is legal.

    The knobs of a switch are checked where their option is chosen. A knob of a switched slot may stand beside the switch
    if every option has it.

    Raises:
        InputError: no such knob, or an end of the range that the knob refuses.
    """
    checked: dict[str, Range] = {}
    for name, span in ranges.items():
        slot = name.partition(".")[0]
        beside = None if slot == name else ranges.get(slot)
        if isinstance(span, Switch):
            checked[name] = Switch({
                option: _checked_option(name, option, chosen, span) for option, chosen in _chosen(config, ranges, name, span)
            })  # fmt: skip
        elif isinstance(beside, Switch):
            for option, chosen in _chosen(config, ranges, slot, beside):
                checked[name] = _checked_beside(slot, option, chosen, name, span, beside)
        else:
            checked[name] = _checked_range(config, name, span, f"space {name}")
    return checked


def fillings(config: TrialConfig, ranges: Mapping[str, Range]) -> Iterator[TrialConfig]:
    """A legal configuration for each option of each switch.

    Raises:
        InputError: an option cannot be combined with any of the others.
    """
    for name, span in ranges.items():
        if isinstance(span, Switch):
            yield from (chosen for _, chosen in _chosen(config, ranges, name, span))


def _chosen(config: TrialConfig, ranges: Mapping[str, Range], slot: str, switch: Switch) -> Iterator[tuple[str, TrialConfig]]:
    """Each option of a switch with the first legal configuration that has it, among the options of the other switches."""
    if slot not in SLOTS:
        raise unknown("slot", slot, SLOTS)
    others = [[(name, o) for o in span.options] for name, span in ranges.items() if isinstance(span, Switch) and name != slot]
    for option in switch.options:
        if option not in SLOTS[slot]:
            raise unknown(slot, option, SLOTS[slot])
        reason = None
        for rest in itertools.chain([()], itertools.product(*others)):
            try:
                chosen = config.set({**dict(rest), slot: option})
            except InputError as error:
                reason = reason or error
            else:
                yield option, chosen
                break
        else:
            raise InputError(f"space {slot}={option}: {reason}")


def _checked_option(slot: str, option: str, chosen: TrialConfig, switch: Switch) -> dict[str, Range]:
    for name in switch.options[option]:
        if not name.startswith(f"{slot}."):
            raise InputError(f"space {slot}={option} {name}: only the knobs of {slot} can depend on which {slot} is chosen")
    return {
        name: _checked_range(chosen, name, span, f"space {slot}={option} {name}") for name, span in switch.options[option].items()
    }


def _checked_beside(slot: str, option: str, chosen: TrialConfig, name: str, span: Range, switch: Switch) -> Range:
    if name in switch.options[option]:
        raise InputError(f"space {name}: it is both beside the switch of {slot} and in its option {option}; drop one")
    if name not in chosen.params():
        raise InputError(f"space {name}: {slot}={option} has no such knob; move it into the options of the switch that have it")
    return _checked_range(chosen, name, span, f"space {name} of {slot}={option}")


def _checked_range(config: TrialConfig, name: str, span: Range, where: str) -> Range:
    """The range in the type of its knob; `where` begins the error message."""
    try:
        knob = config.knob(name)
        for value in space.ends(span):
            config.set({name: value})
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    match span:
        case space.Choice(options):
            return space.Choice(tuple(knob.read(name, option) for option in options))
        case space.Uniform() | space.LogUniform() if knob.type is int:
            raise InputError(f"{where}: {space.text(span)} holds fractions, {name} takes whole numbers; write LOW:HIGH or A,B,C")
        case space.Uniform(low, high) | space.LogUniform(low, high):
            return type(span)(float(low), float(high))
        case space.IntRange(low, high) if knob.type is float:
            return space.Uniform(float(low), float(high))
    return span
