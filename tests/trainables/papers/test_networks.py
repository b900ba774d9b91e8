"""The configurations of a table's rows: the order of settings, the seeds, and what is refused."""

import pytest
from tiny_paper import ROWS, TINY, item

from core.attacks.transfer import transfer
from core.errors import InputError
from trainables.papers.item import Measurement
from trainables.papers.networks import UNJUDGED, Cell, networks_of


def networks(own=None, *, dataset=None, fixed=None, only=(), seeds=1, **fields):
    table = item(own, **fields)
    return networks_of(table, table.presets["dev"], dataset, fixed or {}, only, seeds)


def test_later_settings_win():
    """Those of the row, of the preset, of the preset's row, and of the command line, in this order."""
    rows = {"row": {"loss": "label_smoothing", "loss.epsilon": 0.2, "epochs": 100, "batch_size": 30, "net.width": 5}}
    preset = {"rows": {"row": {"batch_size": 40, "net.width": 6}}}
    config = networks({"epochs": 5, "batch_size": 60}, rows=rows, preset=preset, fixed={"net.width": "7"}).common
    assert (config.loss.epsilon, config.epochs, config.batch_size, config.net.width) == (0.2, 5, 40, 7)


def test_each_seed_has_its_own_members():
    cells = networks(seeds=3).rows
    assert [(c.row, c.seed) for c in cells] == [(row, seed) for row in ROWS for seed in (1, 2, 3)]
    assert all((config.seed, config.replicate) == (cell.seed, cell.seed - 1) for cell, config in cells.items())


def test_a_source_has_the_same_members_and_another_seed():
    found = networks(seeds=2, measurement=Measurement(function=transfer, sources={"VGG": {"net.width": 6}}))
    for seed in (1, 2):
        target, source = found.rows[Cell("cross-entropy", seed)], found.sources[Cell("VGG", seed)]
        assert (source.split, source.replicate, source.net.width) == (target.split, target.replicate, 6)
        assert source.seed != target.seed and source.judge.attacks == UNJUDGED["judge.attacks"]
    assert len({config.seed for config in found.sources.values()}) == 2


def test_a_preset_may_have_some_of_the_rows():
    found = networks(preset={"rows": {"label smoothing": {"loss.epsilon": 0.4}}})
    assert found.labels() == ["label smoothing"] and found.common.loss.epsilon == 0.4


def test_the_data_set_of_the_command_line_changes_nothing_else():
    own, other = networks().common, networks(dataset="hard_digits").common
    assert other == own.set({"dataset": "hard_digits"}) and own.dataset == TINY["dataset"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"only": ["cross-entrpy"]}, "unknown row 'cross-entrpy'"),
        ({"fixed": {"seed": "3"}}, "--set seed=... : use --seeds"),
        ({"fixed": {"dataset": "digits"}}, "--set dataset=... : use --dataset"),
        ({"fixed": {"replicate": "1"}}, "--set replicate=... : the networks of a table are numbered by --seeds"),
        ({"preset": {"rows": {"label smoothing": {}, "cross-entropy": {"pool": 500}}}}, "'cross-entropy' has its own pool"),
    ],
)  # fmt: skip
def test_what_is_refused(options, message):
    with pytest.raises(InputError) as error:
        networks(**options)
    assert message in str(error.value)
