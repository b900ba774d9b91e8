"""What turning a knob did to a metric, as far as a few trials can tell: importance and marginal effect, with intervals.

A random forest (scikit-learn) learns the metric from the knobs of the sampled trials. Its out-of-bag predictions say whether it has
learned anything; if not, nothing is said. The marginal effect of a knob is the forest's partial dependence between the 10th and
the 90th percentile of the values that were tried; its interval is that of forests on bootstraps of the trials. A forest shrinks
towards the mean, so true effects tend to be larger than these.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from sklearn.ensemble import RandomForestRegressor

from core.space import Choice, Range, Switch, Value
from core.stats import Interval

FEWEST = 10
"""Trials below which nothing is said."""
MOST = 256
"""Trials that a tree learns from, and that a prediction is averaged over, so that thousands cost no more."""
TREES, BOOTSTRAPS, TREES_EACH = 200, 40, 10
Params = Mapping[str, Value]


class Step(NamedTuple):
    """A knob that is turned from one value to another."""

    knob: str
    low: Value
    high: Value


@dataclass(frozen=True)
class Effect:
    """By how much a step moves a metric, the other knobs as they were."""

    mean: float
    interval: Interval
    """95 % of bootstraps."""

    @property
    def told(self) -> bool:
        """Whether its direction can be told."""
        return self.interval.low > 0 or self.interval.high < 0


@dataclass(frozen=True)
class Response:
    """Of one metric to the knobs."""

    trials: int
    predicted: float
    """Out-of-bag R2 of the forest: the share of the differences between trials that it predicts without having seen them."""
    importance: dict[str, float] = field(default_factory=dict)
    """Shares of what shuffling a knob costs the prediction of left-out trials; empty where nothing can be told."""
    effects: dict[Step, Effect] = field(default_factory=dict)


@dataclass(frozen=True)
class _Table:
    """Knobs as columns of numbers."""

    x: np.ndarray
    """[n, columns]; NaN where a trial does not have the knob."""
    blocks: dict[str, list[int]]
    """Columns that are turned together: of a number its own, of a word one per option, of a switch also its options' knobs."""
    own: dict[str, list[int]]
    """Columns of the knob alone, which share nothing: what its importance is asked of."""
    words: dict[str, list[Value]]
    """The options of each knob that is no number, the commonest first."""


def responses(
    rows: Sequence[Params], values: Mapping[str, Sequence[float]], space: Mapping[str, Range], seed: int = 0
) -> dict[str, Response]:
    """How metrics respond to the searched knobs.

    Args:
        rows: parameters of sampled trials. values: of each metric, one number per trial. space: what was searched.
        seed: of forests and bootstraps.
    """
    if len(rows) < FEWEST:
        return {name: Response(len(rows), 0.0) for name in values}
    table = _table(rows, space)
    steps = [step for knob in table.blocks for step in _steps(knob, rows, table)]
    return {name: _response(table, rows, steps, np.asarray(column, float), seed) for name, column in values.items()}


def _table(rows: Sequence[Params], space: Mapping[str, Range]) -> _Table:
    columns: list[list[float]] = []
    blocks: dict[str, list[int]] = {}
    within: dict[str, list[int]] = {}
    words: dict[str, list[Value]] = {}

    def add(knob: str, span: Range) -> None:
        own = [row.get(knob) for row in rows]
        known = [value for value in own if value is not None]
        options = sorted(set(known), key=lambda option: (-known.count(option), str(option)))
        if len(options) < 2:
            return
        blocks[knob] = []
        numeric = not isinstance(span, Choice | Switch) or all(_is_number(option) for option in options)
        if not numeric:
            words[knob] = options
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
                within[name] = [column for knob in inner for column in blocks.get(knob, [])]
    wide = {name: own + within.get(name, []) for name, own in blocks.items()}
    return _Table(np.array(columns, float).T.reshape(len(rows), len(columns)), wide, blocks, words)


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _steps(knob: str, rows: Sequence[Params], table: _Table) -> list[Step]:
    """From the 10th to the 90th percentile of a number, from the commonest word to each other."""
    if knob in table.words:
        first, *others = table.words[knob]
        return [Step(knob, first, other) for other in others if _count(knob, other, rows) >= 3 <= _count(knob, first, rows)]
    known = [row[knob] for row in rows if knob in row]
    low, high = np.quantile(np.array(known, float), [0.1, 0.9], method="nearest")
    kind = type(known[0])
    return [Step(knob, kind(low), kind(high))] if len(known) >= FEWEST and low < high else []


