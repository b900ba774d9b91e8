"""Does each method do on these images what its paper claims? The same network and budget, fresh seeds and members.

    # needs the photographs; about 50 minutes
    python studies/recipes_table.py --dataset parquet:../shared/data/cifar10-jpeg --seeds 5 \\
        --set net=allconv net.width=16 pool=4000 epochs=40 batch_size=32 judge.steps=20 \\
        optimizer=adam optimizer.lr=0.004 optimizer.schedule=cosine

Every method is trained with every seed on the same members and judged on `test`, so differences to cross-entropy are
paired. Prints a Markdown table: mean and 95 % interval over seeds (Student). What is in --storage already is not run again.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

from core import data
from core.audits.threshold import FPRS
from core.config import TrialConfig
from core.errors import InputError, unknown
from core.space import Value
from core.stats import mean_interval
from trainables import cluster
from trainables.cli import assignments, configured
from trainables.confirm import Crew, fan_out, leaks, subjects_of
from trainables.fleet import Asked, audit_all, train_shadows, with_audit
from trainables.plan import Site
from trainables.preflight import check_config
from trainables.store import Store
from trainables.trial import Arrays, Job, pack

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
"""What suits a small network and tens of epochs, from one look at `val` with one seed; the papers' own settings are in
`core.recipes`. Half of the loss is on clean images wherever there are adversarial ones, because small plain networks stay at
chance on adversarial images alone. Radii that are not named follow the judge's."""
BASE = TrialConfig.of({"epochs": 60, "judge.part": "test", "judge.steps": 50, "judge.images": 500, "judge.epsilon": 0.1})


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is missing and print the table."""
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("--dataset")
    p.add_argument("--seeds", type=int, default=5)
    p.add_argument("--recipes", nargs="+", default=list(ROWS))
    p.add_argument(
        "--audits", action="store_true", help="let the seeds of a recipe audit each other, and print what each audit finds"
    )
    p.add_argument("--shadows", type=int, default=0, metavar="N", help="with --audits: also N shadow models for each recipe")
    p.add_argument("--metrics", nargs="+", default=METRICS, metavar="M", help=f"columns (default: {' '.join(METRICS)})")
    p.add_argument("--set", action="extend", nargs="+", default=[], metavar="NAME=VALUE")
    p.add_argument("--data-dir", default="data")
    p.add_argument("--storage", default="runs/recipes_table")
    p.add_argument("--address", default="")
    args = p.parse_args(argv)
    site = Site(address=args.address)
    try:
        jobs = jobs_of(args)
        images = data.load(args.dataset or BASE.dataset, args.data_dir, int(next(iter(jobs.values())).params["pool"]))
        check_config(TrialConfig.of(next(iter(jobs.values())).params), images, site)
    except InputError as error:
        sys.exit(f"error: {error}")
    with cluster.joined(site) as capacity:
        share = cluster.share_of(site, capacity)
        arrays, store, concurrency = pack(images), Store.at(args.storage), cluster.concurrency(share, capacity)
        share = replace(share, known=store)  # all that belongs to the table is in one place
        results = fan_out(jobs, arrays, store, share, concurrency, print)
        if args.audits:
            results = audit(jobs, results, args.shadows, arrays, Crew(store, share, concurrency))
    print("\n" + table(args.recipes, args.seeds, results, args.metrics))
    if args.audits:
        print("\n" + audit_table(args.recipes, args.seeds, results))


def jobs_of(args: argparse.Namespace) -> dict[tuple[str, int], Job]:
    """One job per recipe and seed; the folder names what is in it, so that nothing else is taken for it."""
    if missing := [name for name in args.recipes if name not in ROWS]:
        raise unknown("recipe", missing[0], ROWS)
    config, _ = configured(BASE, args.dataset, assignments(args.set, "--set"))
    jobs = {}
    for name in args.recipes:
        changes = _at_radius(ROWS[name], config.judge.epsilon)
        for seed in range(1, args.seeds + 1):
            audits: dict[str, Value] = {"judge.audits": "standard"} if args.audits else {}
            params = config.set({**changes, **audits, "seed": seed, "replicate": seed}).params()
            digest = hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()[:16]
            jobs[name, seed] = Job(f"{name}/{digest}", params)
    return jobs


def audit(
    jobs: Mapping[tuple[str, int], Job], results: Mapping[tuple[str, int], Mapping], shadows: int, arrays: Arrays, crew: Crew
) -> dict[tuple[str, int], dict]:
    """The results after audits by sisters and by shadow models, which are kept with the rest of the table."""
    subjects = subjects_of({key: job for key, job in jobs.items() if not results[key]["error"]})
    recipes = {name: subject.params for (name, _), subject in subjects.items()}
    trained = train_shadows(list(recipes.values()), shadows, arrays, crew.root, crew.share, crew.concurrency, print)
    by_recipe = dict(zip(recipes, trained, strict=True))
    known = {key: by_recipe[key[0]] for key in subjects}
    audits = audit_all(
        subjects, known, Asked(max(s for _, s in jobs) - 1, shadows), arrays, crew.root, crew.share, crew.concurrency, print
    )
    return {key: with_audit(result, audits.get(key)) for key, result in results.items()}


def audit_table(recipes: Sequence[str], seeds: int, results: Mapping[tuple[str, int], Mapping]) -> str:
    """AUC of every audit, mean and interval over seeds; below, the true-positive rates where there are enough non-members."""
    runs = {name: [results[name, s]["metrics"] for s in range(1, seeds + 1) if not results[name, s]["error"]] for name in recipes}
    found = {name: leaks(metrics) for name, metrics in runs.items() if metrics}
    audits = sorted({audit for own in found.values() for audit in own})
    lines = [f"| audit, AUC | {' | '.join(found)} |", "|---" * (len(found) + 1) + "|"]
    for audit in audits:
        values = {name: [m[f"mia_auc/{audit}"] for m in runs[name] if f"mia_auc/{audit}" in m] for name in found}
        cells = [_cell(own) if own else "-" for own in values.values()]
        lines.append(f"| {audit} | {' | '.join(cells)} |")
    for rate in FPRS:
        key = f"mia_tpr_at_fpr_{rate:g}/"
        for audit in audits:
            if all(f"{key}{audit}" in m for own in runs.values() for m in own):
                cells = [_cell([m[f"{key}{audit}"] for m in runs[name]]) for name in found]
                lines.append(f"| {audit}, TPR at FPR {100 * rate:g} % | {' | '.join(cells)} |")
    for control in ("memorised", "shuffled"):
        for protocol in ("auditor", "attacker"):
            key = f"mia_control_{control}/{protocol}"
            if all(key in m for own in runs.values() for m in own):
                lines.append(f"| control {control}, {protocol} | {' | '.join(_cell([m[key] for m in runs[n]]) for n in found)} |")
    return "\n".join(lines)


def _at_radius(changes: Mapping[str, Value], epsilon: float) -> dict[str, Value]:
    """A row, with the threat model's radius where it names none."""
    radius: dict[str, Value] = {"perturbation.epsilon": epsilon} if changes.get("perturbation", "gat") != "gat" else {}
    return radius | dict(changes)


