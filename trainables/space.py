"""Our ranges in Optuna's words: the only translation."""

from collections.abc import Mapping

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from core.space import Choice, IntRange, LogUniform, Range, Switch, Uniform, Value, within


def distribution(span: Range) -> BaseDistribution:
    """The distribution with the same ends; both ends of whole numbers can be drawn."""
    match span:
        case Uniform(low, high):
            return FloatDistribution(low, high)
        case LogUniform(low, high):
            return FloatDistribution(low, high, log=True)
        case IntRange(low, high):
            return IntDistribution(low, high)
        case Choice(options) | Switch(options):
            return CategoricalDistribution(tuple(options))


def suggest(trial: optuna.Trial, space: Mapping[str, Range]) -> dict[str, Value]:
    """Values for a space, by flat name: for a switch its choice, and of the knobs in it those of the chosen option.

    Optuna knows them by the names of `core.space.flat`, so that a knob's ranges in different options never meet.
    """
    found: dict[str, Value] = {}
    for name, span in space.items():
        found[name] = _suggest(trial, name, distribution(span))
        if isinstance(span, Switch):
            option = str(found[name])
            for knob, own in span.options[option].items():
                found[knob] = _suggest(trial, within(name, option, knob), distribution(own))
    return found


def _suggest(trial: optuna.Trial, name: str, of: BaseDistribution) -> Value:
    match of:
        case FloatDistribution(low=low, high=high, log=log):
            return trial.suggest_float(name, low, high, log=log)
        case IntDistribution(low=low, high=high):
            return trial.suggest_int(name, low, high)
        case CategoricalDistribution(choices=choices):
            return trial.suggest_categorical(name, choices)  # pyright: ignore[reportReturnType]
    raise TypeError(of)
