"""What holds for the items of every paper: legal configurations, numbers that have a place, and a page that lists them."""

import importlib
import re
from pathlib import Path

import pytest

from core.config import TrialConfig
from trainables.commands.paper import main
from trainables.papers.item import Item, Paper
from trainables.papers.networks import networks_of

ROOT = Path(__file__).resolve().parents[3]
NAMES = sorted(path.stem for path in (ROOT / "studies/papers").glob("*.py"))
PAPERS: dict[str, Paper] = {name: importlib.import_module(f"studies.papers.{name}").PAPER for name in NAMES}
ITEMS = {f"{name} {item.name}": item for name, paper in PAPERS.items() for item in paper.items}
LISTINGS = [f"{name} {listing.name}" for name, paper in PAPERS.items() for listing in paper.listings]
BY_ITEM = pytest.mark.parametrize("item", ITEMS.values(), ids=ITEMS)
INDEX = (ROOT / "docs/papers.md").read_text()


def test_every_paper_has_a_script_of_its_name_and_items_with_different_names():
    assert PAPERS.keys() == {"bpfc", "crl", "gat", "inversion", "sparsity"}
    assert all(paper.name == name for name, paper in PAPERS.items())
    assert len(ITEMS) == sum(len(paper.items) for paper in PAPERS.values()) >= 19


@pytest.mark.parametrize("name", NAMES)
def test_a_script_without_an_item_lists_its_items(name: str, capsys):
    """The command `python studies/papers/NAME.py`."""
    with pytest.raises(SystemExit) as end:
        main(PAPERS[name], [])
    assert end.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    listed = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines}
    assert listed == {own.name: own.title for own in (*PAPERS[name].listings, *PAPERS[name].items)}


@pytest.mark.parametrize("preset", ["dev", "paper"])
@BY_ITEM
def test_every_network_of_every_preset_is_legal(item: Item, preset: str):
    own = item.presets[preset]
    networks = networks_of(item, own, None, {}, (), own.seeds)
    assert networks.labels() == list(own.rows or item.rows)
    for config in (*networks.rows.values(), *networks.sources.values()):
        assert TrialConfig.of(config.params()) == config
    assert (networks.common.pool == 0) == (preset == "paper")


@BY_ITEM
def test_published_numbers_belong_to_rows_and_columns(item: Item):
    rows = {row for preset in item.presets.values() for row in preset.rows or item.rows}
    assert item.published.keys() <= rows
    assert {heading for own in item.published.values() for heading in own} <= item.columns.keys()
    assert set(item.percent) <= item.columns.keys() and item.differs.endswith(".")


@BY_ITEM
def test_measurements_are_functions_that_every_worker_can_import(item: Item):
    if item.measurement:
        function = item.measurement.function
        assert function.__module__.startswith("core.") and "." not in function.__qualname__
        assert getattr(importlib.import_module(function.__module__), function.__name__) is function


@pytest.mark.parametrize("name", [*ITEMS, *LISTINGS])
def test_the_index_lists_each_item_with_its_command_and_links_to_its_result(name):
    paper, item = name.split()
    rows = [line for line in INDEX.splitlines() if re.search(rf"`python studies/papers/{paper}\.py {item}[ `]", line)]
    assert len(rows) == 1
    (link,) = re.findall(r"\]\((papers/\w+\.md#[\w-]+)\)", rows[0])
    page, anchor = link.split("#")
    lines = [line for line in (ROOT / "docs" / page).read_text().splitlines() if line.startswith("#")]
    headings = [re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-") for line in lines]
    assert anchor in headings


def test_the_index_lists_nothing_else():
    listed = set(re.findall(r"`python studies/papers/(\w+)\.py (\w+)", INDEX))
    assert listed == {tuple(name.split()) for name in (*ITEMS, *LISTINGS)}
