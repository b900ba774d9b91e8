"""The files of a table or figure: Markdown, CSV, LaTeX, PNG, and all values as JSON."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from core.config import TrialConfig
from core.data import PARQUET
from trainables.papers.item import Item, Listing, Paper
from trainables.papers.networks import Networks
from trainables.papers.reproduction import Reproduction
from trainables.papers.table import Table, latex, markdown
from trainables.reporting.style import png
from trainables.study.tables import csv, json_safe
from trainables.study.text import counted


def folder_of(paper: Paper, item: Item, preset: str, config: TrialConfig) -> str:
    """Folder of an item's files below `--storage`."""
    dataset = Path(config.dataset.removeprefix(PARQUET)).name
    return f"tables/{paper.name}/{item.name}-{preset}-{re.sub(r'[^A-Za-z0-9._-]', '_', dataset)}"


def files_of(paper: Paper, item: Item, preset: str, networks: Networks, found: Reproduction) -> dict[str, bytes]:
    """The files of an item by name.

    Args:
        paper: the paper.
        item: the item.
        preset: name of the preset.
        networks: its networks.
        found: what was measured.
    """
    results, caption = found.results(networks.labels()), caption_of(paper, item)
    table = Table.of(item, results)
    values = {
        "paper": paper.name, "item": item.name, "preset": preset,
        "networks": [
            {"row": cell.row, "seed": cell.seed, "params": config.params(), "error": found.errors.get(cell, ""),
             "values": found.values.get(cell, {})}
            for cell, config in networks.rows.items()
        ],
        "sources": [{"name": c.row, "seed": c.seed, "params": config.params()} for c, config in networks.sources.items()],
    }  # fmt: skip
    texts = {
        "table.md": f"{caption}\n\n{table.markdown()}\n{notes(item, networks)}\n", "table.csv": table.csv(),
        "table.tex": table.latex(caption), "values.json": json.dumps(json_safe(values), indent=1),
    }  # fmt: skip
    files = {name: text.encode() for name, text in texts.items()}
    if item.draw and results:
        files["figure.png"] = png(item.draw(results))
    return files


def files_of_listing(paper: Paper, listing: Listing) -> dict[str, bytes]:
    """The files of a listing by name: Markdown, CSV and LaTeX."""
    rows, caption = listing.rows(), caption_of(paper, listing)
    headings = list(rows[0])
    cells = [[f"{row[heading]:,}" if isinstance(row[heading], int) else str(row[heading]) for heading in headings] for row in rows]
    texts = {
        "table.md": f"{caption}\n\n{markdown(headings, cells)}\nDiffers from the paper: {listing.differs}\n",
        "table.csv": csv([dict(row) for row in rows]), "table.tex": latex(headings, cells, caption),
    }  # fmt: skip
    return {name: text.encode() for name, text in texts.items()}


def caption_of(paper: Paper, item: Item | Listing) -> str:
    """The line above a table."""
    return f"{item.title} ({paper.title})"


def notes(item: Item, networks: Networks) -> str:
    """The lines below a table: how to read a cell, what was trained, and what differs from the paper."""
    config, seeds = networks.common, len({cell.seed for cell in networks.rows})
    interval = ", with the half-width of the 95 % interval of the mean over them (Student)" if seeds > 1 else ""
    paper = "; in parentheses: the paper's number" if _has_published(item, networks.labels()) else ""
    budget = sorted({own.epochs for own in networks.rows.values()})
    epochs = f"{budget[0]}" if len(budget) == 1 else f"{budget[0]} to {budget[-1]}"
    pool = f"{config.pool:,} images of " if config.pool else ""
    return (
        f"Each number: the mean over {counted(seeds, 'seed')}{interval}{paper}.\n"
        f"Data: {pool}{Path(config.dataset.removeprefix(PARQUET)).name}; {epochs} epochs. Differs from the paper: {item.differs}"
    )


def _has_published(item: Item, labels: list[str]) -> bool:
    published: Mapping[str, Mapping[str, float]] = item.published
    return any(published.get(label) for label in labels)
