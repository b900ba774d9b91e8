"""The plan of a study: everything that determines its numbers, stored with its results."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from core import data, space
from core.config import TrialConfig
from core.errors import InputError
from core.evaluation.interim import INTERIM_METRICS
from core.search_space import checked_space
from core.space import Range, Value, flat
from core.study import Constraint, Contrast, Objective
from trainables.study.data_identity import DataIdentity
from trainables.study.options import Option, all_options, integer, option, options, options_of
from trainables.study.records import checked, is_name

FIRST_REPLICATES = 2
"""Replicates per point before further ones go to undecided points, unless the budget is smaller."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that determines a study's numbers; fixed once the study has started."""

    name: str
    """Name of this run of the study; `--resume` takes it."""
    study: str
    """Name of the study, which is also its script's."""
    question: str
    """Question that the study answers."""
    config: TrialConfig = field(metadata=options(
        Option("--preset", "preset of the study: {presets} (default: {default}, minutes on 2 CPU cores)", "dev"),
        Option("--set", "fix settings, for example net.width=32 epochs=50", [],
               {"action": "extend", "nargs": "+", "metavar": "NAME=VALUE"}),
        Option("--dataset", f"data set: {', '.join(data.DATASETS)} or {data.PARQUET}DIR", None, {"metavar": "D"}),
    ))  # fmt: skip
    """Configuration that the search space varies."""
    recipe: str = option(
        "", "put the settings of a recipe in core/recipes.py on the preset's, before --dataset and --set", metavar="NAME"
    )
    """Name of the recipe in `core.recipes.RECIPES` whose settings are in `config`; empty for those of the preset alone."""
    left_out: tuple[str, ...] = ()
    """Ranges, baselines and contrasts of the study that do not fit the recipe, one line each."""
    space: dict[str, Range] = field(metadata=options(
        Option("--space", "search a knob over another range", [],
               {"action": "extend", "nargs": "+", "metavar": "NAME=LOW:HIGH[:log]"}),
    ))  # fmt: skip
    """Search space."""
    objectives: tuple[Objective, ...]
    """Metrics that the front trades off."""
    baselines: dict[str, dict[str, Value]]
    """Configurations that always run first, by name, as changes to `config`."""
    trials: int = field(metadata=options(
        Option("--trials", "number of trials, including baselines", None, {"type": integer(1), "metavar": "N"}),
    ))  # fmt: skip
    """Number of trials, including baselines."""
    seed: int = field(metadata=options(
        Option("--seed", "random seed (default: {default})", 0, {"type": integer(0), "metavar": "S"}),
    ))  # fmt: skip
    """Random seed of the study."""
    sampler: str = field(metadata=options(
        Option("--sampler", "{samplers} or auto: gp for up to {gp_max_trials} trials, and tpe for more or if slots are searched",
               "auto", {"metavar": "NAME"}),
    ))  # fmt: skip
    """Name of the sampler in `trainables.search.samplers.SAMPLERS`."""
    confirm: dict[str, Value]
    """Settings that differ in the confirmation step."""
    replicates: int = field(metadata=options(
        Option("--no-confirm", "skip the confirmation step", False, {"action": "store_true"}),
        Option("--replicates", "trainings per confirmed point on average; points that are undecided get more, decided ones fewer",
               None, {"type": integer(1), "metavar": "N"}),
    ))  # fmt: skip
    """Replicates per confirmed point on average, at most; 0 skips the confirmation step."""
    shadows: int = field(default=0, metadata=options(
        Option("--shadows", "also train N shadow models per confirmed point, to audit it", None,
               {"type": integer(0), "metavar": "N"}),
    ))  # fmt: skip
    """Shadow models per confirmed point; with 0, replicates are audited by their siblings only."""
    require: tuple[Constraint, ...] = field(default=(), metadata=options(
        Option("--require", "constraint that every point of the front must meet, quoted: 'METRIC>=VALUE' or 'METRIC<=VALUE'", [],
               {"action": "append", "metavar": "CONSTRAINT"}),
    ))  # fmt: skip
    """Constraints that every point of the front must meet."""
    seeds_per_trial: int = option(
        1, "seeds per configuration, which is compared by its means (default: {default})", type=integer(1), metavar="N"
    )
    """Number of trainings of each configuration with different seeds; its metrics are their means."""
    rungs: tuple[int, ...] = field(default=(), metadata=options(
        Option("--early-stopping", "stop a trial early if it is dominated after these epochs (default: 1/3 and 2/3 of the epochs)",
               None, {"type": integer(1), "nargs": "*", "metavar": "EPOCH"}),
    ))  # fmt: skip
    """Epochs after which a dominated trial may be stopped early."""
    contrasts: tuple[Contrast, ...] = ()
    """Questions that confirmed points answer."""
    data: DataIdentity | None = None
    """Identity of the images; None until they are loaded, never in a stored plan."""
    requested: dict[str, Any] = field(default_factory=dict)
    """Values of the options that started the study, by name, without those at their defaults."""

    @property
    def first_replicates(self) -> int:
        """Replicates that every point has before further ones go to undecided points."""
        return min(FIRST_REPLICATES, self.replicates)

    @property
    def siblings(self) -> int:
        """Number of other replicates of its point that audit each replicate.

        It is the same for all replicates of all points, so that those with more replicates are not audited more strongly.
        """
        return max(0, self.first_replicates - 1)

    def configured(self, changes: Mapping[str, Value]) -> TrialConfig:
        """The configuration of a trial with these changes."""
        return self.config.set(changes)

    def was_requested(self, option: Option, value: Any) -> bool:
        """Whether an option with this value agrees with the plan: the study started with it, or the option's field has it."""
        if value == self.requested.get(option.name, option.default):
            return True
        field_name = next(name for name, own in options_of(type(self)).items() if any(o.flag == option.flag for o in own))
        return not option.is_switch and value == getattr(self, field_name)

    def check_rungs(self) -> None:
        """Check that interim evaluations at the rungs can be compared with each other and with the objectives.

        Raises:
            InputError: the message says what to change.
        """
        if not self.rungs:
            return
        compared = {"objective": [o.metric for o in self.objectives], "constraint on": [c.metric for c in self.require]}
        for what, names in compared.items():
            if late := [name for name in names if name not in INTERIM_METRICS]:
                raise InputError(
                    f"--early-stopping compares unfinished trials by {', '.join(INTERIM_METRICS)}; "
                    f"this study's {what} {', '.join(late)} is measured only at the end"
                )
        if "epochs" in flat(self.space):
            raise InputError("--early-stopping compares trials after equal shares of equally long trainings; do not search epochs")
        if outside := [rung for rung in self.rungs if not 0 < rung < self.config.epochs]:
            raise InputError(f"--early-stopping {outside[0]}: expected epochs between 1 and {self.config.epochs - 1}")

    def to_json(self) -> dict[str, Any]:
        """Convert the plan to plain data."""
        plain = dataclasses.asdict(dataclasses.replace(self, config=TrialConfig()))
        return plain | {
            "config": self.config.params(),
            "space": {name: space.range_to_json(span) for name, span in self.space.items()},
            "require": [str(constraint) for constraint in self.require],
        }

    @classmethod
    def of_json(cls, plain: Mapping[str, Any]) -> "Plan":
        """Restore a plan from `to_json`.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: the data are no plan of this version.
        """
        plain = {"recipe": "", "left_out": [], "require": [], "rungs": [], "contrasts": [], **plain}
        checked(_PLAIN, {name: plain[name] for name in _PLAIN})
        for name in (plain["name"], plain["study"]):
            if "/" in name or not is_name(name):  # it becomes a part of paths
                raise InputError(f"{name!r} is not the name of a study")
        for declared in all_options(cls):
            declared.words(plain["requested"].get(declared.name, declared.default))
        config = TrialConfig.of(plain["config"])
        return cls(**{
            **plain,
            "config": config,
            "space": checked_space(config, {name: space.range_of_json(span) for name, span in plain["space"].items()}),
            "objectives": tuple(Objective(**objective) for objective in plain["objectives"]),
            "left_out": tuple(plain["left_out"]),
            "require": tuple(Constraint.of(text) for text in plain["require"]),
            "rungs": tuple(plain["rungs"]), "contrasts": tuple(Contrast(**contrast) for contrast in plain["contrasts"]),
            "data": DataIdentity.of_json(plain["data"]),
        })  # fmt: skip


_PLAIN = get_type_hints(Plan) | {
    "config": dict, "space": dict, "objectives": Sequence[dict], "require": Sequence[str], "rungs": Sequence[int],
    "left_out": Sequence[str],
    "contrasts": Sequence[dict], "data": dict,
}  # fmt: skip
"""Types of the fields as they are stored."""
