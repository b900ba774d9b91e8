"""What the searcher and early stopping are worth: hypervolume of studies on the digits, paired over seeds.

    python tests/benchmarks/bench_search.py [--seeds 10] [--trials 20] [--processes 2] [--keep FOLDER]

Studies of crl_tradeoff (its `dev` preset with 30 epochs and a net of width 8, so that there can be many of them), one trial
after the other, so that a seed gives the same study again. Real trainings, attacks and audits; no Ray, which would change none of
the numbers. Arms: `tpe`, `random`, `nsga2`, `gp`, and `tpe` and `random` with early stopping (after 10 and 20 epochs). The three
baselines are the same in all. Hypervolumes are those of the sweep's own numbers, after 20 (and 40) trials.

Compute is the CPU time of all trials, first impressions at the rungs included; epochs are counted beside it.

RESULTS: see infra/scale.md. `--keep` keeps what has been done, so that more seeds cost only themselves.
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
CHANGES = {"epochs": 30, "net.width": 8}
AT = (20, 40)
KEPT = ("hypervolume", "epochs", "cpu", "front", "stopped")


class Stopped(Exception):
    """The scheduler has seen enough."""


def study(job: tuple[str, int, int, str]) -> dict:
    """One study; its result is read from the folder if it is there."""
    arm, seed, trials, folder = job
    kept = Path(folder, f"{arm}-{seed}-{trials}.json")
    if not kept.exists():
        kept.write_text(json.dumps(_study(arm, seed, trials)))
    return json.loads(kept.read_text())


def _study(arm: str, seed: int, trials: int) -> dict:
    import torch
    from ray.tune.schedulers import TrialScheduler

    from core import data, trial
    from core.config import TrialConfig, trilemma
    from studies.crl_tradeoff import STUDY
    from trainables.outcome import Outcome, Trial
    from trainables.plan import Plan
    from trainables.search import StudySearcher
    from trainables.stopping import ParetoHalving
    from trainables.store import Store

    torch.set_num_threads(1)
    sampler, _, stop = arm.partition("+")
    config, images = STUDY.presets["dev"].config.set(CHANGES), data.load("digits")
    plan = Plan(
        name="bench", study="bench", question="", config=config, space=STUDY.space(config), objectives=trilemma(10),
        baselines={name: dict(changes) for name, changes in STUDY.baselines.items()}, trials=trials, sampler=sampler, seed=seed,
        confirm={}, replicates=0, rungs=(10, 20) if stop else (),
    )  # fmt: skip
    scheduler = ParetoHalving(plan, []) if stop else None
    outcome = Outcome("bench", "bench", "", plan.objectives, plan.space, trials)
    found, epochs, start = {}, 0, time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        searcher = StudySearcher(plan, Store.at(folder), [])
        for i in range(trials):
            suggestion = searcher.suggest(str(i))
            assert suggestion is not None
            tune_trial = SimpleNamespace(config=suggestion)

            def watch(row, bound, tune_trial=tune_trial) -> None:
                nonlocal epochs
                epochs += 1
                if scheduler and scheduler.on_trial_result(None, tune_trial, {"rows": [row]}) == TrialScheduler.STOP:
                    raise Stopped(int(row["epoch"]))

            try:
                result = trial.run(TrialConfig.of(suggestion["params"]), images, on_epoch=watch, rungs=plan.rungs)
                outcome.trials.append(Trial(i, suggestion["params"], dict(result.metrics.values)))
                searcher.on_trial_complete(str(i), {"metrics": dict(result.metrics.values)})
            except Stopped as stopped:
                outcome.trials.append(Trial(i, suggestion["params"], stopped=stopped.args[0]))
                searcher.on_trial_complete(str(i), {"rows": []})
            if i + 1 in AT:
                found[str(i + 1)] = {
                    "hypervolume": outcome.hypervolume(), "epochs": epochs, "cpu": time.process_time() - start,
                    "front": len(outcome.front()), "stopped": len(outcome.stopped),
                }  # fmt: skip
    return found


def paired(name: str, differences: list[float]) -> str:
    """Mean and 95 % interval (Student)."""
    from core.stats import mean_interval

    mean, (low, high) = mean_interval(differences)
    return f"{name} {mean:+.4f} [{low:+.4f}, {high:+.4f}], ahead in {sum(d > 0 for d in differences)} of {len(differences)}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--keep", default="")
    args = parser.parse_args()
    folder = args.keep or tempfile.mkdtemp()
    Path(folder).mkdir(parents=True, exist_ok=True)
    jobs = [(arm, seed, args.trials, folder) for seed in range(args.seeds) for arm in args.arms]
    with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
        results = dict(zip([job[:2] for job in jobs], pool.map(study, jobs, chunksize=1), strict=True))
    for n in [str(n) for n in AT if n <= args.trials]:
        print(f"after {n} trials, {args.seeds} seeds")
        of = {arm: {k: [results[arm, s][n][k] for s in range(args.seeds)] for k in KEPT} for arm in args.arms}
        for arm in args.arms:
            means = {k: np.mean(v) for k, v in of[arm].items()}
            print(f"  {arm:12} hypervolume {means['hypervolume']:.4f}, front {means['front']:.1f}, stopped {means['stopped']:.1f}, "
                  f"epochs {means['epochs']:.0f}, CPU {means['cpu']:.0f} s")  # fmt: skip
        for a, b in (("tpe", "random"), ("nsga2", "random"), ("gp", "random"), ("tpe+stop", "tpe"), ("random+stop", "random")):
            if a in of and b in of:
                change = [x - y for x, y in zip(of[a]["hypervolume"], of[b]["hypervolume"], strict=True)]
                print(" ", paired(f"hypervolume {a} - {b}", change))
            if a in of and b in of and "stop" in a:
                for what in ("cpu", "epochs"):
                    ratio = [y / x for x, y in zip(of[a][what], of[b][what], strict=True)]
                    print(f"  {what} {b} / {a}: {np.mean(ratio):.2f} [{min(ratio):.2f}, {max(ratio):.2f}]")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