def table(recipes: Sequence[str], seeds: int, results: Mapping[tuple[str, int], Mapping], metrics: Sequence[str] = METRICS) -> str:
    """Means with intervals, seeds whose network is no better than chance, and the pace; then paired differences."""
    lines = ["| recipe | " + " | ".join(metrics) + " | at chance | time per epoch |", "|---" * (len(metrics) + 3) + "|"]
    reference = {s: results[REFERENCE, s] for s in range(1, seeds + 1) if (REFERENCE, s) in results}
    for name in recipes:
        runs = {s: results[name, s] for s in range(1, seeds + 1) if not results[name, s]["error"]}
        if not runs:
            lines.append(f"| {name} | failed: {results[name, 1]['error']} |")
            continue
        paces = sorted(_pace(run) / _pace(reference[s]) for s, run in runs.items() if reference and not reference[s]["error"])
        pace = f"{paces[len(paces) // 2]:.2f}x" if paces else "-"
        cells = [_cell([run["metrics"][m] for run in runs.values()]) for m in metrics]
        lost = sum(run["metrics"]["flag/at_chance"] for run in runs.values())
        lines.append(f"| {name} | {' | '.join(cells)} | {lost:.0f} of {len(runs)} | {pace} |")
    for name in recipes:
        pairs = [(results[name, s]["metrics"], reference[s]["metrics"]) for s in reference]
        pairs = [(ours, theirs) for ours, theirs in pairs if ours and theirs]
        if name != REFERENCE and pairs:
            cells = [_cell([ours[m] - theirs[m] for ours, theirs in pairs], sign=True) for m in metrics]
            lines.append(f"| {name} - {REFERENCE} | {' | '.join(cells)} | | |")
    return "\n".join(lines)


def _pace(run: Mapping) -> float:
    seconds = sorted(row["epoch/seconds"] for row in run["curve"])
    return seconds[len(seconds) // 2]


def _cell(values: Sequence[float], sign: bool = False) -> str:
    mean, interval = mean_interval(values)
    return f"{mean:{'+' if sign else ''}.3f} ± {interval.high - mean:.3f}"


if __name__ == "__main__":
    main()
