"""Benefit of the samplers and of early stopping: hypervolume of small studies, paired over seeds.

    python tests/benchmarks/bench_search.py [--seeds 10] [--trials 20] [--processes 2] [--arms ...] [--keep FOLDER]

Studies of crl_tradeoff (its `dev` preset with 30 epochs and a net of width 8, so that there can be many of them), one trial after
the other, so that a seed determines the study. Trainings, attacks and audits are real; Ray is left out, which would not change the
numbers. Arms: `tpe`, `random`, `nsga2`, `gp`, and `tpe` and `random` with early stopping (after 10 and 20 epochs). The
baselines are the same in all. Hypervolumes are those of the sweep's metrics, after 20 (and 40) trials.

Compute is the CPU time of all trials, including interim evaluations at the rungs; epochs are counted, too.

RESULTS: see infra/scale.md. `--keep` stores each study, so that further seeds need only their own time.
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

ARMS = ("tpe", "random", "tpe+stop", "random+stop", "nsga2", "gp")
PAIRS = (("tpe", "random"), ("nsga2", "random"), ("gp", "random"), ("tpe+stop", "tpe"), ("random+stop", "random"))
"""Arms that are compared with each other."""
CHANGES = {"epochs": 30, "net.width": 8}
MEASURED_AFTER = (20, 40)
"""Numbers of trials after which a study is measured."""
MEASUREMENTS = ("hypervolume", "epochs", "cpu", "front", "stopped")


class EarlyStop(Exception):
    """The scheduler stops a trial; the argument is its last epoch."""


def stored_study(job: tuple[str, int, int, str]) -> dict:
    """Run one study, or read its measurements if they are stored; a job is (arm, seed, trials, folder)."""
    arm, seed, trials, folder = job
    path = Path(folder, f"{arm}-{seed}-{trials}.json")
    if not path.exists():
        path.write_text(json.dumps(run_study(arm, seed, trials)))
    return json.loads(path.read_text())


def run_study(arm: str, seed: int, trials: int) -> dict:
    """Run one study; returns its measurements by number of trials."""
    import torch
    from ray.tune.schedulers import TrialScheduler

    from core import data, trial
    from core.config import TrialConfig
    from core.study import trilemma
    from studies.crl_tradeoff import STUDY
    from trainables.search.early_stopping import ParetoHalving
    from trainables.search.reports import epochs_report, result_report
    from trainables.search.searcher import StudySearcher
    from trainables.storage.results import as_trial
    from trainables.storage.store import Store
    from trainables.study.outcome import Outcome
    from trainables.study.plan import Plan
    from trainables.study.results import TrainingResult

    torch.set_num_threads(1)
    sampler, _, stop = arm.partition("+")
    config = STUDY.presets["dev"].config.set(CHANGES)
    images = data.load(config.dataset)
    plan = Plan(
        name="bench", study="bench", question="", config=config, space=STUDY.space(config), objectives=trilemma(10),
        baselines={name: dict(changes) for name, changes in STUDY.baselines.items()}, trials=trials, sampler=sampler, seed=seed,
        confirm={}, replicates=0, rungs=(10, 20) if stop else (),
    )  # fmt: skip
    scheduler = ParetoHalving(plan, []) if stop else None
    outcome = Outcome.of_plan(plan, {}, [])
    measurements, epochs, start = {}, 0, time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        searcher = StudySearcher(plan, Store.at(folder), [])
        for i in range(trials):
            suggestion = searcher.suggest(str(i))
            assert suggestion is not None
            tune_trial = SimpleNamespace(config=suggestion)

            def on_epoch(row, bound, tune_trial=tune_trial) -> None:
                nonlocal epochs
                epochs += 1
                if scheduler and scheduler.on_trial_result(None, tune_trial, epochs_report([row])) == TrialScheduler.STOP:
                    raise EarlyStop(int(row["epoch"]))

            try:
                ended = trial.run(TrialConfig.of(suggestion["params"]), images, on_epoch=on_epoch, rungs=plan.rungs)
                result = TrainingResult(metrics=dict(ended.metrics.values))
                searcher.on_trial_complete(str(i), result_report(result))
            except EarlyStop as stopped:
                result = TrainingResult(stopped_epoch=stopped.args[0])
                searcher.on_trial_complete(str(i), epochs_report([]))
            outcome.trials.append(as_trial(suggestion, result))
            if i + 1 in MEASURED_AFTER:
                measurements[str(i + 1)] = {
                    "hypervolume": outcome.hypervolume(), "epochs": epochs, "cpu": time.process_time() - start,
                    "front": len(outcome.front()), "stopped": len(outcome.early_stopped),
                }  # fmt: skip
    return measurements


def paired(name: str, differences: list[float]) -> str:
    """Mean and 95 % interval (Student) of paired differences, as text."""
    from core.stats import mean_interval

    mean, (low, high) = mean_interval(differences)
    return f"{name} {mean:+.4f} [{low:+.4f}, {high:+.4f}], ahead in {sum(d > 0 for d in differences)} of {len(differences)}"


def main() -> None:
    """Run the studies that are not stored, and print comparisons."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=10, help="at least 2")
    parser.add_argument("--trials", type=int, default=20, help=f"at least {MEASURED_AFTER[0]}")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--keep", default="", metavar="FOLDER")
    args = parser.parse_args()
    folder = args.keep or tempfile.mkdtemp()
    Path(folder).mkdir(parents=True, exist_ok=True)
    jobs = [(arm, seed, args.trials, folder) for seed in range(args.seeds) for arm in args.arms]
    with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
        studies = dict(zip([job[:2] for job in jobs], pool.map(stored_study, jobs, chunksize=1), strict=True))
    for n in [str(n) for n in MEASURED_AFTER if n <= args.trials]:
        print(f"after {n} trials, {args.seeds} seeds")
        by_arm = {arm: {m: [studies[arm, seed][n][m] for seed in range(args.seeds)] for m in MEASUREMENTS} for arm in args.arms}
        for arm in args.arms:
            means = {m: np.mean(values) for m, values in by_arm[arm].items()}
            print(f"  {arm:12} hypervolume {means['hypervolume']:.4f}, front {means['front']:.1f}, stopped {means['stopped']:.1f}, "
                  f"epochs {means['epochs']:.0f}, CPU {means['cpu']:.0f} s")  # fmt: skip
        for a, b in PAIRS:
            if a in by_arm and b in by_arm:
                change = [x - y for x, y in zip(by_arm[a]["hypervolume"], by_arm[b]["hypervolume"], strict=True)]
                print(" ", paired(f"hypervolume {a} - {b}", change))
            if a in by_arm and b in by_arm and "stop" in a:
                for cost in ("cpu", "epochs"):
                    ratio = [y / x for x, y in zip(by_arm[a][cost], by_arm[b][cost], strict=True)]
                    print(f"  {cost} {b} / {a}: {np.mean(ratio):.2f} [{min(ratio):.2f}, {max(ratio):.2f}]")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
