"""Figures of reconstructions, attribution maps, and inversion leak against radius."""

import io

import large
import numpy as np
import pytest
from matplotlib.image import imread

from core.study import trilemma
from trainables.reporting import gallery
from trainables.reporting.report import render, render_figures
from trainables.study.outcome import Outcome
from trainables.study.trial import Trial


def outcome(pictures, **metrics) -> Outcome:
    """An outcome of three trials with these pictures, and with further metrics that increase with the trial."""
    trials = []
    for n in range(3):
        own = {"accuracy": 0.9 - n / 10, "robust_accuracy": 0.5 + n / 10, "mia_auc": 0.6}
        trials.append(Trial(n, {"lr": n / 10}, own | {name: value + n for name, value in metrics.items()}))
    return Outcome("s-1", "s", "Why?", trilemma(10), {}, 3, trials=trials, pictures=pictures)


def page(study: Outcome) -> str:
    """The page of a report."""
    return render(study)["report.html"].decode()


@pytest.mark.parametrize(("first", "last"), [((1, 1), (7, 3)), ((40, 1), (100, 3))])
def test_every_figure_is_a_picture_with_a_description(first, last):
    """The first and the last trial have this number of pictures with this number of channels."""
    figures = render_figures(outcome({0: large.pictures(*first), 2: large.pictures(*last)}))
    names = {name for name in figures if name.startswith(("inversion", "attribution"))}
    assert names == {f"{kind}-{number:05d}.png" for kind in ("inversion-ascent", "attribution") for number in (0, 2)}
    for name in names:
        pixels = imread(io.BytesIO(figures[name].png))
        assert min(pixels.shape[:2]) > 80 and pixels[..., :3].std() > 0.05
        assert f"Trial {int(name[-9:-4])}" in figures[name].description == gallery.description(name)


def test_if_there_are_too_many_reconstructions_equally_many_of_each_class_are_shown():
    classes = np.repeat(np.arange(10), 30)
    chosen = gallery._balanced(classes, 40)
    assert np.bincount(classes[chosen]).tolist() == [4] * 10


def test_leak_against_radius_is_drawn_if_both_were_measured():
    assert "radius_leak.png" not in render_figures(outcome({}))
    figures = render_figures(outcome({}, adversarial_radius=0.3, inversion_leak=0.1, inversion_l2=4.0))
    assert imread(io.BytesIO(figures["radius_leak.png"].png)).shape[0] > 200


def test_the_page_contains_the_figures_or_how_to_obtain_them():
    html = page(outcome({0: large.pictures(4)}))
    assert html.count('<img alt="Trial 0') == 2 and "reconstructions by ascent" in html
    assert "judge.inversion=ascent" in page(outcome({}))


def test_the_files_of_a_report_contain_the_figures():
    assert {"plots/inversion-ascent-00001.png", "plots/attribution-00001.png"} <= render(outcome({1: large.pictures(4)})).keys()
