"""Importance and marginal effects of knobs on a metric, with intervals, from a random forest.

A random forest (scikit-learn) predicts the metric from the knobs of the sampled trials. If its out-of-bag R2, which is
cross-validated, is below `MIN_R2`, no effect is reported. The marginal effect of a knob is the forest's partial dependence between
the 10th and the 90th percentile of the values that were tried; its interval comes from forests on bootstraps of the trials. A
forest shrinks towards the mean, so true effects tend to be larger than these.

An effect is significant if its interval excludes zero and if the metric depends on the knob at all: a permutation test of their
distance correlation, corrected for the number of knobs (`trainables.reporting.dependence`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from sklearn.ensemble import RandomForestRegressor

from core.space import Choice, Range, Switch, Value
from core.stats import Interval
from trainables.reporting.dependence import dependence_p_value, holm

MIN_TRIALS = 10
"""Smallest number of trials for which effects are reported."""
MIN_R2 = 0.3
"""Smallest out-of-bag R2 of a forest whose effects are reported."""
LEVEL = 0.05
"""Level of the tests of dependence, for all knobs of a metric together."""
MAX_SAMPLES = 256
"""Largest number of trials that a tree is trained on and that a prediction is averaged over; bounds the cost."""
MIN_PER_OPTION = 3
"""Smallest number of trials with each option of a comparison."""
DONORS = 4
"""Number of sampled option blocks per trial, when the option of a switch changes."""
TREES, BOOTSTRAPS, TREES_PER_BOOTSTRAP = 200, 40, 10
"""Trees of the forest, number of bootstraps, and trees of the forest on each bootstrap."""
Params = Mapping[str, Value]


class KnobStep(NamedTuple):
    """A change of one knob from one value to another."""

    knob: str
    low: Value
    high: Value


@dataclass(frozen=True)
class Effect:
    """Change of a metric caused by a knob step, with the other knobs unchanged."""

    mean: float
    interval: Interval
    """Interval that contains 95 % of the bootstraps."""
    p_value: float = 0.0
    """P-value of the metric's dependence on the knob, corrected for the number of knobs (Holm)."""

    @property
    def significant(self) -> bool:
        """Whether the interval excludes zero and the metric depends on the knob."""
        return self.p_value <= LEVEL and (self.interval.low > 0 or self.interval.high < 0)


@dataclass(frozen=True)
class Response:
    """Response of one metric to the knobs."""

    trials: int
    r2: float
    """Out-of-bag R2 of the forest, the share of the variance that it predicts on trials that it was not trained on."""
    importance: dict[str, float] = field(default_factory=dict)
    """Share of each knob in the cost of shuffling knobs among left-out trials; empty without a useful forest."""
    p_values: dict[str, float] = field(default_factory=dict)
    """P-value of the metric's dependence on each knob, corrected for the number of knobs (Holm); empty like `importance`."""
    effects: dict[KnobStep, Effect] = field(default_factory=dict)
    """Effect of each knob step; empty without a useful forest."""


@dataclass(frozen=True)
class _Table:
    """Knobs as columns of numbers."""

    x: np.ndarray
    """Values, [n, columns]; NaN where a trial does not have the knob."""
    blocks: dict[str, list[int]]
    """Columns that change together: a number's own column; one per option of a choice; for a switch, also its options' knobs."""
    own: dict[str, list[int]]
    """Columns of the knob alone, used for its importance."""
    options: dict[str, list[Value]]
    """Options of each knob that is not a number, the most frequent first."""


def responses(
    rows: Sequence[Params], values: Mapping[str, Sequence[float]], space: Mapping[str, Range], seed: int = 0
) -> dict[str, Response]:
    """The responses of metrics to the searched knobs.

    Args:
        rows: parameters of sampled trials.
        values: values of each metric, one per trial.
        space: the search space.
        seed: seed of forests and bootstraps.
    """
    if len(rows) < MIN_TRIALS:
        return {name: Response(len(rows), 0.0) for name in values}
    table = _table(rows, space)
    steps = [step for knob in table.blocks for step in _steps(knob, rows, table)]
    return {name: _response(table, rows, steps, np.asarray(column, float), seed) for name, column in values.items()}


