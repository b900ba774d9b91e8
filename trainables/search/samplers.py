"""Optuna samplers by name. Optuna is imported when a sampler is built, so that `--help` does not load it."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from core.errors import InputError, unknown
from core.space import Range, Switch

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

GP_MAX_TRIALS = 50
"""Number of trials up to which the Gaussian process is worth its seconds per suggestion; see infra/scale.md."""


def _tpe(seed: int, has_switch: bool) -> "BaseSampler":
    from optuna.samplers import TPESampler

    return TPESampler(seed=seed, n_startup_trials=8, multivariate=True, group=has_switch, constant_liar=True)


def _nsga2(seed: int, has_switch: bool) -> "BaseSampler":
    from optuna.samplers import NSGAIISampler

    del has_switch
    return NSGAIISampler(seed=seed)


def _gp(seed: int, has_switch: bool) -> "BaseSampler":
    from optuna.samplers import GPSampler

    del has_switch  # refused by `choose_sampler`: the GP models only parameters that all trials have
    return GPSampler(seed=seed)


def _random(seed: int, has_switch: bool) -> "BaseSampler":
    from optuna.samplers import RandomSampler

    del has_switch
    return RandomSampler(seed=seed)


SAMPLERS: dict[str, Callable[[int, bool], "BaseSampler"]] = {"tpe": _tpe, "nsga2": _nsga2, "gp": _gp, "random": _random}
"""Builders of samplers by name, called with the seed and whether the space has a switch."""


def choose_sampler(requested: str, trials: int, space: Mapping[str, Range]) -> str:
    """The name of the sampler that `--sampler` requests.

    Raises:
        InputError: there is no such sampler, or it cannot search the space.
    """
    if requested not in (*SAMPLERS, "auto"):
        raise unknown("sampler", requested, [*SAMPLERS, "auto"])
    switches = [name for name, span in space.items() if isinstance(span, Switch)]
    if requested == "auto":
        return "gp" if trials <= GP_MAX_TRIALS and not switches else "tpe"
    if requested == "gp" and switches:
        able = ", ".join(name for name in SAMPLERS if name != "gp")
        raise InputError(f"--sampler gp cannot search which {switches[0]} a trial has; use {able}, or --set {switches[0]}=...")
    return requested
