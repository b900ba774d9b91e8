"""What a study costs beside its trials: driver, tracking and searcher, with trials that do nothing.

    python tests/benchmarks/bench_driver.py [--trials 100 500 2000] [--only driver|searcher]

(a) Driver and tracking. A real sweep (`trainables.sweep.sweep`) on a local Ray with random suggestions, a real MLflow on SQLite
and the terminal's listener; each trial writes its result file and returns. Beside it, in the same run, a bare Tune study: the
same work and space, no callback, no searcher of ours. Cost per trial is wall time between the ends of trials, in hundreds; the
first ten, in which Tune and the processes of the trials start (ours import torch), are left out and timed apart.
Demanded: the last hundred < 1.5x the first hundred, and < 2x the last hundred of the bare study.

(b) The searcher alone, no Ray: CPU seconds for one suggestion when so many trials have been told. Demanded of tpe: < 1 s at 2,000.

RESULTS: see infra/scale.md.
"""

import argparse
import contextlib
import io
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HUNDRED = 100


def metrics_of(params) -> dict[str, float]:
    """What a trial would have found: three objectives that pull apart, and about as many numbers as a real one has."""
    radius, lam = params["perturbation.epsilon"], params["loss.lambda"]
    found = {
        "accuracy": 0.95 - 2 * radius - 0.01 * lam,
        "robust_accuracy": 0.3 + 4 * radius - 0.005 * lam,
        "mia_auc": 0.5 + 0.2 / (1 + lam) + 0.1 * params["loss.alpha_rce"] / 2,
    }
    return found | {f"mia_auc/{i}": 0.5 for i in range(30)}


def idle(suggestion, arrays, store, share, seeds=1, rungs=()):
    """A trial that does nothing but what every trial does at its end."""
    result = {"metrics": metrics_of(suggestion["params"]), "curve": [{"epoch": 1, "epoch/loss": 1.0}], "error": ""}
    store.write_json(f"trials/{suggestion['number']:05d}/result.json", result)
    return result


class Clock:
    """A listener that notes when trials end."""

    def __init__(self):
        self.ends: list[float] = []

    def started(self, number, params, baseline) -> None: ...

    def rows(self, number, rows) -> None: ...

    def ended(self, trial) -> None:
        self.ends.append(time.perf_counter())


def plan_of(trials: int, sampler: str):
    from core.config import trilemma
    from studies.crl_tradeoff import DEV, space
    from trainables.plan import Plan

    return Plan(
        name="bench", study="bench", question="", config=DEV, space=space(DEV), objectives=trilemma(10), baselines={},
        trials=trials, sampler=sampler, seed=0, confirm={}, replicates=0,
    )  # fmt: skip


def ours(trials: int) -> tuple[list[float], float]:
    """When trials ended, and how long MLflow still wrote after the last one."""
    from rich.console import Console

    from core import data
    from trainables import sweep
    from trainables.outcome import Outcome
    from trainables.progress import Progress
    from trainables.store import Store
    from trainables.tracking import Tracker
    from trainables.trial import Share, pack

    sweep.tune_trial = idle
    plan, clock = plan_of(trials, "random"), Clock()
    with tempfile.TemporaryDirectory() as folder:
        store = Store.at(f"{folder}/runs").below("bench")
        outcome = Outcome(plan.name, plan.study, "", plan.objectives, plan.space, trials)
        tracker = Tracker(f"sqlite:///{folder}/mlflow.db", plan, outcome, home=store.root)
        progress = Progress(outcome, Console(file=io.StringIO(), width=200))
        begin = time.perf_counter()
        sweep.sweep(plan, outcome, pack(data.load("digits")), store, Share(0, 1.0, 0.0), lambda: 2, [tracker, progress, clock])
        end = time.perf_counter()
        lost = tracker.close()
        assert not lost and len(outcome.done) == trials
    return [begin, *clock.ends], time.perf_counter() - end


