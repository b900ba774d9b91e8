"""The command `studies/compare.py`: compare the fronts of finished studies, from MLflow alone."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from rich.markup import escape
from rich.table import Table

from core.errors import InputError
from core.study import Objective
from trainables.commands.arguments import Parser, add_site_options, exit_with, site_of
from trainables.decisions.differences import difference_lines
from trainables.decisions.fronts import (
    Comparison,
    StudyFront,
    box_text,
    comparable,
    compare,
    comparison_rows,
    read_fronts,
    warnings,
)
from trainables.study.tables import csv
from trainables.study.text import decimal, interval_text
from trainables.terminal.console import Terminal


def parser() -> argparse.ArgumentParser:
    """The parser of the command."""
    p = Parser(description="Compare the fronts of finished studies, from MLflow alone.", allow_abbrev=False)
    p.add_argument("studies", nargs="+", metavar="NAME", help="names of the studies' runs, as for --resume; two or more")
    p.add_argument("--output", default="compare", metavar="DIR", help="folder for compare.csv and compare.png (default: compare)")
    add_site_options(p, only=("tracking_uri",))
    return p


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit with its exit code."""
    exit_with(lambda: _main(parser().parse_args(argv)))


def _main(args: argparse.Namespace) -> int:
    from trainables.decisions.fronts_figure import comparison_figure

    if len(args.studies) < 2:
        raise InputError(f"a comparison needs two studies, got only {args.studies[0]}; its own report shows its front")
    if repeated := [name for name in dict.fromkeys(args.studies) if args.studies.count(name) > 1]:
        raise InputError(f"{repeated[0]} is named twice")
    folder = Path(args.output)
    fronts = comparable(read_fronts(site_of(args).tracking_uri, args.studies))
    comparisons = compare(fronts)
    rows = comparison_rows(fronts, comparisons)
    files = {"compare.csv": csv(rows).encode(), "compare.png": comparison_figure(fronts, comparisons)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (folder / name).write_bytes(data)
    except OSError as error:
        raise InputError(f"cannot write to --output {folder}: {error.strerror}") from None
    terminal = Terminal()
    for table in (hypervolume_table(fronts), points_table(fronts, comparisons)):
        terminal.show(table)
        terminal.info("")
    for line in [*difference_lines(fronts), *warnings(fronts), f"written: {', '.join(str(folder / name) for name in files)}"]:
        terminal.info(line)
    return 0


def hypervolume_table(fronts: Sequence[StudyFront]) -> Table:
    """The hypervolume of each front, confirmed and of the sweep, as a table for the terminal."""
    caption = (
        f"hypervolume: share of the box {box_text(fronts[0].objectives)} that the front dominates; confirmed: of the confirmed "
        "points after shrinkage"
    )
    table = _table("Hypervolume of each front", ("trials", "confirmed", "95 % interval", "of the sweep"), caption)
    for front in fronts:
        table.add_row(escape(front.name), str(front.trials), *_volume(front), f"{front.sweep_hypervolume:.4f}")
    return table


def points_table(fronts: Sequence[StudyFront], comparisons: Sequence[Comparison]) -> Table:
    """The points of each front, their best values, and their comparison with the points of the other fronts."""
    objectives = fronts[0].objectives
    caption = (
        "numbers: of the confirmed points, or those of the sweep if no point is confirmed\n"
        "non-dominated: points of the study that no point of any study dominates\n"
        "epsilon indicator: improvement in every objective, as a share of the box, that would match every point of any study"
    )
    best = [f"best {o.metric} (trial)" for o in objectives]
    table = _table("Points of each front", ("numbers", "points", *best, "non-dominated", "epsilon indicator"), caption)
    for front, comparison in zip(fronts, comparisons, strict=True):
        count, size = int(comparison.non_dominated.sum()), len(front.points)
        shares = (_share(count, size), f"{comparison.epsilon_indicator:.3f}") if size else ("-", "-")
        table.add_row(escape(front.name), front.kind, str(size), *(_best(front, o) for o in objectives), *shares)
    count = sum(int(comparison.non_dominated.sum()) for comparison in comparisons)
    size = sum(len(front.points) for front in fronts)
    table.add_section()
    table.add_row("all studies together", "", str(size), *[""] * len(objectives), _share(count, size) if size else "-", "")
    return table


def _share(count: int, size: int) -> str:
    return f"{count}/{size} ({count / size:.0%})"


def _table(title: str, headings: Sequence[str], caption: str) -> Table:
    """An empty table with a column for the study and one for each heading."""
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    table.add_column("study", no_wrap=True, overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _volume(front: StudyFront) -> tuple[str, str]:
    """The confirmed hypervolume and its interval."""
    if math.isnan(front.hypervolume):
        return "-", "-"
    return f"{front.hypervolume:.4f}", interval_text(front.interval, infinite="-", decimals=3)


def _best(front: StudyFront, objective: Objective) -> str:
    if not front.points:
        return "-"
    best = min(front.points, key=lambda p: objective.loss(p.values[objective.metric]))
    return f"{decimal(best.values[objective.metric])} ({best.trial})"
