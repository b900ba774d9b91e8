"""Pictures of reconstructions, heat maps, and leak against radius."""

import io

import numpy as np
import pytest
from matplotlib.image import imread

from core.config import trilemma
from trainables import gallery, report
from trainables.outcome import Outcome, Trial


def arrays(count: int, channels: int = 3, side: int = 16, attacks=("ascent",)) -> dict[str, np.ndarray]:
    stream = np.random.default_rng(count)
    made: dict[str, np.ndarray] = {}
    for attack in attacks:
        shape = (count, channels, side, side)
        made |= {f"inversion/{attack}/{key}": stream.integers(0, 255, shape, np.uint8) for key in ("images", "nearest")}
        made |= {f"inversion/{attack}/{key}": stream.random(count) for key in ("cosine", "l2")}
        made[f"inversion/{attack}/classes"] = np.arange(count) * 10 // count
    made |= {
        "attribution/images": stream.integers(0, 255, (3, channels, side, side), np.uint8),
        "attribution/classes": np.arange(3),
    }
    return made | {f"attribution/maps/{name}": stream.random((3, side, side), np.float32) for name, _ in gallery.MAPS}


def outcome(pictures, **metrics) -> Outcome:
    usual = {"accuracy": 0.9, "robust_accuracy": 0.5, "mia_auc": 0.6}
    trials = [Trial(n, {"lr": n / 10}, {**usual, "accuracy": 0.9 - n / 10, "robust_accuracy": 0.5 + n / 10,
                                        **{k: v + n for k, v in metrics.items()}}) for n in range(3)]  # fmt: skip
    return Outcome("s-1", "s", "Why?", trilemma(10), {}, 3, trials=trials, pictures=pictures)


@pytest.mark.parametrize(("count", "channels"), [(1, 1), (7, 3), (40, 1), (100, 3)])
def test_every_picture_is_one_and_is_described(count, channels):
    made = report.figures(outcome({0: arrays(count, channels), 2: arrays(count, channels)}))
    names = {name for name in made if name.startswith(("inversion", "attribution"))}
    assert names == {f"{kind}-{number:05d}.png" for kind in ("inversion-ascent", "attribution") for number in (0, 2)}
    for name in names:
        pixels = imread(io.BytesIO(made[name]))
        assert min(pixels.shape[:2]) > 80 and pixels[..., :3].std() > 0.05
        assert f"Trial {int(name[-9:-4])}" in gallery.described(name)


def test_more_reconstructions_than_fit_are_as_many_of_each_class():
    classes = np.repeat(np.arange(10), 30)
    chosen = gallery._spread(classes, 40)
    assert np.bincount(classes[chosen]).tolist() == [4] * 10


def test_leak_against_radius_is_drawn_where_both_are_known():
    assert "radius_leak.png" not in report.figures(outcome({}))
    made = report.figures(outcome({}, adversarial_radius=0.3, inversion_leak=0.1, inversion_l2=4.0))
    assert imread(io.BytesIO(made["radius_leak.png"])).shape[0] > 200


def test_the_report_shows_them_without_any_other_file():
    page = report.html(outcome({0: arrays(4)}))
    assert page.count('<img alt="Trial 0') == 2 and "reconstructions by ascent" in page
    assert "judge.inversion=ascent" in report.html(outcome({}))  # how to get some


def test_files_of_a_study_hold_them():
    assert {"plots/inversion-ascent-00001.png", "plots/attribution-00001.png"} <= report.files(outcome({1: arrays(4)})).keys()
