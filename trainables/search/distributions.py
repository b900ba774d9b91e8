"""The translation of search ranges into Optuna distributions."""

from collections.abc import Mapping

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from core.space import Choice, IntRange, LogUniform, Range, Switch, Uniform, Value, within


def distribution(span: Range) -> BaseDistribution:
    """The Optuna distribution of a range, with the same ends; both ends of an integer range are included."""
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
    """Suggest values for a space by flat name; a switch yields its option and the knobs of that option.

    Optuna sees the names of `core.space.flat`, so that ranges of the same knob in different options are kept apart.
    """
    values: dict[str, Value] = {}
    for name, span in space.items():
        values[name] = _suggest(trial, name, distribution(span))
        if isinstance(span, Switch):
            option = str(values[name])
            for knob, own in span.options[option].items():
                values[knob] = _suggest(trial, within(name, option, knob), distribution(own))
    return values


def _suggest(trial: optuna.Trial, name: str, of: BaseDistribution) -> Value:
    match of:
        case FloatDistribution(low=low, high=high, log=log):
            return trial.suggest_float(name, low, high, log=log)
        case IntDistribution(low=low, high=high):
            return trial.suggest_int(name, low, high)
        case CategoricalDistribution(choices=choices):
            return trial.suggest_categorical(name, choices)  # pyright: ignore[reportReturnType]
    raise TypeError(of)
