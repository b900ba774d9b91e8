"""Costs of starting work on a worker: its imports, and the pause between two trials in a reused worker.

    python tests/benchmarks/bench_worker_start.py [--rounds 5] [--trials 16] [--only imports|pauses]

(a) CPU time (user + system, of a whole new process) of the imports of a worker, relative to `import torch`, alternating. Ray
Tune's worker imports `ray.tune` whatever the trainable is, so it is also measured alone.
Required: `trainables.execution.trainable` <= 1.2x of torch.

(b) A real sweep (`trainables.execution.sweep`) on a local Ray: digits, one epoch, one trial at a time. The pause is wall time from
the return of one trial's function (its result.json is written) to the call of the next one's, in the same process. It is divided
at the times of the driver's events: end -> `ended` listener -> `started` listener -> begin. Required: < 0.1 s.

RESULTS, 2 CPU cores shared with other jobs (load 7), Python 3.11.7, torch 2.15.0, ray 2.60.0, optuna 5.0.0; 5 rounds,
16 trials, median [min-max]; "trainable" is trainables.execution.trainable:

    import, CPU s                               torch 1.82, trainable 1.82, ray.tune 1.25, ray.tune + trainable 3.14
    trainable / torch                           1.01 [0.98-1.10]                                         (as required)
    ray.tune + trainable / torch                1.81 [1.71-1.88]
    ray.tune + trainable / ray.tune + torch     1.03 [0.97-1.07]
    pause between trials          0.017 [0.015-0.187] s, 14 of 15 below 0.1 s   (the median is as required, the maximum is not)
      end -> driver notified      0.005 [0.004-0.130]
      ended -> next started       0.010 [0.008-0.035]
      started -> begin            0.002 [0.001-0.022]

Two earlier runs of (b): 0.018 [0.015-0.167] with 2 of 15 above 0.1 s, and, while bench_training.py ran, 0.046 [0.015-0.322]
with 4 of 15 above.
"""

import argparse
import itertools
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IMPORTS = {
    "torch": "import torch",
    "trainable": "import trainables.execution.trainable",
    "ray.tune": "import ray.tune",
    "ray.tune + trainable": "import ray.tune, trainables.execution.trainable",
    "ray.tune + torch": "import ray.tune, torch",
}


def median_and_range(values: list[float], digits: int = 2) -> str:
    """Median and range as text."""
    return f"{statistics.median(values):.{digits}f} [{min(values):.{digits}f}-{max(values):.{digits}f}]"


def process_seconds(code: str) -> float:
    """CPU seconds of a new interpreter that runs the code."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure_imports(rounds: int) -> None:
    """Print CPU times of imports."""
    for code in IMPORTS.values():
        process_seconds(code)
    times: dict[str, list[float]] = {name: [] for name in IMPORTS}
    for i in range(rounds):
        for name in list(IMPORTS)[:: 1 if i % 2 else -1]:
            times[name].append(process_seconds(IMPORTS[name]))
    for name, own in times.items():
        ratios = [a / b for a, b in zip(own, times["torch"], strict=True)]
        print(f"import {name:20} {median_and_range(own)} CPU s   x torch {median_and_range(ratios)}")
    both = zip(times["ray.tune + trainable"], times["ray.tune + torch"], strict=True)
    print(f"import ray.tune + trainable over ray.tune + torch: {median_and_range([a / b for a, b in both])}", flush=True)


def timed_trial(suggestion, images, workspace, seeds=1, rungs=()):
    """The trainable of a sweep, with a record of its times and its process."""
    import os
    import time

    from trainables.execution.trainable import tune_trial

    begin, cpu = time.time(), time.process_time()
    report = tune_trial(suggestion, images, workspace, seeds, rungs)
    workspace.store.write_json(f"times/{suggestion['number']}.json", {
        "begin": begin, "end": time.time(), "cpu": time.process_time() - cpu, "pid": os.getpid(),
    })  # fmt: skip
    return report


class EventTimes:
    """A listener that records the times of events on the driver."""

    def __init__(self):
        self.started_at: dict[int, float] = {}
        self.ended_at: dict[int, float] = {}

    def started(self, number, params, baseline) -> None:
        self.started_at[number] = time.time()

    def rows(self, number, rows) -> None: ...

    def ended(self, trial) -> None:
        assert not trial.error, trial.error
        self.ended_at[trial.number] = time.time()


def measure_pauses(trials: int) -> None:
    """Print the pauses between the trials of a sweep."""
    from core import data
    from core.config import TrialConfig
    from core.space import parse_range
    from core.study import trilemma
    from trainables.execution import cluster, sweep
    from trainables.storage.store import Store
    from trainables.study.outcome import Outcome
    from trainables.study.plan import Plan
    from trainables.study.site import Site

    sweep.tune_trial = timed_trial
    config = TrialConfig().set({"epochs": 1, "judge.images": 32, "judge.steps": 1, "net.width": 4})
    plan = Plan(
        name="bench", study="bench", question="", config=config, space={"optimizer.lr": parse_range("0.001:0.1:log")},
        objectives=trilemma(10), baselines={}, trials=trials, sampler="tpe", seed=0, confirm={}, replicates=0,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        store, events, site = Store.at(folder).below("bench"), EventTimes(), Site(concurrency=1, gpus_per_worker=0.0)
        with cluster.joined(site) as capacity:
            executor = cluster.executor(site, capacity, data.load("digits"), store)
            start = time.time()
            sweep.sweep(plan, Outcome.of_plan(plan, {}, []), executor, [events])
            seconds = time.time() - start
        times = [store.read_json(f"times/{n}.json") for n in range(trials)]
    pauses: list[tuple[float, float, float, float]] = []
    for n in range(1, trials):
        if times[n]["pid"] == times[n - 1]["pid"]:
            marks = [times[n - 1]["end"], events.ended_at[n - 1], events.started_at[n], times[n]["begin"]]
            pauses.append((marks[3] - marks[0], *(b - a for a, b in itertools.pairwise(marks))))
    work = [own["end"] - own["begin"] for own in times]
    print(f"sweep of {trials} trials: {seconds:.1f} s, work of a trial {median_and_range(work, 3)} s, "
          f"{len({own['pid'] for own in times})} worker process(es), {len(pauses)} pauses")  # fmt: skip
    print(f"sweep called -> first trial begins {times[0]['begin'] - start:.1f} s; "
          f"first trial {work[0]:.2f} s, of which {times[0]['cpu']:.2f} CPU s")  # fmt: skip
    for i, name in enumerate(("pause", "  end -> driver notified", "  ended -> next started", "  started -> begin")):
        print(f"{name:26} {median_and_range([pause[i] for pause in pauses], 3)} s")
    print("pauses in order:", " ".join(f"{pause[0]:.3f}" for pause in pauses))


def main() -> None:
    """Print the measurements."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--only", choices=["imports", "pauses"])
    args = parser.parse_args()
    versions = ", ".join(f"{package} {version(package)}" for package in ("torch", "ray", "optuna"))
    machine = f"{os.cpu_count()} CPU cores ({platform.machine()}), Python {platform.python_version()}"
    print(f"{machine}, {versions}, load {os.getloadavg()[0]:.1f}")
    if args.only != "pauses":
        measure_imports(args.rounds)
    if args.only != "imports":
        measure_pauses(args.trials)


if __name__ == "__main__":
    main()
