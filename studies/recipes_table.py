"""Does each method do on these images what its paper claims? Same network and budget, several seeds and draws of members.

    # needs the photographs; about 50 minutes
    python studies/recipes_table.py --dataset parquet:../shared/data/cifar10-jpeg --seeds 5 \\
        --set net=allconv net.width=16 pool=4000 epochs=40 batch_size=32 judge.steps=20 \\
        optimizer=adam optimizer.lr=0.004 optimizer.schedule=cosine

Every method is trained with every seed on the same members and evaluated on `test`, so differences from cross-entropy are paired.
Prints a Markdown table: mean and 95 % interval over seeds (Student). Results that are in --storage already are reused.

A row is a recipe of `core.recipes.RECIPES`, at one of two strengths:

* `--strengths small` (default): all rows have the same short training, which `--set` changes, and each adds its strength for small
  networks from `core.small_recipes`. Where there is none, it adds the published method without the published training.
* `--strengths published`: a row has its recipe's complete settings, training included, and `--set` changes them. To compare methods
  with equal trainings, set all that is to be equal: net, epochs, batch_size, optimizer and its settings.

`--set ROW:NAME=VALUE` changes one row, after everything else: `--set bpfc:regularizer.growth=3`. Radii that are not given follow
the judge settings. With `--set split=official split.val=1000`, `test` is the data set's test file, and audits compare members with
`val`; numbers that a split cannot give are left out, with the reason below the table.
"""

import argparse
import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NoReturn

from core import data
from core.audits.threshold import FPRS
from core.config import SLOTS, TrialConfig
from core.errors import InputError, unknown
from core.evaluation.privacy import needs_non_members
from core.flags import FLAGS
from core.recipes import RECIPES, Recipe
from core.small_recipes import SMALL, small
from core.space import Value
from core.stats import mean_interval
from trainables.commands.arguments import Parser, assignments, exit_with
from trainables.commands.recipe import layered
from trainables.commands.study import NOT_SEARCHABLE, configured
from trainables.execution import cluster
from trainables.execution.audits import audit_all, audit_targets, shadows_of
from trainables.execution.shadows import ExpectedModels
from trainables.execution.tasks import Executor
from trainables.runs.preflight import check_config, check_non_members
from trainables.runs.study_run import EXIT_PARTIAL
from trainables.storage.jobs import Job
from trainables.storage.store import Store
from trainables.study.results import NetworkResult, TrainingResult
from trainables.study.site import Site

