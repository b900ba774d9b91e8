"""The figure that compares fronts."""

import io
import math

from compared import ACCURATE, BETTER, NAMES, OBJECTIVES, PRIVATE, ROBUST, Point
from matplotlib.image import imread

from core.stats import Interval
from trainables.commands.compare import hypervolume_table, points_table
from trainables.decisions import fronts_figure
from trainables.decisions.fronts import FrontPoint, StudyFront, compare
from trainables.decisions.fronts_figure import COLORS, SHAPES, comparison_figure


def front(name: str, *points: Point) -> StudyFront:
    """A front with these points."""
    made = [FrontPoint(i, "", f"run-{i}", dict(zip(NAMES, values, strict=True)), {}, ()) for i, values in enumerate(points)]
    return StudyFront(
        name, OBJECTIVES, {}, trials=len(points), version=1, confirmed=False, points=tuple(made), sweep_hypervolume=0.5,
        hypervolume=math.nan, interval=Interval(-math.inf, math.inf),
    )  # fmt: skip


FRONTS = [front("three", ACCURATE, ROBUST, PRIVATE), front("better", BETTER)]


def test_the_figure_is_a_picture_in_which_shapes_distinguish_the_studies_without_colour(monkeypatch):
    picture = imread(io.BytesIO(comparison_figure(FRONTS, compare(FRONTS))))
    assert picture.shape[1] == 1500 and picture[..., :3].std() > 0.05
    monkeypatch.setattr(fronts_figure, "COLORS", ("#000000",))
    figures = []
    for shapes in ("os", "oo"):
        monkeypatch.setattr(fronts_figure, "SHAPES", shapes)
        figures.append(comparison_figure(FRONTS, compare(FRONTS)))
    assert figures[0] != figures[1]


def test_as_many_studies_as_there_are_pairs_of_colour_and_shape_look_different():
    count = len(SHAPES) * len(COLORS)
    assert len({(SHAPES[i % len(SHAPES)], COLORS[i % len(COLORS)]) for i in range(count)}) == count == 56


def test_names_are_neither_mathematics_in_the_figure_nor_markup_in_the_table():
    named = [front("$x^[bold]three$", ACCURATE, ROBUST, PRIVATE), front("$x^[bold]better$", BETTER)]
    assert comparison_figure(named, compare(named)).startswith(b"\x89PNG")
    for table in (hypervolume_table(named), points_table(named, compare(named))):
        assert next(iter(table.columns[0].cells)) == r"$x^\[bold]three$"