def _table(rows: Sequence[Params], space: Mapping[str, Range]) -> _Table:
    columns: list[list[float]] = []
    blocks: dict[str, list[int]] = {}
    inner_columns: dict[str, list[int]] = {}
    all_options: dict[str, list[Value]] = {}

    def add(knob: str, span: Range) -> None:
        own = [row.get(knob) for row in rows]
        present = [value for value in own if value is not None]
        options = sorted(set(present), key=lambda option: (-present.count(option), str(option)))
        if len(options) < 2:
            return
        blocks[knob] = []
        numeric = not isinstance(span, Choice | Switch) or all(_is_number(option) for option in options)
        if not numeric:
            all_options[knob] = options
        for option in [None] if numeric else options:
            blocks[knob].append(len(columns))
            columns.append([np.nan if v is None else float(v if option is None else v == option) for v in own])

    for name, span in space.items():
        add(name, span)
        if isinstance(span, Switch):
            inner = {knob: s for own in span.options.values() for knob, s in own.items()}
            for knob, s in inner.items():
                add(knob, s)
            if name in blocks:
                inner_columns[name] = [column for knob in inner for column in blocks.get(knob, [])]
    wide = {name: own + inner_columns.get(name, []) for name, own in blocks.items()}
    return _Table(np.array(columns, float).T.reshape(len(rows), len(columns)), wide, blocks, all_options)


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _steps(knob: str, rows: Sequence[Params], table: _Table) -> list[KnobStep]:
    """The steps of a knob: from the 10th to the 90th percentile of a number, or from the most frequent option to each other one."""
    if knob in table.options:
        first, *others = table.options[knob]
        counts = {option: sum(row.get(knob) == option for row in rows) for option in table.options[knob]}
        enough = {option for option, count in counts.items() if count >= MIN_PER_OPTION}
        return [KnobStep(knob, first, other) for other in others if {first, other} <= enough]
    present = [row[knob] for row in rows if knob in row]
    low, high = np.quantile(np.array(present, float), [0.1, 0.9], method="nearest")
    kind = type(present[0])
    return [KnobStep(knob, kind(low), kind(high))] if len(present) >= MIN_TRIALS and low < high else []


def _response(table: _Table, rows: Sequence[Params], steps: Sequence[KnobStep], y: np.ndarray, seed: int) -> Response:
    n = len(y)
    if not table.blocks or np.ptp(y) == 0:
        return Response(n, 0.0)
    forest = _forest(TREES, seed, n, out_of_bag=True).fit(table.x, y)
    if forest.oob_score_ < MIN_R2:
        return Response(n, float(forest.oob_score_))
    stream = np.random.Generator(np.random.PCG64(seed))
    inputs = [_step_inputs(step, table, rows, stream) for step in steps]
    costs, effects = [], []
    for b in range(BOOTSTRAPS):
        drawn = stream.integers(0, n, n)
        small = _forest(TREES_PER_BOOTSTRAP, seed + 1 + b, n).fit(table.x[drawn], y[drawn])
        effects.append(_step_effects(small, inputs))
        if len(left_out := np.setdiff1d(np.arange(n), drawn)[:MAX_SAMPLES]):
            costs.append(_shuffling_costs(small, table, left_out, y, stream))
    cost = np.maximum(np.mean(costs, axis=0), 0)
    shares = cost / cost.sum() if cost.sum() > 0 else cost
    low, high = np.quantile(effects, [0.025, 0.975], axis=0) if steps else ([], [])
    p_values = holm({knob: dependence_p_value(table.x[:, own], y, seed) for knob, own in table.own.items()})
    by_step = {
        step: Effect(float(mean), Interval(float(a), float(b)), p_values[step.knob])
        for step, mean, a, b in zip(steps, _step_effects(forest, inputs), low, high, strict=True)
    }
    return Response(n, float(forest.oob_score_), dict(zip(table.blocks, map(float, shares), strict=True)), p_values, by_step)


def _forest(trees: int, seed: int, n: int, out_of_bag: bool = False) -> RandomForestRegressor:
    return RandomForestRegressor(trees, random_state=seed, max_samples=min(n, MAX_SAMPLES), oob_score=out_of_bag)


def _step_inputs(
    step: KnobStep, table: _Table, rows: Sequence[Params], stream: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The trials that have the knob, with its value before and after the step.

    An option is set together with the whole block of some trial that has it, so that an option of a switch comes with knobs that
    belong to it.
    """
    columns = table.blocks[step.knob]
    having = np.flatnonzero([step.knob in row for row in rows])[:MAX_SAMPLES]
    ends = []
    for value in (step.low, step.high):
        x = table.x[having].copy()
        if step.knob in table.options:
            donors = np.flatnonzero([row.get(step.knob) == value for row in rows])
            x = np.repeat(x, DONORS, axis=0)
            x[:, columns] = table.x[stream.choice(donors, len(x))][:, columns]
        else:
            x[:, columns] = float(value)
        ends.append(x)
    return ends[0], ends[1]


def _step_effects(forest: RandomForestRegressor, inputs: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[float]:
    """Partial dependence after each step minus that before it; from one prediction, because each call has a high fixed cost."""
    if not inputs:
        return []
    parts = [end for pair in inputs for end in pair]
    ends = np.split(forest.predict(np.concatenate(parts)), np.cumsum([len(part) for part in parts])[:-1])
    return [float(after.mean() - before.mean()) for before, after in zip(ends[::2], ends[1::2], strict=True)]


def _shuffling_costs(
    forest: RandomForestRegressor, table: _Table, left_out: np.ndarray, y: np.ndarray, stream: np.random.Generator, repeats: int = 3
) -> list[float]:  # fmt: skip
    """Increase of the squared error on left-out trials when each knob is shuffled among them."""
    parts = [table.x[left_out]]
    for columns in table.own.values():
        for _ in range(repeats):
            x = table.x[left_out].copy()
            x[:, columns] = x[stream.permutation(len(left_out))][:, columns]
            parts.append(x)
    errors = ((forest.predict(np.concatenate(parts)).reshape(len(parts), -1) - y[left_out]) ** 2).mean(1)
    return [float(e) for e in errors[1:].reshape(-1, repeats).mean(1) - errors[0]]