def bare(trials: int) -> list[float]:
    """A Tune study without our code."""
    from ray import tune

    ends: list[float] = []

    class Watch(tune.Callback):
        def on_trial_complete(self, iteration, trials, trial, **info) -> None:
            ends.append(time.perf_counter())

        def __reduce__(self):  # Tune pickles it for a restore that is not used here
            return tune.Callback, ()

    with tempfile.TemporaryDirectory() as folder:

        def work(config):
            Path(folder, f"{os.getpid()}-{time.time_ns()}.json").write_text(str(config))
            return metrics_of({f"{slot}.{knob}": value for (slot, knob), value in ((k.split("."), v) for k, v in config.items())})

        knobs = {"perturbation.epsilon": (0.0, 0.1), "loss.lambda": (0.001, 10.0), "loss.alpha_rce": (0.1, 1.8)}
        begin = time.perf_counter()
        tune.Tuner(
            tune.with_resources(work, {"CPU": 1}), param_space={name: tune.uniform(*span) for name, span in knobs.items()},
            tune_config=tune.TuneConfig(num_samples=trials, max_concurrent_trials=2, reuse_actors=True),
            run_config=tune.RunConfig(storage_path=f"{folder}/ray", verbose=0, callbacks=[Watch()]),
        ).fit()  # fmt: skip
        return [begin, *ends]


def per_hundred(ends: list[float]) -> list[float]:
    """Milliseconds per trial, for each hundred after the first ten, in which Tune and the processes of the trials start."""
    marks = [ends[10], *ends[HUNDRED::HUNDRED]]
    counts = [HUNDRED - 10] + [HUNDRED] * (len(marks) - 2)
    return [1000 * (b - a) / n for a, b, n in zip(marks, marks[1:], counts, strict=False)]


@contextlib.contextmanager
def cluster() -> Iterator[None]:
    from trainables import cluster
    from trainables.plan import Site

    with cluster.joined(Site()):
        yield


def driver(sizes: list[int]) -> None:
    with cluster():
        ours(20)  # the first sweep of a process imports and starts a lot
        for trials in sizes:
            mine, after = ours(trials)
            theirs = bare(trials)
            a, b = per_hundred(mine), per_hundred(theirs)
            starts = f"first ten: ours {mine[10] - mine[0]:.1f} s, bare {theirs[10] - theirs[0]:.1f} s"
            print(f"{trials} trials, ms per trial: ours first hundred {a[0]:.0f}, last {a[-1]:.0f} ({a[-1] / a[0]:.2f}x); "
                  f"bare Tune first {b[0]:.0f}, last {b[-1]:.0f}; ours / bare at the last hundred {a[-1] / b[-1]:.2f}; "
                  f"MLflow wrote {after:.1f} s longer; {starts}", flush=True)  # fmt: skip
            if len(a) > 2:
                print(
                    "   ours by hundreds:", " ".join(f"{x:.0f}" for x in a), "| bare:", " ".join(f"{x:.0f}" for x in b), flush=True
                )


def searcher(sizes: list[int]) -> None:
    from trainables.search import SAMPLERS

    for sampler in SAMPLERS:
        counts = [min(n, 50) for n in sizes[:1]] if sampler == "gp" else sizes
        line = ", ".join(f"{1000 * suggestion_after(n, sampler):.1f} ms at {n}" for n in counts)
        print(f"{sampler:7} a suggestion: {line}", flush=True)


def suggestion_after(trials: int, sampler: str) -> float:
    """Median CPU seconds of ten suggestions; the trials before come from random search, where the sampler does not mind."""
    from trainables.outcome import Trial
    from trainables.search import StudySearcher
    from trainables.store import Store

    with tempfile.TemporaryDirectory() as folder:
        store, ended, seen = Store.at(folder), [], []
        filling = sampler if sampler == "nsga2" else "random"  # which needs its generations
        made = StudySearcher(plan_of(trials + 10, filling), store, [])
        for i in range(trials + 10):
            if i == trials and filling != sampler:
                made = StudySearcher(plan_of(trials + 10, sampler), store, ended)
            start = time.process_time()
            suggestion = made.suggest(f"t{i}")
            seen.append(time.process_time() - start)
            assert suggestion
            ended.append(Trial(i, suggestion["params"], metrics_of(suggestion["params"])))
            made.on_trial_complete(f"t{i}", {"metrics": ended[-1].metrics})
        return statistics.median(seen[-10:])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 500, 2000])
    parser.add_argument("--only", choices=["driver", "searcher"])
    args = parser.parse_args()
    versions = ", ".join(f"{package} {version(package)}" for package in ("ray", "optuna", "mlflow"))
    machine = f"{os.cpu_count()} CPU cores ({platform.machine()}), Python {platform.python_version()}"
    print(f"{machine}, {versions}, load {os.getloadavg()[0]:.1f}")
    if args.only != "driver":
        searcher(args.trials)
    if args.only != "searcher":
        driver(args.trials)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
