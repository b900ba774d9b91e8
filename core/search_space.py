"""Building search spaces from the ranges that components declare, and checking them against a configuration."""

import itertools
from collections.abc import Iterable, Iterator, Mapping

from core import space
from core.config import SLOTS, TrialConfig
from core.errors import InputError, unknown
from core.knobs import knobs_of
from core.space import Range, Switch


def ranges(cls: type, prefix: str = "", only: tuple[str, ...] = ()) -> dict[str, Range]:
    """The search ranges that a class declares: `{prefix + name: range}`, for all its knobs or only for those named.

    Raises:
        InputError: a name in `only` has no range.
    """
    declared = {name: knob.span for name, knob in knobs_of(cls).items() if knob.span is not None}
    for name in only:
        if name not in declared:
            raise unknown(f"searched knob of {cls.__name__}", name, declared)
    return {prefix + name: span for name, span in declared.items() if not only or name in only}


def switch(
    slot: str,
    family: Mapping[str, type],
    only: Iterable[str] | Mapping[str, tuple[str, ...]] = (),
    limits: Mapping[str, Mapping[str, Range]] | None = None,
) -> Switch:
    """A choice among the components of a slot, each with its declared ranges.

    Args:
        slot: name of the slot, such as "loss".
        family: components of the slot by name, such as `LOSSES`.
        only: components to choose from, or `{component: knobs to search}`. Empty means all components; an empty tuple of knobs
            means all its declared ranges.
        limits: `{component: {knob: range}}` replaces declared ranges or adds missing ones. Knobs are named without their slot.

    Raises:
        InputError: there is no such component, or a knob in `only` has no range.
    """
    limits = limits or {}
    picked = only if isinstance(only, Mapping) else dict.fromkeys(only, ())
    picked = picked or dict.fromkeys(family, ())
    for name in (*picked, *limits):
        if name not in family or name not in picked:
            raise unknown(slot, name, picked if name in family else family)
    own = {name: {f"{slot}.{knob}": span for knob, span in limits.get(name, {}).items()} for name in picked}
    return Switch({name: ranges(family[name], f"{slot}.", only=knobs) | own[name] for name, knobs in picked.items()})


def checked_space(config: TrialConfig, space_: Mapping[str, Range]) -> dict[str, Range]:
    """Check that each range names a knob and is legal as a whole; return the ranges in the types of their knobs.

    The knobs of a switch are checked with their option chosen. A knob of a switched slot may be listed outside the options of
    the switch if every option has it.

    Raises:
        InputError: there is no such knob, or the knob rejects an end of the range.
    """
    checked: dict[str, Range] = {}
    for name, span in space_.items():
        slot = name.partition(".")[0]
        switch_ = None if slot == name else space_.get(slot)
        if isinstance(span, Switch):
            configs = _option_configs(config, space_, name, span)
            checked[name] = Switch({option: _checked_option(name, option, chosen, span) for option, chosen in configs})
        elif isinstance(switch_, Switch):
            for option, chosen in _option_configs(config, space_, slot, switch_):
                checked[name] = _checked_outside(slot, option, chosen, name, span, switch_)
        else:
            checked[name] = _checked_range(config, name, span, f"space {name}")
    return checked


def with_legal_options(config: TrialConfig, space_: Mapping[str, Range]) -> dict[str, Range]:
    """The space without options of switches that cannot be combined with the rest, and without switches that have no other."""
    legal: dict[str, Range] = {}
    for name, span in space_.items():
        if isinstance(span, Switch):
            options = {option: own for option, own in span.options.items() if _is_legal(config, space_, name, option)}
            legal |= {name: Switch(options)} if options else {}
        else:
            legal[name] = span
    return legal


def _is_legal(config: TrialConfig, space_: Mapping[str, Range], slot: str, option: str) -> bool:
    """Whether a configuration with an option of a switch is legal with some options of the other switches."""
    try:
        return bool(list(_option_configs(config, space_, slot, Switch({option: {}}))))
    except InputError:
        return False


def option_configs(config: TrialConfig, space_: Mapping[str, Range]) -> Iterator[TrialConfig]:
    """One legal configuration for each option of each switch.

    Raises:
        InputError: an option cannot be combined with any of the other options.
    """
    for name, span in space_.items():
        if isinstance(span, Switch):
            yield from (chosen for _, chosen in _option_configs(config, space_, name, span))


def _option_configs(
    config: TrialConfig, space_: Mapping[str, Range], slot: str, switch_: Switch
) -> Iterator[tuple[str, TrialConfig]]:
    """Each option of a switch, with the first legal configuration that has it among the options of the other switches."""
    if slot not in SLOTS:
        raise unknown("slot", slot, SLOTS)
    others = [[(name, o) for o in span.options] for name, span in space_.items() if isinstance(span, Switch) and name != slot]
    for option in switch_.options:
        if option not in SLOTS[slot]:
            raise unknown(slot, option, SLOTS[slot])
        reason = None
        for other_options in itertools.chain([()], itertools.product(*others)):
            try:
                chosen = config.set({**dict(other_options), slot: option})
            except InputError as error:
                reason = reason or error
            else:
                yield option, chosen
                break
        else:
            raise InputError(f"space {slot}={option}: {reason}")


def _checked_option(slot: str, option: str, chosen: TrialConfig, switch_: Switch) -> dict[str, Range]:
    for name in switch_.options[option]:
        if not name.startswith(f"{slot}."):
            raise InputError(f"space {slot}={option} {name}: only the knobs of {slot} can depend on which {slot} is chosen")
    own = switch_.options[option]
    if f"{slot}.norm" in own and (norms := space.ends(own[f"{slot}.norm"]))[1:] == ():  # decides which radii are legal
        chosen = chosen.set({f"{slot}.norm": norms[0]})
    return {name: _checked_range(chosen, name, span, f"space {slot}={option} {name}") for name, span in own.items()}


def _checked_outside(slot: str, option: str, chosen: TrialConfig, name: str, span: Range, switch_: Switch) -> Range:
    if name in switch_.options[option]:
        raise InputError(f"space {name}: it is listed both outside the switch of {slot} and in its option {option}; remove one")
    if name not in chosen.params():
        raise InputError(f"space {name}: {slot}={option} has no such knob; move it into the options of the switch that have it")
    return _checked_range(chosen, name, span, f"space {name} of {slot}={option}")


def _checked_range(config: TrialConfig, name: str, span: Range, where: str) -> Range:
    """Convert a range to the type of its knob; `where` begins the error message."""
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
            text = space.range_text(span)
            raise InputError(f"{where}: {text} contains fractions, {name} takes integers; write LOW:HIGH or A,B,C")
        case space.Uniform(low, high) | space.LogUniform(low, high):
            return type(span)(float(low), float(high))
        case space.IntRange(low, high) if knob.type is float:
            return space.Uniform(float(low), float(high))
    return span
