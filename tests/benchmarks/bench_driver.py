"""Overhead of a study: driver, tracking and searcher, with trials that do no work.

    python tests/benchmarks/bench_driver.py [--trials 100 500 2000] [--only driver|searcher]

(a) Driver and tracking. A real sweep (`trainables.execution.sweep`) on a local Ray with random suggestions, MLflow on SQLite and
the terminal's listener; each trial writes its result file and returns. In the same run, a bare Tune study with the same work and
space, without our callbacks and searcher. Cost per trial is wall time between the ends of trials, per hundred trials; the first
ten, in which Tune and the processes of the trials start (ours import torch), are left out and timed separately.
Required: the last hundred < 1.5x the first hundred, and < 2x the last hundred of the bare study.

(b) The searcher alone, without Ray: CPU seconds of one suggestion after a number of trials. Required of tpe: < 1 s at 2,000.

RESULTS: see infra/scale.md.
"""

import argparse
import io
import os
import platform
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HUNDRED = 100


def metrics_of(params) -> dict[str, float]:
    """Metrics that depend on the parameters: three conflicting objectives, and about as many other metrics as a real trial has."""
    radius, lam = params["perturbation.epsilon"], params["loss.lambda"]
    objectives = {
        "accuracy": 0.95 - 2 * radius - 0.01 * lam,
        "robust_accuracy": 0.3 + 4 * radius - 0.005 * lam,
        "mia_auc": 0.5 + 0.2 / (1 + lam) + 0.1 * params["loss.alpha_rce"] / 2,
    }
    return objectives | {f"mia_auc/{i}": 0.5 for i in range(30)}


def result_of(params):
    """The result of a trial with these parameters."""
    from trainables.study.results import TrainingResult

    return TrainingResult(metrics=metrics_of(params), curve=[{"epoch": 1, "epoch/loss": 1.0}])


def idle_trial(suggestion, images, workspace, seeds=1, rungs=()):
    """A trainable that only writes and reports a result."""
    from trainables.search.reports import result_report

    result = result_of(suggestion["params"])
    workspace.store.write_json(f"trials/{suggestion['number']:05d}/result.json", result.to_json())
    return result_report(result)


class EndTimes:
    """A listener that records when trials end."""

    def __init__(self):
        self.times: list[float] = []

    def started(self, number, params, baseline) -> None: ...

    def rows(self, number, rows) -> None: ...

    def ended(self, trial) -> None:
        self.times.append(time.perf_counter())


def plan_of(trials: int, sampler: str):
    """A plan without baselines."""
    from core.study import trilemma
    from studies.crl_tradeoff import DEV, space
    from trainables.study.plan import Plan

    return Plan(
        name="bench", study="bench", question="", config=DEV, space=space(DEV), objectives=trilemma(10), baselines={},
        trials=trials, sampler=sampler, seed=0, confirm={}, replicates=0,
    )  # fmt: skip


def our_sweep(trials: int, capacity) -> tuple[list[float], float]:
    """Start time and the times at which trials ended; and seconds that MLflow still wrote after the last trial."""
    from rich.console import Console

    from core import data
    from trainables.execution import cluster, sweep
    from trainables.storage.store import Store
    from trainables.study.outcome import Outcome
    from trainables.study.site import Site
    from trainables.terminal.progress import Progress
    from trainables.tracking.tracker import Tracker

    sweep.tune_trial = idle_trial
    plan, ends = plan_of(trials, "random"), EndTimes()
    with tempfile.TemporaryDirectory() as folder:
        store = Store.at(f"{folder}/runs").below("bench")
        outcome = Outcome.of_plan(plan, {}, [])
        tracker = Tracker(f"sqlite:///{folder}/mlflow.db", plan, outcome, home=store.root)
        progress = Progress(outcome, Console(file=io.StringIO(), width=200))
        executor = cluster.executor(Site(concurrency=2, gpus_per_worker=0.0), capacity, data.load("digits"), store)
        start = time.perf_counter()
        sweep.sweep(plan, outcome, executor, [tracker, progress, ends])
        end = time.perf_counter()
        undelivered = tracker.close()
        assert not undelivered and len(outcome.completed) == trials
    return [start, *ends.times], time.perf_counter() - end


