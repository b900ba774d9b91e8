"""The parts of a table or figure of a paper: the networks of its rows, what is measured on them, and the published numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from core.recipes import Recipe
from core.space import Value
from trainables.cost.passes import Passes, Sizes

Values = Mapping[str, float | Sequence[float]]
"""Measured values of one network, by name: numbers, and series such as a curve's x and y."""
Results = Mapping[str, Sequence[Values]]
"""Values by row; one element per seed."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A quantity that is measured on trained networks, besides what the settings `judge.*` ask for."""

    function: Callable[..., Values]
    """Called as function(networks, images, device, **settings). `networks` maps `core.bound.TARGET` and the names of the
    sources to a `core.bound.Trained`. A function of a module of `core`, because every worker imports it."""
    sources: Mapping[str, Recipe] = field(default_factory=dict)
    """Further networks, by name: the changes that each makes to the settings of the item's preset. They are trained on the same
    members as the row's network, with independent random seeds."""
    passes: Callable[[Sizes, Mapping[str, Value]], Passes] | None = None
    """The forward and backward passes through a network of the row that the measurement takes on a pool of some sizes with some
    settings, for the estimate of `--dry-run`; None if they are negligible beside training."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """The settings and the effort of an item."""

    config: Recipe
    """Settings of every network. They replace those of the item's rows, so that a small preset can shorten every training."""
    seeds: int = 1
    """Number of networks per row. The first has the split's own members, the others redraw members from members and val."""
    rows: Mapping[str, Recipe] = field(default_factory=dict)
    """Rows of the preset with their own changes, which are applied last; empty for all rows of the item, without changes."""
    shadows: int = 0
    """Number of shadow models of each row, for audits by other networks."""
    settings: Mapping[str, Value] = field(default_factory=dict)
    """Keyword arguments of the measurement."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """A table or figure of a paper."""

    name: str
    """Name on the command line, such as table1."""
    title: str
    """Content of the table or figure, in one line."""
    rows: Mapping[str, Recipe]
    """Settings by row: usually those of a recipe in `core.recipes.RECIPES` with changes."""
    presets: Mapping[str, Preset]
    """`dev`, which takes minutes on two cores, and `paper`, which has the paper's data, networks and budget."""
    columns: Mapping[str, str]
    """Metrics, or names of numbers that the measurement returns, by the heading of their column; a figure has the numbers that
    summarise it."""
    differs: str
    """One line on what differs from the paper in both presets, such as settings that it does not state."""
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """The paper's numbers, by row and heading, in the units of the table."""
    percent: Sequence[str] = ()
    """Headings whose values are shares and are shown in percent."""
    measurement: Measurement | None = None
    draw: Callable[[Results], Any] | None = None
    """Draws the figure from the results, as a `matplotlib.figure.Figure`; None for a table."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A table of a paper that follows from the code alone, such as one of architectures: no network is trained."""

    name: str
    """Name on the command line."""
    title: str
    """Content of the table, in one line."""
    rows: Callable[[], Sequence[Mapping[str, Value]]]
    """Makes the rows: cells by heading, with the same headings in every row."""
    differs: str
    """One line on what differs from the paper."""


@dataclass(frozen=True, kw_only=True)
class Paper:
    """A paper with its tables and figures."""

    name: str
    """Name of its script."""
    title: str
    """Authors and title."""
    items: Sequence[Item]
    listings: Sequence[Listing] = ()
    """Tables for which nothing is trained."""