def _count(knob: str, option: Value, rows: Sequence[Params]) -> int:
    return sum(row.get(knob) == option for row in rows)


def _response(table: _Table, rows: Sequence[Params], steps: Sequence[Step], y: np.ndarray, seed: int) -> Response:
    n = len(y)
    if not table.blocks or np.ptp(y) == 0:
        return Response(n, 0.0)
    whole = _forest(TREES, seed, n, judged=True).fit(table.x, y)
    if whole.oob_score_ <= 0:
        return Response(n, float(whole.oob_score_))
    stream = np.random.Generator(np.random.PCG64(seed))
    turned = [_turned(step, table, rows, stream) for step in steps]
    losses, moves = [], []
    for b in range(BOOTSTRAPS):
        drawn = stream.integers(0, n, n)
        forest = _forest(TREES_EACH, seed + 1 + b, n).fit(table.x[drawn], y[drawn])
        moves.append(_moved(forest, turned))
        if len(left := np.setdiff1d(np.arange(n), drawn)[:MOST]):
            losses.append(_shuffled(forest, table, left, y, stream))
    cost = np.maximum(np.mean(losses, axis=0), 0)
    shares = cost / cost.sum() if cost.sum() > 0 else cost
    low, high = np.quantile(moves, [0.025, 0.975], axis=0) if steps else ([], [])
    effects = {
        step: Effect(float(mean), Interval(float(a), float(b)))
        for step, mean, a, b in zip(steps, _moved(whole, turned), low, high, strict=True)
    }
    return Response(n, float(whole.oob_score_), dict(zip(table.blocks, map(float, shares), strict=True)), effects)


def _forest(trees: int, seed: int, n: int, judged: bool = False) -> RandomForestRegressor:
    return RandomForestRegressor(trees, random_state=seed, max_samples=min(n, MOST), oob_score=judged)


def _turned(step: Step, table: _Table, rows: Sequence[Params], stream: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The trials that have the knob, as they would be before and after the step.

    A word comes with the whole block of some trial that has it, so that a switch brings knobs that go with its option.
    """
    columns = table.blocks[step.knob]
    having = np.flatnonzero([step.knob in row for row in rows])[:MOST]
    ends = []
    for value in (step.low, step.high):
        x = table.x[having].copy()
        if step.knob in table.words:
            donors = np.flatnonzero([row.get(step.knob) == value for row in rows])
            x = np.repeat(x, 4, axis=0)
            x[:, columns] = table.x[stream.choice(donors, len(x))][:, columns]
        else:
            x[:, columns] = float(value)
        ends.append(x)
    return ends[0], ends[1]


def _moved(forest: RandomForestRegressor, turned: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[float]:
    """The partial dependence after each step minus that before; all in one prediction, because a call costs more than its rows."""
    if not turned:
        return []
    parts = [end for pair in turned for end in pair]
    ends = np.split(forest.predict(np.concatenate(parts)), np.cumsum([len(part) for part in parts])[:-1])
    return [float(after.mean() - before.mean()) for before, after in zip(ends[::2], ends[1::2], strict=True)]


def _shuffled(
    forest: RandomForestRegressor, table: _Table, left: np.ndarray, y: np.ndarray, stream: np.random.Generator, repeats: int = 3
) -> list[float]:  # fmt: skip
    """What shuffling each block among left-out trials adds to the squared error there."""
    parts = [table.x[left]]
    for columns in table.own.values():
        for _ in range(repeats):
            x = table.x[left].copy()
            x[:, columns] = x[stream.permutation(len(left))][:, columns]
            parts.append(x)
    errors = ((forest.predict(np.concatenate(parts)).reshape(len(parts), -1) - y[left]) ** 2).mean(1)
    return [float(e) for e in errors[1:].reshape(-1, repeats).mean(1) - errors[0]]