def bare_sweep(trials: int) -> list[float]:
    """Start time and the times at which trials ended, of a Tune study without our code."""
    from ray import tune

    ends: list[float] = []

    class RecordEnds(tune.Callback):
        def on_trial_complete(self, iteration, trials, trial, **info) -> None:
            ends.append(time.perf_counter())

        def __reduce__(self):  # Tune pickles it for a restore that is not used here
            return tune.Callback, ()

    with tempfile.TemporaryDirectory() as folder:

        def work(config):
            Path(folder, f"{os.getpid()}-{time.time_ns()}.json").write_text(str(config))
            return metrics_of(config)

        knobs = {"perturbation.epsilon": (0.0, 0.1), "loss.lambda": (0.001, 10.0), "loss.alpha_rce": (0.1, 1.8)}
        start = time.perf_counter()
        tune.Tuner(
            tune.with_resources(work, {"CPU": 1}), param_space={name: tune.uniform(*span) for name, span in knobs.items()},
            tune_config=tune.TuneConfig(num_samples=trials, max_concurrent_trials=2, reuse_actors=True),
            run_config=tune.RunConfig(storage_path=f"{folder}/ray", verbose=0, callbacks=[RecordEnds()]),
        ).fit()  # fmt: skip
        return [start, *ends]


def per_hundred(ends: list[float]) -> list[float]:
    """Milliseconds per trial, for each hundred after the first ten, in which Tune and the processes of the trials start."""
    marks = [ends[10], *ends[HUNDRED::HUNDRED]]
    counts = [HUNDRED - 10] + [HUNDRED] * (len(marks) - 2)
    return [1000 * (b - a) / n for a, b, n in zip(marks, marks[1:], counts, strict=False)]


def compare_sweeps(sizes: list[int]) -> None:
    """Print the cost per trial of our sweep and of the bare one, for studies of these sizes."""
    from trainables.execution import cluster
    from trainables.study.site import Site

    with cluster.joined(Site()) as capacity:
        our_sweep(20, capacity)  # the first sweep of a process imports and starts a lot
        for trials in sizes:
            ours, writing = our_sweep(trials, capacity)
            bare = bare_sweep(trials)
            a, b = per_hundred(ours), per_hundred(bare)
            starts = f"first ten: ours {ours[10] - ours[0]:.1f} s, bare {bare[10] - bare[0]:.1f} s"
            print(f"{trials} trials, ms per trial: ours first hundred {a[0]:.0f}, last {a[-1]:.0f} ({a[-1] / a[0]:.2f}x); "
                  f"bare Tune first {b[0]:.0f}, last {b[-1]:.0f}; ours / bare at the last hundred {a[-1] / b[-1]:.2f}; "
                  f"MLflow wrote {writing:.1f} s longer; {starts}", flush=True)  # fmt: skip
            if len(a) > 2:
                print("   ours by hundreds:", *(f"{x:.0f}" for x in a), "| bare:", *(f"{x:.0f}" for x in b), flush=True)


def time_samplers(sizes: list[int]) -> None:
    """Print the CPU time of a suggestion after these numbers of trials, for each sampler."""
    from trainables.search.samplers import GP_MAX_TRIALS, SAMPLERS

    for sampler in SAMPLERS:
        counts = [min(n, GP_MAX_TRIALS) for n in sizes[:1]] if sampler == "gp" else sizes
        line = ", ".join(f"{1000 * seconds_of_suggestion(n, sampler):.1f} ms at {n}" for n in counts)
        print(f"{sampler:7} a suggestion: {line}", flush=True)


def seconds_of_suggestion(trials: int, sampler: str) -> float:
    """Median CPU seconds of ten suggestions; earlier trials come from random search, except for nsga2, which needs generations."""
    from trainables.search.reports import result_report
    from trainables.search.searcher import StudySearcher
    from trainables.storage.results import as_trial
    from trainables.storage.store import Store

    with tempfile.TemporaryDirectory() as folder:
        store, ended, seconds = Store.at(folder), [], []
        first_sampler = sampler if sampler == "nsga2" else "random"
        searcher = StudySearcher(plan_of(trials + 10, first_sampler), store, [])
        for i in range(trials + 10):
            if i == trials and first_sampler != sampler:
                searcher = StudySearcher(plan_of(trials + 10, sampler), store, ended)
            start = time.process_time()
            suggestion = searcher.suggest(f"t{i}")
            seconds.append(time.process_time() - start)
            assert suggestion
            result = result_of(suggestion["params"])
            ended.append(as_trial(suggestion, result))
            searcher.on_trial_complete(f"t{i}", result_report(result))
        return statistics.median(seconds[-10:])


def main() -> None:
    """Print the measurements."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 500, 2000], help="at least 100")
    parser.add_argument("--only", choices=["driver", "searcher"])
    args = parser.parse_args()
    versions = ", ".join(f"{package} {version(package)}" for package in ("ray", "optuna", "mlflow"))
    machine = f"{os.cpu_count()} CPU cores ({platform.machine()}), Python {platform.python_version()}"
    print(f"{machine}, {versions}, load {os.getloadavg()[0]:.1f}")
    if args.only != "driver":
        time_samplers(args.trials)
    if args.only != "searcher":
        compare_sweeps(args.trials)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
