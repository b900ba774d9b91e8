"""Does each method do on these images what its paper claims? Same network and budget, several seeds and draws of members.

    # needs the photographs; about 50 minutes
    python studies/recipes_table.py --dataset parquet:../shared/data/cifar10-jpeg --seeds 5 \\
        --set net=allconv net.width=16 pool=4000 epochs=40 batch_size=32 judge.steps=20 \\
        optimizer=adam optimizer.lr=0.004 optimizer.schedule=cosine

Every method is trained with every seed on the same members and evaluated on `test`, so differences from cross-entropy are paired.
Prints a Markdown table: mean and 95 % interval over seeds (Student). Results that are in --storage already are reused.
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
from core.config import TrialConfig
from core.errors import unknown
from core.space import Value
from core.stats import mean_interval
from trainables.commands.arguments import Parser, assignments, exit_with
from trainables.commands.study import configured
from trainables.execution import cluster
from trainables.execution.audits import audit_all, audit_targets, shadows_of
from trainables.execution.shadows import ExpectedModels
from trainables.execution.tasks import Executor
from trainables.runs.preflight import check_config
from trainables.runs.study_run import EXIT_PARTIAL
from trainables.storage.jobs import Job
from trainables.storage.store import Store
from trainables.study.results import NetworkResult, TrainingResult
from trainables.study.site import Site

METRICS = ("accuracy", "robust_accuracy", "mia_auc", "train_accuracy", "density")
REFERENCE = "cross_entropy"
_FGSM: dict[str, Value] = {"perturbation": "fgsm", "perturbation.alpha": 0.5}
ROWS: dict[str, dict[str, Value]] = {
    REFERENCE: {"loss": "cross_entropy"},
    "early_stopping": {"optimizer.stop_at": 0.4},
    "label_smoothing": {"loss": "label_smoothing", "loss.epsilon": 0.3},
    "confidence_penalty": {"loss": "confidence_penalty", "loss.alpha": 1.0},
    "relaxloss": {"loss": "relaxloss", "loss.alpha": 1.0},
    "imp_relaxloss": {"loss": "imp_relaxloss", "loss.alpha_rce": 1.0},
    "centre_loss": {"loss": "centre_loss"},
    "relaxed_centre_loss": {"loss": "centre_loss", "loss.lambda": 0.1, "loss.alpha_rcl": 0.6, "loss.tau_rcl": 1.0},
    "crl": {"loss": "crl", "loss.alpha_rce": 1.0},
    "advreg": {"regularizer": "advreg"},
    "dmp": {"loss": "dmp"},
    "dp_sgd": {"optimizer": "dp_sgd", "optimizer.lr": 0.5, "optimizer.schedule": "cosine", "normalize": False, "batch_size": 128},
    "mixup": {"augmentation": "mixup"},
    "noise": {"perturbation": "noise"},
    "fgsm_at": _FGSM,
    "fgsm_l2_at": {**_FGSM, "perturbation.norm": "l2", "perturbation.epsilon": 0.5},
    "rfgsm_at": {"perturbation": "rfgsm", "perturbation.alpha": 0.5},
    "rss_at": {**_FGSM, "regularizer": "rss", "regularizer.lambda": 1.0},
    "pgd_at": {"perturbation": "pgd", "perturbation.steps": 3, "perturbation.alpha": 0.5},
    "bpfc": {"regularizer": "bpfc", "regularizer.growth": 3.0},
    "gat": {
        "perturbation": "gat", "perturbation.delta_scale": "batch_std", "perturbation.lr_g": 1e-3, "perturbation.width": 8,
        "perturbation.c_g": 0.1,
    },
    "l1": {"regularizer": "l1", "regularizer.l1": 1e-4},
    "l2": {"regularizer": "l2", "regularizer.l2": 1e-3},
    "elastic_net": {"regularizer": "elastic_net", "regularizer.l1": 1e-4, "regularizer.l2": 1e-3},
    "activation_sparsity": {"regularizer": "activation_sparsity", "regularizer.lambda": 1e-5},
}  # fmt: skip
"""Settings for a small network and tens of epochs, chosen once on `val` with one seed.

The papers' own settings are in `core.recipes`. Where there are adversarial images, half of the loss is on clean images, because
small plain networks stay at chance on adversarial images alone. Radii that are not given follow the judge settings.
"""
BASE = TrialConfig.of({"epochs": 60, "judge.part": "test", "judge.steps": 50, "judge.images": 500, "judge.epsilon": 0.1})


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the missing trainings, print the table, and exit."""
    exit_with(lambda: _main(parser().parse_args(argv)))


