"""The items of the CRL paper: legal networks with the paper's trainings, published numbers, and figures of given results."""

import pytest

from core.config import TrialConfig
from core.evaluation.prediction_gaps import prediction_gaps
from core.recipes import CRL_TRAINING
from studies.papers.crl import ATTACKS, COLUMNS, PAPER
from trainables.papers.networks import networks_of

ITEMS = {item.name: item for item in PAPER.items}
DATASETS = {"table1a": "cifar10", "table1b": "cifar100", "table1c": "svhn", "figure4": "cifar10", "figure5": "cifar100",
            "figure6": "cifar100", "figure7": "cifar100"}  # fmt: skip


def networks(item: str, preset: str) -> dict[str, TrialConfig]:
    """The configuration of the first network of each row."""
    own = ITEMS[item].presets[preset]
    return {cell.row: config for cell, config in networks_of(ITEMS[item], own, None, {}, (), 1).rows.items()}


@pytest.mark.parametrize("preset", ["dev", "paper"])
@pytest.mark.parametrize("item", ITEMS)
def test_every_network_is_legal_and_audited_on_the_papers_split(item, preset):
    for config in networks(item, preset).values():
        params = config.params()
        assert (params["dataset"], params["split"], params["judge.part"]) == (DATASETS[item], "paper", "both")
        assert params["judge.audits"] == "standard" and (params["pool"] > 0) == (preset == "dev")


@pytest.mark.parametrize("item", ITEMS)
def test_each_network_of_the_paper_preset_is_trained_as_published(item):
    for row, config in networks(item, "paper").items():
        params = config.params()
        training = dict(CRL_TRAINING[DATASETS[item], params["net"]])
        if row.startswith("DMP"):
            training["epochs"] = 2 * int(training["epochs"])
        assert {name: params[name] for name in training} == training, row


def test_dmp_follows_the_schedule_in_each_phase_and_holds_out_members_only_to_split_them():
    rows = networks("figure4", "paper")
    for name, reference in {"DMP, split 0.3": 0.3, "DMP, split 0.5": 0.5, "DMP, synthetic 1": 0, "DMP, synthetic 3": 0}.items():
        config = rows[name]
        assert (config.loss.teacher_epochs(config.epochs), config.epochs, config.reference) == (100, 200, reference)


def test_the_inference_network_of_advreg_has_the_papers_batches_and_pass():
    for row, config in networks("table1a", "paper").items():
        if "AdvReg" in row:
            size = 64 if row.startswith("DenseNet") else 512
            assert (config.regularizer.batch_size_h, config.regularizer.pass_over) == (size, "smaller")


def test_the_rates_of_the_neural_attack_are_those_of_the_papers_code():
    rates = {row: config.judge.nn_lr for item in ("table1a", "table1b", "table1c") for row, config in
             ((f"{item} {row}", config) for row, config in networks(item, "paper").items())}  # fmt: skip
    low = {row for row, rate in rates.items() if rate == 0.01}
    assert low == {row for row in rates if row.startswith(("table1a ResNet18", "table1c"))}
    assert set(rates.values()) == {0.01, 0.1}


def test_the_arms_of_the_ablation_have_the_components_of_table_2():
    rows = networks("figure7", "paper")
    assert len(rows) == 12
    for row, config in rows.items():
        loss = config.loss
        centres, normalised = getattr(loss, "lambda_", 0) > 0, loss.tau_rce > 0
        assert loss.alpha_rce > 0
        assert (centres, normalised) == {"I": (False, True), "R": (True, False), "C": (True, True)}[row[0]]
        if centres:
            assert (loss.tau_rcl > 0) == normalised and loss.alpha_rcl == pytest.approx(0.5 + loss.alpha_rce / 5)


@pytest.mark.parametrize("item", ITEMS)
def test_published_numbers_belong_to_rows_and_columns(item):
    own = ITEMS[item]
    assert own.published.keys() <= own.rows.keys() and set(own.percent) <= own.columns.keys()
    assert all(numbers.keys() <= own.columns.keys() for numbers in own.published.values())
    assert own.published.keys() == (own.rows.keys() if item.startswith("table") else set())
    assert "\n" not in own.differs and own.differs.endswith(".")


def test_published_numbers_are_those_of_table_1():
    table = {row: list(numbers.values()) for name in ("table1a", "table1b", "table1c") for row, numbers in
             ((f"{name[-1]} {row}", numbers) for row, numbers in ITEMS[name].published.items())}  # fmt: skip
    assert len(table) == 32
    assert table["a ResNet18 CRL"] == [86.73, 71.53, 60.21, 63.70, 65.15, 65.34]
    assert table["b GoogLeNet AdvReg"] == [99.22, 52.45, 84.02, 76.20, 81.42, 80.07]
    assert table["c VGG11 CE"] == [99.98, 92.66, 53.09, 54.14, 54.63, 54.51]
    assert {row for row, numbers in table.items() if len(numbers) == 5} == {row for row in table if "DenseNet" in row}


def results(item: str, attacks) -> dict:
    """Made-up numbers of every network of `dev`, different for every row and metric."""
    names = ["accuracy", *(ATTACKS[name] for name in attacks)]
    return {row: [{name: 0.01 * i + 0.1 * k for k, name in enumerate(names)}] for i, row in enumerate(networks(item, "dev"))}


@pytest.mark.parametrize("attacks", [("Entropy", "M-Entropy", "Grad-x"), tuple(ATTACKS)], ids=["no shadow models", "all"])
@pytest.mark.parametrize("item", ["figure4", "figure5", "figure7"])
def test_a_trade_off_has_one_line_per_defence_through_its_strengths(item, attacks):
    found = results(item, attacks)
    axes = [axis for axis in ITEMS[item].draw(found).axes if axis.get_title("left")]
    assert [axis.get_title("left") for axis in axes] == list(attacks)
    for axis, attack in zip(axes, attacks, strict=True):
        drawn = {bar.get_label(): bar.lines[0].get_xydata().tolist() for bar in axis.containers}
        for label, points in drawn.items():
            rows = [row for row in found if row == label or row.rsplit(" ", 1)[0] == label]
            assert points == [[found[row][0]["accuracy"], found[row][0][ATTACKS[attack]]] for row in rows]
        assert sum(map(len, drawn.values())) == len(found)


def test_the_histograms_show_members_and_non_members_of_each_row():
    rows = list(networks("figure6", "dev"))
    assert len(rows) == 9 and rows[0] == "CE"
    found = {row: [{"gap_edges": [0.0, 0.5, 1.0], "gap_members": [i / 10, 1 - i / 10], "gap_non_members": [1.0, 0.0]}]
             for i, row in enumerate(rows)}  # fmt: skip
    axes = ITEMS["figure6"].draw(found).axes
    for i, (axis, row) in enumerate(zip(axes, rows, strict=True)):
        assert axis.get_title("left") == row
        members, others = (patch.get_data() for patch in axis.patches)
        assert members.values.tolist() == [i / 10, 1 - i / 10] and others.values.tolist() == [1.0, 0.0]
        assert members.edges.tolist() == [0.0, 0.5, 1.0]


def test_the_figures_measure_what_their_columns_name():
    own = ITEMS["figure6"]
    assert own.measurement is not None and own.measurement.function is prediction_gaps
    assert set(own.columns.values()) - set(COLUMNS.values()) == {"gap_mean_members", "gap_mean_non_members", "gap_overlap"}
