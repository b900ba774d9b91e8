"""Short names of trials, the same in MLflow and in the report: `000 undefended`, `018 crl + pgd 0.08`."""

from collections.abc import Iterator, Mapping
from itertools import chain, zip_longest

from core.space import Range, Switch, Value
from trainables.study.outcome import Outcome
from trainables.study.text import short
from trainables.study.trial import Trial

MAX_LENGTH = 60
"""Number of characters of a name at most."""
METHODS = ("loss", "perturbation", "regularizer")
"""Slots whose component a name contains if it does something; the other slots only if they are searched."""
OTHERS = ("augmentation", "optimizer", "net")
OFF = ("cross_entropy", "none")
"""Components that a name leaves out."""
RADIUS = "perturbation.epsilon"
"""The knob that a name gives without its own name."""
MAX_KNOBS = 2
"""Number of searched knobs in a name at most."""


def trial_name(number: int, params: Mapping[str, Value], baseline: str, space: Mapping[str, Range], trials: int) -> str:
    """Describe a trial in a few words: its number, then its baseline, or its components and the most telling searched values.

    The radius of a perturbation tells most: if it is searched, it is the only value. Otherwise there are up to two searched knobs,
    first one of each component and then a second one, in the order of the space.

    Args:
        number: number of the trial, which makes the name unique in its study.
        params: configuration in flat form.
        baseline: name of the baseline; empty if the trial is none.
        space: search space of the study.
        trials: planned number of trials, which determines the number of digits.
    """
    words = f"{number:0{max(3, len(str(trials - 1)))}d} {baseline or _description(params, space)}"
    return words if len(words) <= MAX_LENGTH else words[: MAX_LENGTH - 1] + "\N{HORIZONTAL ELLIPSIS}"


def described(trial: Trial, outcome: Outcome) -> str:
    """The name of a trial of a study; see `trial_name`."""
    return trial_name(trial.number, trial.params, trial.baseline, outcome.space, outcome.planned)


def _description(params: Mapping[str, Value], space: Mapping[str, Range]) -> str:
    slots = [slot for slot in (*METHODS, *(o for o in OTHERS if o in space)) if params.get(slot, "none") not in OFF]
    searched = list(_searched(params, space))
    own = {slot: [knob for knob in searched if knob.startswith(f"{slot}.")] for slot in slots}
    rest = [knob for knob in searched if knob.partition(".")[0] not in slots]
    by_turns = [knob for knob in chain(*zip_longest(*own.values(), rest)) if knob]
    shown = [RADIUS] if RADIUS in searched else by_turns[:MAX_KNOBS]
    parts = [" ".join([str(params[slot]), *_values(params, [k for k in knobs if k in shown], slot)]) for slot, knobs in own.items()]
    settings = [f"{knob}={short(params[knob])}" for knob in rest if knob in shown]
    return ", ".join([" + ".join(parts) or str(params.get("loss", "")), *settings])


def _searched(params: Mapping[str, Value], space: Mapping[str, Range]) -> Iterator[str]:
    """The searched knobs that a configuration has, without slots."""
    for name, span in space.items():
        if isinstance(span, Switch):
            yield from (knob for knob in span.options.get(str(params.get(name)), {}) if knob in params)
        elif name in params:
            yield name


def _values(params: Mapping[str, Value], knobs: list[str], slot: str) -> Iterator[str]:
    """The radius of a perturbation, searched or not, and other knobs with their names."""
    if slot == "perturbation" and RADIUS in params:
        yield short(params[RADIUS])
    yield from (f"{knob.partition('.')[2]}={short(params[knob])}" for knob in knobs if knob != RADIUS)
