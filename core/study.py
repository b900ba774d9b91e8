"""The definition of a study: its objectives, constraints, presets, search space and baselines."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from core import space
from core.config import TrialConfig
from core.errors import InputError, unknown
from core.search_space import checked_space
from core.space import Range, Value


@dataclass(frozen=True)
class Objective:
    """A metric, its direction, and the two values between which it is normalised.

    All later steps minimise `loss`, which is 0 at `ideal` and 1 at `reference`. A trial that is worse than a reference is on no
    Pareto front, and the hypervolume is measured from the references, so it does not depend on the data.

    Raises:
        InputError: `ideal` is not on the better side of `reference`.
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
        """Normalise a value: 0 at the ideal and beyond it, 1 at the reference, above 1 for worse values."""
        loss = (value - self.ideal) / (self.reference - self.ideal)
        return 0.0 if loss < 0 else loss  # max() would turn NaN into a perfect 0

    def loss_of(self, row: Mapping[str, float], level: float | None = None) -> float:
        """The loss of a trial's measured value, of which only what exceeds the chance level counts; NaN if it was not measured.

        Args:
            row: metrics of the trial; its own chance level is `<metric>_chance`.
            level: another chance level; a value below it counts as the level.
        """
        value = row.get(self.metric, math.nan)
        level = row.get(f"{self.metric}_chance", math.nan) if level is None else level
        return self.loss(level if value < level else value)


@dataclass(frozen=True)
class Constraint:
    """A bound on a metric that every point of a Pareto front must meet."""

    metric: str
    sign: Literal[">=", "<="]
    value: float

    @classmethod
    def of(cls, text: str) -> "Constraint":
        """Parse METRIC>=VALUE or METRIC<=VALUE.

        Raises:
            InputError: the text has neither form.
        """
        match = re.fullmatch(r"\s*([^<>=\s]+)\s*(>=|<=)\s*([^<>=\s]+)\s*", text)
        if not match:
            hint = "" if set("<>") & set(text) else "; quote it, because an unquoted > redirects the shell's output"
            raise InputError(f"--require takes METRIC>=VALUE or METRIC<=VALUE, got {text!r}{hint}")
        try:
            return cls(match[1], match[2], space.number(match[3]))  # pyright: ignore[reportArgumentType]
        except InputError as error:
            raise InputError(f"--require {text}: {error}") from None

    def __str__(self) -> str:
        short = f"{self.value:g}"  # used only if it is exact, because stored constraints are parsed again
        return f"{self.metric}{self.sign}{short if float(short) == self.value else repr(self.value)}"

    def violation(self, value: float) -> float:
        """The amount by which a value misses the bound: 0 if it is met, infinite if the metric was not measured (NaN)."""
        if math.isnan(value):
            return math.inf
        return max(0.0, self.value - value if self.sign == ">=" else value - self.value)


@dataclass(frozen=True)
class Contrast:
    """A yes-or-no question about an objective, answered by the paired difference between two confirmed points.

    The answer is yes if the treatment is better than the control in the objective, and no if it is worse or equal.

    Raises:
        InputError: settings as a treatment need `matched`, and only they may have it.
    """

    question: str
    """The question, of which yes means that the treatment is better than the control."""
    treatment: str | Mapping[str, Value]
    """Name of a baseline; or settings, which select the confirmed points that have them."""
    control: str
    """Name of a baseline."""
    objective: str
    """Metric of the objective in which they are compared."""
    matched: str = ""
    """Metric of an objective in which the treatment is to equal the control: of the points with the treatment's settings, the
    nearest one in this metric is compared. As it is not chosen by `objective`, its difference there is free of selection."""
    margin: float = 0.01
    """Largest difference that does not matter."""

    def __post_init__(self):
        if isinstance(self.treatment, str) == bool(self.matched):
            raise InputError(f"contrast {self.question!r}: settings as a treatment, and only they, need a matched metric")


def trilemma(classes: int) -> tuple[Objective, ...]:
    """The project's three objectives, for data with this number of classes."""
    return (
        Objective("accuracy", "max", reference=1 / classes, ideal=1.0),
        Objective("robust_accuracy", "max", reference=0.0, ideal=1.0),
        Objective("mia_auc", "min", reference=1.0, ideal=0.5),
    )


@dataclass(frozen=True, kw_only=True)
class Preset:
    """The size of a study: its base configuration and the budgets of sweep and confirmation."""

    config: TrialConfig
    trials: int
    confirm: Mapping[str, Value] = field(default_factory=dict)
    """Settings that differ in the confirmation step, such as the part of the data and the attack suite."""
    replicates: int = 3
    """Replicates per point on average in the confirmation step, with new seeds and redrawn members."""
    shadows: int = 0
    """Shadow models per confirmed point, trained on the shadow pool, on which no target is trained."""


CONFIRM: Mapping[str, Value] = {
    "judge.part": "test", "judge.suite": "standard", "judge.restarts": 2, "judge.images": 0, "judge.audits": "standard",
}  # fmt: skip
"""Default settings of the confirmation step: all images of the unseen part, with attacks and audits too slow for a sweep."""
PUBLISH: Mapping[str, Value] = {
    "judge.part": "test", "judge.suite": "strong", "judge.restarts": 1, "judge.images": 1000, "judge.audits": "full",
}  # fmt: skip
"""Settings of the confirmation step for numbers to be published: the field's standard attack on the usual 1,000 images."""


UNDEFENDED: Mapping[str, Value] = {"loss": "cross_entropy", "perturbation": "none", "regularizer": "none"}
"""Changes of a baseline without a defence, whatever components the preset and a recipe have."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A question about a training recipe, with the space to search and the objectives by which trials are compared.

    Raises:
        InputError: a preset, the space or a baseline is not legal, or a contrast names an unknown baseline or metric.
    """

    name: str
    question: str
    presets: Mapping[str, Preset]
    space: Callable[[TrialConfig], dict[str, Range]]
    """The search space for a configuration (its threat model, for example); see `core.search_space.switch` for slots."""
    baselines: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    """Configurations that always run first, by name, as changes to the preset's configuration."""
    objectives: Callable[[int], tuple[Objective, ...]] = trilemma
    """The objectives for a number of classes."""
    contrasts: tuple[Contrast, ...] = ()
    """Questions that confirmed points answer."""

    def __post_init__(self):
        for preset in self.presets.values():
            checked_space(preset.config, self.space(preset.config))
            preset.config.set(preset.confirm)
            for changes in self.baselines.values():
                preset.config.set(changes)
        metrics = [o.metric for o in self.objectives(2)]
        for contrast in self.contrasts:
            for name in (contrast.control, contrast.treatment):
                if isinstance(name, str) and name not in self.baselines:
                    raise unknown("baseline of a contrast", name, self.baselines)
            for metric in filter(None, (contrast.objective, contrast.matched)):
                if metric not in metrics:
                    raise unknown("objective of a contrast", metric, metrics)
            if isinstance(contrast.treatment, Mapping):
                for preset in self.presets.values():
                    preset.config.set(contrast.treatment)