def parser() -> argparse.ArgumentParser:
    """The parser of the command."""
    p = Parser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    p.add_argument("--dataset", help=f"images: a name, or parquet:DIR (default: {BASE.dataset})")
    p.add_argument("--seeds", type=int, default=5, metavar="N", help="number of seeds per recipe (default: 5)")
    p.add_argument("--recipes", nargs="+", default=list(ROWS), metavar="R", help="rows of the table (default: all)")
    p.add_argument("--audits", action="store_true", help="audit the seeds of a recipe against each other, and print the results")
    p.add_argument("--shadows", type=int, default=0, metavar="N", help="with --audits: also N shadow models for each recipe")
    p.add_argument("--metrics", nargs="+", default=METRICS, metavar="M", help=f"columns (default: {' '.join(METRICS)})")
    p.add_argument("--set", action="extend", nargs="+", default=[], metavar="NAME=VALUE", help="settings of every training")
    p.add_argument("--data-dir", default="data", metavar="DIR", help="folder of downloaded images (default: data)")
    p.add_argument("--storage", default="runs/recipes_table", metavar="DIR", help="folder of results (default: runs/recipes_table)")
    p.add_argument("--address", default="", help="address of a Ray cluster; by default, Ray is started on this machine")
    return p


def _main(args: argparse.Namespace) -> int:
    site = Site(address=args.address)
    jobs = jobs_of(args)
    images = data.load(args.dataset or BASE.dataset, args.data_dir, int(next(iter(jobs.values())).params["pool"]))
    check_config(TrialConfig.of(next(iter(jobs.values())).params), images, site)
    with cluster.joined(site) as capacity:
        store = Store.at(args.storage)
        executor = cluster.executor(site, capacity, images, store, print)
        executor = replace(executor, workspace=replace(executor.workspace, root=store))  # keeps the cache in the table's folder
        results = train(jobs, executor)
        audited = audit(jobs, results, args.shadows, executor) if args.audits else {}
    print("\n" + table(args.recipes, args.seeds, results, args.metrics, audited))
    if args.audits:
        print("\n" + audit_table(args.recipes, args.seeds, audited))
    return EXIT_PARTIAL if any(result.error for result in results.values()) else 0


def jobs_of(args: argparse.Namespace) -> dict[tuple[str, int], Job]:
    """One training per recipe and seed; the folder's name contains a digest of the configuration, so that each has its own."""
    if missing := [name for name in args.recipes if name not in ROWS]:
        raise unknown("recipe", missing[0], ROWS)
    config = configured(BASE, args.dataset, assignments(args.set, "--set"))
    jobs = {}
    for name in args.recipes:
        changes = _at_radius(ROWS[name], config)
        for seed in range(1, args.seeds + 1):
            audits: dict[str, Value] = {"judge.audits": "standard"} if args.audits else {}
            params = config.set({**changes, **audits, "seed": seed, "replicate": seed}).params()
            digest = hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()[:16]
            jobs[name, seed] = Job(f"{name}/{digest}", params)
    return jobs


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
        cells = [_cell(own) if own else "-" for own in values.values()]
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
    """A row, with the radius and norm of the threat model unless it has its own.

    A row that can be trained in Linf alone has the data set's customary radius in a table of another norm.
    """
    if changes.get("perturbation", "gat") == "gat":
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
        cells = [_cell([own[m] for own in runs.values()]) for m in metrics]
        at_chance = sum(own["flag/at_chance"] for own in runs.values())
        lines.append(f"| {name} | {' | '.join(cells)} | {at_chance:.0f} of {len(runs)} | {ratio} |")
    for name in recipes:
        pairs = [(final[name, s].metrics, final[REFERENCE, s].metrics) for s in reference]
        pairs = [(own, other) for own, other in pairs if own and other]
        if name != REFERENCE and pairs:
            cells = [_cell([own[m] - other[m] for own, other in pairs], sign=True) for m in metrics]
            lines.append(f"| {name} - {REFERENCE} | {' | '.join(cells)} | | |")
    return "\n".join(lines)


def _epoch_seconds(result: TrainingResult) -> float:
    """Median duration of an epoch."""
    seconds = sorted(row["epoch/seconds"] for row in result.curve)
    return seconds[len(seconds) // 2]


def _cell(values: Sequence[float], sign: bool = False) -> str:
    mean, interval = mean_interval(values)
    return f"{mean:{'+' if sign else ''}.3f} ± {interval.high - mean:.3f}"


if __name__ == "__main__":
    main()