METRICS = ("accuracy", "robust_accuracy", "mia_auc", "train_accuracy", "density")
REFERENCE = "cross_entropy"
STRENGTHS: dict[str, Mapping[str, Recipe]] = {"small": SMALL, "published": RECIPES}
"""Recipes that are rows by default, by the name of their strengths."""
BASE = TrialConfig.of({"epochs": 60, "judge.part": "test", "judge.steps": 50, "judge.images": 500, "judge.epsilon": 0.1})


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the missing trainings, print the table, and exit."""
    exit_with(lambda: _main(parser().parse_args(argv)))


def parser() -> argparse.ArgumentParser:
    """The parser of the command."""
    p = Parser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    p.add_argument("--dataset", help=f"images: a name, or parquet:DIR (default: {BASE.dataset})")
    p.add_argument("--seeds", type=int, default=5, metavar="N", help="number of seeds per recipe (default: 5)")
    p.add_argument("--recipes", nargs="+", metavar="R", help="rows: names in core.recipes (default: all that have such strengths)")
    p.add_argument(
        "--strengths", choices=STRENGTHS, default="small",
        help="small: a short common training and strengths for small networks (default); published: the recipes' own settings",
    )  # fmt: skip
    p.add_argument("--audits", action="store_true", help="audit the seeds of a recipe against each other, and print the results")
    p.add_argument("--shadows", type=int, default=0, metavar="N", help="with --audits: also N shadow models for each recipe")
    p.add_argument("--metrics", nargs="+", default=METRICS, metavar="M", help=f"columns (default: {' '.join(METRICS)})")
    p.add_argument(
        "--set", action="extend", nargs="+", default=[], metavar="[ROW:]NAME=VALUE",
        help="settings of every training, or of those of one row",
    )  # fmt: skip
    p.add_argument("--data-dir", default="data", metavar="DIR", help="folder of downloaded images (default: data)")
    p.add_argument("--storage", default="runs/recipes_table", metavar="DIR", help="folder of results (default: runs/recipes_table)")
    p.add_argument("--address", default="", help="address of a Ray cluster; by default, Ray is started on this machine")
    return p


def _main(args: argparse.Namespace) -> int:
    site = Site(address=args.address)
    jobs = jobs_of(args)
    images = data.load(args.dataset or BASE.dataset, args.data_dir, int(next(iter(jobs.values())).params["pool"]))
    for name, job in {name: job for (name, _), job in jobs.items()}.items():
        try:
            check_config(TrialConfig.of(job.params), images, site)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
    if args.audits:
        check_non_members(TrialConfig.of(next(iter(jobs.values())).params), images, {"--audits": "mia_auc"})
    with cluster.joined(site) as capacity:
        store = Store.at(args.storage)
        executor = cluster.executor(site, capacity, images, store, print)
        executor = replace(executor, workspace=replace(executor.workspace, root=store))  # keeps the cache in the table's folder
        results = train(jobs, executor)
        audited = audit(jobs, results, args.shadows, executor) if args.audits else {}
    rows = rows_of(args)
    print("\n" + table(rows, args.seeds, results, args.metrics, audited))
    if args.audits:
        print("\n" + audit_table(rows, args.seeds, audited))
    return EXIT_PARTIAL if any(result.error for result in results.values()) else 0


def rows_of(args: argparse.Namespace) -> list[str]:
    """The recipes that are rows of the table."""
    return args.recipes or list(STRENGTHS[args.strengths])


def jobs_of(args: argparse.Namespace) -> dict[tuple[str, int], Job]:
    """One training per recipe and seed; the folder's name contains a digest of the configuration, so that each has its own.

    Raises:
        InputError: a recipe, a row or a setting is unknown or not legal.
    """
    rows = rows_of(args)
    if missing := [name for name in rows if name not in RECIPES]:
        raise unknown("recipe", missing[0], RECIPES)
    common, own = _settings(args.set, rows)
    jobs = {}
    for name in rows:
        config = _configuration(name, args, common, own.get(name, {}))
        audits: dict[str, Value] = {"judge.audits": "standard"} if args.audits else {}
        for seed in range(1, args.seeds + 1):
            params = config.set({**audits, "seed": seed, "replicate": seed}).params()
            digest = hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()[:16]
            jobs[name, seed] = Job(f"{name}/{digest}", params)
    return jobs


def _settings(pairs: Sequence[str], rows: Sequence[str]) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """The settings of `--set` for all rows, and those for one row, by its name.

    Raises:
        InputError: there is no such row, or a setting must be the same in all rows.
    """
    common: dict[str, str] = {}
    own: dict[str, dict[str, str]] = {}
    for name, value in assignments(pairs, "--set").items():
        row, colon, setting = name.rpartition(":")
        if not colon:
            common[name] = value
        elif row not in rows:
            raise unknown("row of --set", row, rows)
        elif setting in NOT_SEARCHABLE or setting.startswith(("split.", "judge.")):
            raise InputError(f"--set {name}: all rows have the same images, split and judge settings; use --set {setting}={value}")
        else:
            own.setdefault(row, {})[setting] = value
    return common, own


def _configuration(name: str, args: argparse.Namespace, common: Mapping[str, str], own: Mapping[str, str]) -> TrialConfig:
    """The configuration of a row, without its seed.

    Raises:
        InputError: the message begins with the row, unless the fault is in the settings of all rows.
    """
    if args.strengths == "small":
        if not (changes := small(name)):
            raise InputError(f"{name} differs from {REFERENCE} in its training only; use --strengths published, or drop it")
        config, further = configured(BASE, args.dataset, common), own
    else:
        # Settings of components change those of the recipe, so only the others are fixed before it.
        others = {key: value for key, value in common.items() if key.partition(".")[0] not in SLOTS}
        config, changes, further = configured(BASE, args.dataset, others), RECIPES[name], layered(common, own)
    try:
        return config.set(layered(_at_radius(changes, config), further))
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def train(jobs: Mapping[tuple[str, int], Job], executor: Executor) -> dict[tuple[str, int], TrainingResult]:
    """The results of all trainings; the missing ones are run."""
    done = itertools.count(1)

    def ended(name: tuple[str, int], result: TrainingResult) -> None:
        print(f"[{next(done)}/{len(jobs)}] {name[0]}, replicate {name[1]}" + (f" failed: {result.error}" if result.error else ""))

    return executor.train(jobs, ended)


def audit(
    jobs: Mapping[tuple[str, int], Job], results: Mapping[tuple[str, int], TrainingResult], shadows: int, executor: Executor
) -> dict[tuple[str, int], NetworkResult]:
    """The results after audits by sibling replicates and by shadow models."""
    succeeded = {key: job for key, job in jobs.items() if not results[key].error}
    siblings = max(seed for _, seed in jobs) - 1
    targets = audit_targets(succeeded, siblings, shadows_of(succeeded, shadows, executor))
    audits = audit_all(targets, ExpectedModels(siblings, shadows), executor)
    return {key: NetworkResult.of(result).audited(audits.get(key)) for key, result in results.items()}


def audit_table(recipes: Sequence[str], seeds: int, results: Mapping[tuple[str, int], NetworkResult]) -> str:
    """AUC of every audit, mean and interval over seeds; below, true-positive rates where there are enough non-members."""
    runs = {name: [results[name, s].metrics for s in range(1, seeds + 1) if not results[name, s].error] for name in recipes}
    by_recipe = [name for name, metrics in runs.items() if metrics]
    prefix = "mia_auc/"
    audits = sorted({m.removeprefix(prefix) for name in by_recipe for m in runs[name][0] if m.startswith(prefix)})
    lines = [f"| audit, AUC | {' | '.join(by_recipe)} |", "|---" * (len(by_recipe) + 1) + "|"]
    for audit in audits:
        values = {name: [m[f"{prefix}{audit}"] for m in runs[name] if f"{prefix}{audit}" in m] for name in by_recipe}
        cells = [_cell(own) for own in values.values()]
        lines.append(f"| {audit} | {' | '.join(cells)} |")
    for rate in FPRS:
        key = f"mia_tpr_at_fpr_{rate:g}/"
        for audit in audits:
            if all(f"{key}{audit}" in m for own in runs.values() for m in own):
                cells = [_cell([m[f"{key}{audit}"] for m in runs[name]]) for name in by_recipe]
                lines.append(f"| {audit}, TPR at FPR {100 * rate:g} % | {' | '.join(cells)} |")
    for control in ("memorised", "shuffled"):
        for protocol in ("auditor", "attacker"):
            key = f"mia_control_{control}/{protocol}"
            if all(key in m for own in runs.values() for m in own):
                cells = [_cell([m[key] for m in runs[name]]) for name in by_recipe]
                lines.append(f"| control {control}, {protocol} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _at_radius(changes: Mapping[str, Value], config: TrialConfig) -> dict[str, Value]:
    """A row, with the radius and norm of the threat model unless it has its own radius.

    A row that can be trained in Linf alone has the data set's customary radius in a table of another norm.
    """
    if changes.get("perturbation", "none") in ("none", "gat") or "perturbation.epsilon" in changes:
        return dict(changes)
    judge = config.judge
    if judge.norm == "linf":
        return {"perturbation.epsilon": judge.epsilon, **changes}
    if changes["perturbation"] == "rfgsm" or changes.get("regularizer") == "rss":
        return {"perturbation.epsilon": data.default_epsilon(config.dataset), **changes}
    return {"perturbation.epsilon": judge.epsilon, "perturbation.norm": judge.norm, **changes}


def table(
    recipes: Sequence[str], seeds: int, results: Mapping[tuple[str, int], TrainingResult], metrics: Sequence[str] = METRICS,
    audited: Mapping[tuple[str, int], NetworkResult] | None = None,
) -> str:  # fmt: skip
    """Means with intervals, the number of seeds at chance, and the time per epoch; then paired differences.

    Args:
        recipes: names of the rows.
        seeds: number of seeds.
        results: results of the trainings.
        metrics: columns.
        audited: results after audits, whose metrics are then shown.
    """
    final = {key: NetworkResult.of(result) for key, result in results.items()} | dict(audited or {})
    lines = ["| recipe | " + " | ".join(metrics) + " | at chance | time per epoch |", "|---" * (len(metrics) + 3) + "|"]
    reference = [s for s in range(1, seeds + 1) if (REFERENCE, s) in final]
    for name in recipes:
        runs = {s: final[name, s].metrics for s in range(1, seeds + 1) if not final[name, s].error}
        if not runs:
            lines.append(f"| {name} | failed: {final[name, 1].error} |")
            continue
        timed = [s for s in runs if s in reference and not results[REFERENCE, s].error]
        ratios = sorted(_epoch_seconds(results[name, s]) / _epoch_seconds(results[REFERENCE, s]) for s in timed)
        ratio = f"{ratios[len(ratios) // 2]:.2f}x" if ratios else "-"
        cells = [_cell([own[m] for own in runs.values() if m in own]) for m in metrics]
        at_chance = sum(own["flag/at_chance"] for own in runs.values())
        lines.append(f"| {name} | {' | '.join(cells)} | {at_chance:.0f} of {len(runs)} | {ratio} |")
    for name in recipes:
        pairs = [(final[name, s].metrics, final[REFERENCE, s].metrics) for s in reference]
        pairs = [(own, other) for own, other in pairs if own and other]
        if name != REFERENCE and pairs:
            both = {m: [own[m] - other[m] for own, other in pairs if m in own and m in other] for m in metrics}
            cells = [_cell(differences, sign=True) for differences in both.values()]
            lines.append(f"| {name} - {REFERENCE} | {' | '.join(cells)} | | |")
    return "\n".join([*lines, *_left_out([own.metrics for own in final.values() if own.metrics], metrics)])


def _left_out(runs: Sequence[Mapping[str, float]], metrics: Sequence[str]) -> list[str]:
    """Lines below a table on the metrics that no network has, with the reason."""
    absent = [m for m in metrics if runs and not any(m in own for own in runs)]
    not_audited = FLAGS["not_audited"]
    reasons = {
        m: f"{not_audited.means}; {not_audited.advice}" if needs_non_members(m) and runs[0].get("flag/not_audited")
        else "these networks have no such metric"
        for m in absent
    }  # fmt: skip
    return ["", *(f"{m} is left out: {reason}" for m, reason in reasons.items())] if absent else []


def _epoch_seconds(result: TrainingResult) -> float:
    """Median duration of an epoch."""
    seconds = sorted(row["epoch/seconds"] for row in result.curve)
    return seconds[len(seconds) // 2]


def _cell(values: Sequence[float], sign: bool = False) -> str:
    """Mean and half the width of its interval; a dash if there are no values."""
    if not values:
        return "-"
    mean, interval = mean_interval(values)
    return f"{mean:{'+' if sign else ''}.3f} ± {interval.high - mean:.3f}"


if __name__ == "__main__":
    main()
