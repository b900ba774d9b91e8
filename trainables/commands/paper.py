"""The command of a paper's script: `main(PAPER)` is the last line of a script in `studies/papers/`.

It trains what a table or figure needs, measures it, and writes the table, the figure and the runs in MLflow. Everything is stored
under the key of its content, so the same command repeats nothing and continues what was interrupted. Exit codes are those of
`trainables.commands.study`.
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from core import data
from core.config import TrialConfig
from core.data import Images
from core.errors import InputError, first_line, unknown
from core.redaction import redacted
from trainables.commands.arguments import Parser, add_site_options, assignments, exit_with, site_of
from trainables.commands.study import dataset_name
from trainables.cost.text import duration
from trainables.papers.item import Item, Listing, Paper, Preset
from trainables.papers.networks import Networks, networks_of
from trainables.study.options import integer
from trainables.study.site import Site
from trainables.terminal.console import Terminal

if TYPE_CHECKING:
    from trainables.storage.store import Store


def main(paper: Paper, argv: Sequence[str] | None = None) -> NoReturn:
    """Reproduce an item of a paper with the options of a command line, and exit with the exit code."""
    exit_with(lambda: _main(paper, parser(paper).parse_args(argv)))


def parser(paper: Paper) -> argparse.ArgumentParser:
    """The parser of a paper's command."""
    p = Parser(description=f"Tables and figures of: {paper.title}", allow_abbrev=False)
    names = ", ".join(item.name for item in (*paper.listings, *paper.items))
    p.add_argument("item", nargs="?", default="", help=f"{names}; without it, they are listed")
    group = p.add_argument_group("what to reproduce")
    group.add_argument(
        "--preset", choices=("dev", "paper"),
        help="dev takes minutes on two cores; paper has the paper's data, networks and budget (default: dev; paper with --dry-run)",
    )  # fmt: skip
    group.add_argument("--dataset", help="images: a name, or parquet:DIR (default: the preset's)")
    group.add_argument("--rows", nargs="+", default=[], metavar="ROW", help="rows of the table (default: all)")
    group.add_argument("--seeds", type=integer(1), metavar="N", help="number of networks per row (default: the preset's)")
    group.add_argument(
        "--set", action="extend", nargs="+", default=[], metavar="NAME=VALUE",
        help="settings of every network, which replace those of its row and preset",
    )  # fmt: skip
    group.add_argument("--dry-run", action="store_true", help="print what would be trained and what it would cost, and stop")
    add_site_options(p)
    return p


def _main(paper: Paper, args: argparse.Namespace) -> int:
    site = site_of(args)
    terminal = Terminal(site.output)
    items: dict[str, Item | Listing] = {item.name: item for item in (*paper.listings, *paper.items)}
    if not args.item:
        width = max(map(len, items))
        for item in items.values():
            terminal.info(f"{item.name:<{width}}  {item.title}")
        terminal.print_json({"paper": paper.name, "items": {item.name: item.title for item in items.values()}})
        return 0
    if args.item not in items:
        raise unknown("item", args.item, items)
    item, name = items[args.item], args.preset or ("paper" if args.dry_run else "dev")
    if isinstance(item, Listing):
        if given := [option for option in ("preset", "dataset", "rows", "seeds", "set", "dry_run") if getattr(args, option)]:
            raise InputError(f"{item.name} trains nothing, so --{given[0].replace('_', '-')} has no meaning; leave it out")
        return _list(paper, item, site, terminal)
    preset = item.presets[name]
    preset = replace(preset, seeds=args.seeds or preset.seeds)
    dataset = None if args.dataset is None else dataset_name(args.dataset)
    networks = networks_of(item, preset, dataset, assignments(args.set, "--set"), args.rows, preset.seeds)
    if args.dry_run:
        return _dry_run(item, preset, networks, site, terminal)
    return _run(paper, item, name, preset, networks, site, terminal)


def _root(paper: Paper, site: Site) -> "Store":
    """The folder above all studies, after checks that it can be written, and that MLflow can be reached."""
    from trainables.papers.tracking import experiment_name
    from trainables.storage.store import Store
    from trainables.tracking.artifacts import check_artifacts
    from trainables.tracking.client import check_tracking

    check_tracking(site.tracking_uri, experiment_name(paper))
    root = Store.at(site.storage)
    check_artifacts(site.tracking_uri, experiment_name(paper), root)
    root.check_writable()
    return root


