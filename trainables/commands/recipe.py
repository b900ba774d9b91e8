"""The effect of `--recipe` on a study: its settings, search space, baselines and contrasts.

A recipe says how a network is trained, and leaves open what it does not name. So a study keeps the components of its preset in the
slots that the recipe does not name, and loses what no longer fits: ranges of knobs that the recipe's components do not have,
baselines in which a part of the recipe would remain, and questions about points that the search does not have any more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core.config import CHOICES, SLOTS, TrialConfig
from core.errors import InputError, unknown
from core.knobs import knobs_of
from core.recipes import RECIPES, Recipe, method_of
from core.search_space import with_legal_options
from core.space import Range, Switch, Value, contains, range_text
from core.study import UNDEFENDED, Contrast


def recipe_named(name: str) -> Recipe:
    """The settings of a recipe; none for an empty name.

    Raises:
        InputError: there is no such recipe.
    """
    if name and name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return RECIPES[name] if name else {}


def layered(*layers: Mapping[str, Value]) -> dict[str, Value]:
    """Settings of which later ones replace earlier ones; the knobs of a component go when a later layer has another one."""
    settings: dict[str, Value] = {}
    for layer in layers:
        replaced = {slot for slot in CHOICES if slot in layer and str(settings.get(slot, layer[slot])) != str(layer[slot])}
        settings = {name: value for name, value in settings.items() if name.partition(".")[0] not in replaced} | dict(layer)
    return settings


def illegal_with(name: str, error: InputError, preset: TrialConfig, fixed: Mapping[str, object]) -> InputError:
    """The error of a configuration with a recipe, with settings that remove the components that are the preset's alone."""
    own = preset.params()
    others = [f"{s}={plain}" for s, plain in UNDEFENDED.items() if s not in {*RECIPES[name], *fixed} and own[s] != plain]
    remedy = f"; without the preset's own components: --set {' '.join(others)}" if others else ""
    return InputError(f"with --recipe {name}: {error}{remedy}")


@dataclass(frozen=True)
class RecipeInStudy:
    """A recipe that is put on the configuration of a preset."""

    name: str
    settings: Recipe
    preset: TrialConfig
    """The preset's configuration."""
    config: TrialConfig
    """The configuration with the recipe and with all settings that were given."""

    def ranges(self, ranges: Mapping[str, Range]) -> tuple[dict[str, Range], list[str]]:
        """The ranges that fit the configuration, and a line on each that does not.

        The range that a component of the preset declares is replaced by that of the component that took its place, because the same
        name has another scale there.
        """
        fitting: dict[str, Range] = {}
        for name, span in ranges.items():
            own = self._own_range(name, span, ranges)
            fitting |= {name: own} if own else {}
        fitting = with_legal_options(self.config, fitting)
        switched = [(name, option) for name, span in ranges.items() if isinstance(span, Switch) for option in span.options]
        illegal = [(name, option) for name, option in switched if name not in fitting or not contains(fitting[name], option)]
        lines = [
            f"the range of {name}, which {self._component(name)} does not have"
            for name, span in ranges.items() if name not in fitting and not isinstance(span, Switch)
        ]  # fmt: skip
        lines += [f"{name}={option} in the search, which does not go with the rest" for name, option in illegal]
        return fitting, lines

    def baselines(self, baselines: Mapping[str, Mapping[str, Value]]) -> tuple[dict[str, dict[str, Value]], list[str]]:
        """The baselines that the recipe does not change, and a line on each that it does or that is not legal with it."""
        fitting: dict[str, dict[str, Value]] = {}
        lines = []
        for name, changes in baselines.items():
            if remaining := self._remaining(changes):
                lines.append(f"the baseline {name!r}, in which {remaining} of the recipe would remain")
                continue
            try:
                self.config.set(changes)
            except InputError as error:
                lines.append(f"the baseline {name!r}: {error}")
            else:
                fitting[name] = dict(changes)
        return fitting, lines

    def contrasts(
        self, contrasts: Sequence[Contrast], baselines: Mapping[str, object], ranges: Mapping[str, Range]
    ) -> tuple[tuple[Contrast, ...], list[str]]:  # fmt: skip
        """The contrasts that can be answered with these baselines and ranges, and a line on each of the others."""
        fitting, lines = [], []
        for contrast in contrasts:
            if reason := self._unanswerable(contrast, baselines, ranges):
                lines.append(f"the question {contrast.question!r}: {reason}")
            else:
                fitting.append(contrast)
        return tuple(fitting), lines

    def nothing_to_search(self, ranges: Mapping[str, Range]) -> InputError:
        """The error that none of a study's ranges fits, with a range that can be typed instead."""
        slots = ("loss", "perturbation", "regularizer", "augmentation")
        knobs = {f"{slot}.{name}": knob for slot in slots for name, knob in knobs_of(type(getattr(self.config, slot))).items()}
        knobs["optimizer.lr"] = self.config.knob("optimizer.lr")
        name, span = next((name, knob.span) for name, knob in knobs.items() if knob.span is not None)
        return InputError(
            f"--recipe {self.name} has none of the searched settings {', '.join(ranges)}; "
            f"add a range to search, such as --space {name}={range_text(span)}"
        )

    def _own_range(self, name: str, span: Range, ranges: Mapping[str, Range]) -> Range | None:
        slot = name.partition(".")[0]
        if isinstance(span, Switch) or isinstance(ranges.get(slot), Switch):
            return span
        if name not in self.config.params():
            return None
        is_replaced = slot in SLOTS and type(getattr(self.preset, slot)) is not type(getattr(self.config, slot))
        is_declared = is_replaced and name in self.preset.params() and span == self.preset.knob(name).span
        return self.config.knob(name).span if is_declared else span

    def _component(self, name: str) -> str:
        slot = name.partition(".")[0]
        return f"{slot}={self.config.params()[slot]}"

    def _remaining(self, changes: Mapping[str, Value]) -> str:
        """The settings of the recipe's method, still in the configuration, in slots that some changes do not name."""
        named, params = {name.partition(".")[0] for name in changes}, self.config.params()
        method = method_of(self.settings)
        left = [n for n, value in method.items() if n.partition(".")[0] not in named and params.get(n) == value]
        return ", ".join(f"{n}={params[n]}" for n in left if n in SLOTS or n.partition(".")[0] not in left)

    def _unanswerable(self, contrast: Contrast, baselines: Mapping[str, object], ranges: Mapping[str, Range]) -> str:
        """The reason why no confirmed points can answer a contrast; empty if they can."""
        names = [name for name in (contrast.treatment, contrast.control) if isinstance(name, str)]
        if left_out := [name for name in names if name not in baselines]:
            return f"it needs the baseline {left_out[0]!r}"
        if isinstance(contrast.treatment, str):
            return ""
        params = self.config.params()
        for name, value in contrast.treatment.items():
            is_searched = name in ranges or isinstance(ranges.get(name.partition(".")[0]), Switch)
            if (name in ranges and not contains(ranges[name], value)) or (not is_searched and params.get(name) != value):
                return f"no point of the search has {name}={value}"
        if remaining := self._remaining(contrast.treatment):
            return f"its points would have {remaining} of the recipe, too"
        return ""
