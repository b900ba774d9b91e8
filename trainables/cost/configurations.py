"""The configurations whose cost is measured: the baselines of a plan, and points of its search space."""

from collections.abc import Mapping
from math import exp, log

import torch

from core.errors import InputError
from core.space import Choice, LogUniform, Range, Switch, Uniform, Value, flat, within
from trainables.cost.pilots import Pilot
from trainables.study.plan import Plan

MIN_POINTS, MAX_POINTS = 3, 8
"""Numbers of points of the search space that are measured; more than `MIN_POINTS` if it has a slot with more options."""
DRAWS = 200
"""Number of points that are tried until enough of them are legal configurations."""


def pilots_of(plan: Plan) -> list[Pilot]:
    """The configurations to measure, points of the search space and baselines in turn, so that both are measured in little time."""
    points = [("", plan.configured(point)) for point in points_of(plan)]
    baselines = [(name, plan.configured(changes)) for name, changes in plan.baselines.items()]
    rounds = range(max(len(points), len(baselines)))
    mixed = [one[i] for i in rounds for one in (points, baselines) if i < len(one)]
    return [Pilot(name, config, config.set(plan.confirm) if plan.replicates else None) for name, config in mixed]


def points_of(plan: Plan) -> list[dict[str, Value]]:
    """Legal points of the search space, spread evenly over it by a Sobol sequence."""
    options = [len(span.options) for span in plan.space.values() if isinstance(span, Switch)]
    count = min(MAX_POINTS, max([MIN_POINTS, *options]))
    names, points = list(flat(plan.space)), []
    for draw in torch.quasirandom.SobolEngine(len(names), scramble=True, seed=0).draw(DRAWS, dtype=torch.float64):
        point = at(plan.space, dict(zip(names, draw.tolist(), strict=True)))
        try:
            plan.configured(point)
        except InputError:
            continue
        points.append(point)
        if len(points) == count:
            break
    return points


def at(space: Mapping[str, Range], shares: Mapping[str, float]) -> dict[str, Value]:
    """A point of a space, from the share of each of its flat ranges that lies below the point's value, in [0, 1)."""
    values: dict[str, Value] = {}
    for name, span in space.items():
        values[name] = _quantile(span, shares[name])
        if isinstance(span, Switch):
            option = str(values[name])
            values |= {knob: _quantile(own, shares[within(name, option, knob)]) for knob, own in span.options[option].items()}
    return values


def _quantile(span: Range, share: float) -> Value:
    match span:
        case Choice(options) | Switch(options):
            return list(options)[int(share * len(options))]
        case Uniform(low, high):
            return low + share * (high - low)
        case LogUniform(low, high):
            return min(high, max(low, exp(log(low) + share * (log(high) - log(low)))))
    return span.low + int(share * (span.high - span.low + 1))