def _list(paper: Paper, listing: Listing, site: Site, terminal: Terminal) -> int:
    """Print, write and log a table for which nothing is trained; returns the exit code."""
    from trainables.papers.files import files_of_listing
    from trainables.papers.tracking import log_listing
    from trainables.runs.study_run import EXIT_PARTIAL

    root, folder, files = _root(paper, site), f"tables/{paper.name}/{listing.name}", files_of_listing(paper, listing)
    root.below(folder).write_all(files)
    terminal.info(f"{files['table.md'].decode()}files in {redacted(root.below(folder).root)}: {', '.join(files)}")
    code, run = 0, ""
    try:
        run = log_listing(site.tracking_uri, root, folder, paper, listing, files)
    except Exception as error:  # the files are written; only their copy in MLflow is missing
        terminal.error(f"could not log to MLflow: {redacted(first_line(error))}; repeat the command")
        code = EXIT_PARTIAL
    summary = {"paper": paper.name, "item": listing.name, "files": root.below(folder).root, "mlflow_run": run, "exit_code": code}
    return code if terminal.print_json(summary) else code or EXIT_PARTIAL


def _run(paper: Paper, item: Item, name: str, preset: Preset, networks: Networks, site: Site, terminal: Terminal) -> int:
    from trainables.execution import cluster  # loads Ray, which is worth it only for a valid command line
    from trainables.papers.files import files_of, folder_of, notes
    from trainables.papers.reproduction import reproduce
    from trainables.papers.table import Table
    from trainables.papers.tracking import log_item
    from trainables.runs import preflight
    from trainables.runs.study_run import EXIT_PARTIAL

    preflight.check_hardware(site)
    preflight.check_address(site.address)
    root = _root(paper, site)
    images = _images(networks, site)
    for config in {**networks.sources, **networks.rows}.values():
        preflight.check_config(config, images, site)
    terminal.info(f"{paper.name} {item.name}, preset {name}: {item.title}")
    for line in data.description(images, networks.common.split):
        terminal.info(f"data: {line}")
    with cluster.joined(site) as capacity:
        executor = cluster.executor(site, capacity, images, root, terminal.info, terminal.error)
        executor = replace(executor, workspace=replace(executor.workspace, root=root))
        found = reproduce(item, preset, networks, executor)
    for cell, error in found.errors.items():
        terminal.error(f"{cell.row}, seed {cell.seed} failed: {error}")
    folder, files = folder_of(paper, item, name, networks.common), files_of(paper, item, name, networks, found)
    root.below(folder).write_all(files)
    terminal.info(f"\n{Table.of(item, found.results(networks.labels())).markdown()}\n{notes(item, networks)}")
    terminal.info(f"{duration(found.seconds)} of device time; files in {redacted(root.below(folder).root)}: {', '.join(files)}")
    code, run = EXIT_PARTIAL if found.errors else 0, ""
    try:
        run = log_item(site.tracking_uri, root, folder, paper, item, networks, found, files)
    except Exception as error:  # the results are stored; only their copy in MLflow is missing
        terminal.error(f"could not log to MLflow: {redacted(first_line(error))}; repeat the command; it trains nothing again")
        code = EXIT_PARTIAL
    summary = {"paper": paper.name, "item": item.name, "preset": name, "files": root.below(folder).root, "mlflow_run": run}
    errors = {f"{cell.row}, seed {cell.seed}": error for cell, error in found.errors.items()}
    printed = terminal.print_json({**summary, "errors": errors, "exit_code": code})
    return code if printed else code or EXIT_PARTIAL


def _dry_run(item: Item, preset: Preset, networks: Networks, site: Site, terminal: Terminal) -> int:
    """Print the networks of an item and their cost; returns the exit code."""
    from trainables.commands.dry_run import resources
    from trainables.papers.estimate import estimate

    images = _images(networks, site)
    terminal.info(item.title)
    for line in data.description(images, networks.common.split):
        terminal.info(f"data: {line}")
    for label in networks.labels():
        config = next(config for cell, config in networks.rows.items() if cell.row == label)
        terminal.info(f"  {label}: {_summary(config)}")
    for name in dict.fromkeys(cell.row for cell in networks.sources):
        terminal.info(f"  source {name}")
    share, at_a_time = resources(site)
    cost = estimate(
        item, preset, networks, images, use_gpu=share.device().type == "cuda", processes=min(at_a_time, os.cpu_count() or 1),
        on_cost=lambda row, seconds: terminal.info(f"  {row}: training {duration(seconds)}"),
    )  # fmt: skip
    for line in cost.lines():
        terminal.info(line)
    terminal.info(f"differs from the paper: {item.differs}")
    summary = {"networks": cost.networks, "shadows": cost.shadows, "device_seconds": cost.seconds, "operations": cost.operations}
    return 0 if terminal.print_json(summary) else 1


def _summary(config: TrialConfig) -> str:
    """The settings of a row that differ from the defaults, without those of the images and of the evaluation."""
    plain = TrialConfig().params()
    hidden = ("dataset", "pool", "seed", "replicate", "split", "judge.")
    return " ".join(f"{k}={v}" for k, v in config.params().items() if plain.get(k) != v and not k.startswith(hidden))


def _images(networks: Networks, site: Site) -> Images:
    config = networks.common
    images = data.load(config.dataset, site.data_dir, config.pool)
    for own in {(config.replicate, config.selection.images): config for config in networks.rows.values()}.values():
        own.parts(images)  # refuses a split that leaves a class without members
    return images
