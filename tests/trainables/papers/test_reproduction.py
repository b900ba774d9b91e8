"""A table is trained and measured once: later commands repeat nothing, whatever they judge, and each failure is reported."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from in_process import local_executor
from tiny_paper import ROWS, draw, item, paper

from core import data
from core.bound import Trained
from core.config import TrialConfig
from core.evaluation.prediction_gaps import prediction_gaps
from core.evaluation.stored import stored_model
from trainables.papers.files import files_of, folder_of
from trainables.papers.item import Item, Measurement
from trainables.papers.networks import Cell, Networks, job_of, networks_of
from trainables.papers.reproduction import Reproduction, reproduce
from trainables.storage.content import Content
from trainables.storage.store import Store

GAPS = Measurement(function=prediction_gaps, sources={"another": {"net.width": 6}})


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


def networks(table: Item, **fixed: str) -> Networks:
    return networks_of(table, table.presets["dev"], None, fixed, (), table.presets["dev"].seeds)


def reproduced(root: Path, table: Item, **fixed: str) -> tuple[Reproduction, list[tuple[str, object]], list[str]]:
    """A table, the calls of tasks, and the lines of progress."""
    own = networks(table, **fixed)
    calls, lines = [], []
    images = data.load("digits", "", own.common.pool)
    found = reproduce(table, table.presets["dev"], own, local_executor(images, root, report=lines.append, calls=calls))
    return found, calls, lines


def trainings(root: Path) -> dict[Path, int]:
    """Records of trainings that were not copied, with their times."""
    files = root.glob("papers/*/training.json")
    return {file: file.stat().st_mtime_ns for file in files if not json.loads(file.read_text())["reused_from"]}


def test_every_network_is_trained_and_measured_once(root):
    table = item(measurement=GAPS)
    found, calls, _ = reproduced(root, table)
    assert [name for name, _ in calls] == ["run_job"] * 6 + ["measure"] * 4
    assert found.values.keys() == networks(table).rows.keys() and not found.errors and found.seconds > 0
    again, calls, lines = reproduced(root, table)
    assert not calls and again == found
    assert lines == ["6 networks, 6 of them trained before", "4 measurements, 4 of them made before"]


def test_the_values_are_the_metrics_the_curve_and_what_a_direct_call_measures(root):
    table = item(measurement=GAPS)
    found, _, _ = reproduced(root, table)
    cell = Cell("label smoothing", 2)
    config = networks(table).rows[cell]
    images = data.load("digits", "", config.pool)
    modules = torch.load(root / job_of(config, Content.of(images)).folder / "network.pt", weights_only=True)
    bound = stored_model(config, modules, images, torch.device("cpu"))
    direct = prediction_gaps({"target": Trained(config, bound)}, images, "cpu")
    assert {name: found.values[cell][name] for name in direct} == direct
    parts = data.split(images, config.split, config.replicate)
    with torch.no_grad():
        right = bound.net.eval()(images.x[parts.val].float() / 255).argmax(1) == images.y[parts.val]
    assert found.values[cell]["accuracy"] == pytest.approx(float(right.float().mean()))
    assert found.values[cell]["epoch"] == [1.0, 2.0] and len(found.values[cell]["epoch/val_accuracy"]) == 2


def test_another_evaluation_trains_nothing(root):
    reproduced(root, item(measurement=GAPS))
    before = trainings(root)
    found, calls, _ = reproduced(root, item(measurement=GAPS), **{"judge.attacks": "pgd:steps=3", "judge.images": "20"})
    # The rows are judged and measured again, because a measurement may depend on the radius; sources are not judged.
    assert trainings(root) == before and [name for name, _ in calls] == ["run_job"] * 4 + ["measure"] * 4
    assert all(0 <= own["robust_accuracy/pgd_steps_3"] <= 1 and own["epoch"] == [1, 2] for own in found.values.values())


def test_other_settings_of_a_measurement_measure_again_and_train_nothing(root):
    reproduced(root, item(measurement=GAPS))
    before = trainings(root)
    found, calls, _ = reproduced(root, item(measurement=GAPS, preset={"settings": {"bins": 5}}))
    assert trainings(root) == before and [name for name, _ in calls] == ["measure"] * 4
    assert all(len(own["gap_edges"]) == 6 for own in found.values.values())


def test_a_failed_network_is_reported_and_trained_again_by_the_next_command(root):
    rows = {**ROWS, "diverges": {"loss": "cross_entropy"}}
    table = item(rows=rows, seeds=1, preset={"rows": {"cross-entropy": {}, "diverges": {"optimizer.lr": 1e30}}})
    found, _, _ = reproduced(root, table)
    assert found.errors == {Cell("diverges", 1): "loss is nan in epoch 1; lower optimizer.lr"}
    assert found.results(list(rows)).keys() == {"cross-entropy"}
    _, calls, _ = reproduced(root, table)
    assert len(calls) == 1


def test_a_failed_measurement_is_reported_and_made_again(root):
    table = item(measurement=GAPS, preset={"settings": {"bins": "many"}})
    found, _, _ = reproduced(root, table)
    assert len(found.errors) == 4 and not found.values and all(found.errors.values())
    _, calls, _ = reproduced(root, table)
    assert [name for name, _ in calls] == ["measure"] * 4


def test_the_files_of_a_table(root, tmp_path):
    table = item(draw=draw)
    found, _, _ = reproduced(root, table)
    own = networks(table)
    folder = folder_of(paper(), table, "dev", own.common)
    assert folder == "tables/tiny/table1-dev-digits"
    Store.at(str(tmp_path)).below(folder).write_all(files_of(paper(), table, "dev", own, found))
    assert {p.name for p in (tmp_path / folder).iterdir()} == {"table.md", "table.csv", "table.tex", "values.json", "figure.png"}
    text = (tmp_path / folder / "table.md").read_text()
    assert text.startswith("Table 1: accuracy (A. Author (2020), a tiny paper)\n\n|  | accuracy | AUC |")
    assert "the mean over 2 seeds, with the half-width" in text and "Differs from the paper: the data." in text
    stored = json.loads((tmp_path / folder / "values.json").read_text())["networks"]
    accuracies = [network["values"]["accuracy"] for network in stored]
    np.testing.assert_equal(accuracies, [own["accuracy"] for own in found.values.values()])
    assert TrialConfig.of(stored[0]["params"]) == next(iter(own.rows.values()))
    assert (tmp_path / folder / "figure.png").read_bytes().startswith(b"\x89PNG")

