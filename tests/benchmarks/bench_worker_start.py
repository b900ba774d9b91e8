"""What a worker costs before it works: its imports, and the pause between two trials in a reused worker.

    python tests/benchmarks/bench_worker_start.py [--rounds 5] [--trials 16]

(a) CPU time (user + system, of the whole fresh process) of importing what a worker imports, against `import torch`,
alternating. Ray Tune's worker imports `ray.tune` by itself, whatever the trainable is, so that is shown on its own.
Demanded: `trainables.trial` <= 1.2x of torch.

(b) A real sweep through `trainables.sweep.sweep` on a local Ray: digits, one epoch, one trial at a time. The pause is
wall time from the moment when one trial's function has returned (its result.json is written) to the moment when the
next one's is entered, in the same process. It is cut in three where the driver hears of the events: end -> `ended`
listener -> `started` listener -> begin. Demanded: < 0.1 s.

RESULTS, 2 CPU cores shared with other jobs (load 7), Python 3.11.7, torch 2.15.0, ray 2.60.0, optuna 5.0.0; 5 rounds,
16 trials, median [min-max]:

    import, CPU s                 torch 1.82, trainables.trial 1.82, ray.tune 1.25, ray.tune + trainables.trial 3.14
    trainables.trial / torch      1.01 [0.98-1.10]                                                       (demand met)
    ray.tune + trainables.trial / torch             1.81 [1.71-1.88]
    ray.tune + trainables.trial / ray.tune + torch  1.03 [0.97-1.07]
    pause between trials          0.017 [0.015-0.187] s, 14 of 15 below 0.1 s     (median meets it, the max does not)
      end -> driver hears         0.005 [0.004-0.130]
      ended -> next started       0.010 [0.008-0.035]
      started -> begin            0.002 [0.001-0.022]

Two earlier runs of (b): 0.018 [0.015-0.167] with 2 of 15 above 0.1 s, and, beside bench_training.py, 0.046
[0.015-0.322] with 4 of 15 above.
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
    "trainables.trial": "import trainables.trial",
    "ray.tune": "import ray.tune",
    "ray.tune + trainables.trial": "import ray.tune, trainables.trial",
    "ray.tune + torch": "import ray.tune, torch",
}


def spread(values: list[float], digits: int = 2) -> str:
    return f"{statistics.median(values):.{digits}f} [{min(values):.{digits}f}-{max(values):.{digits}f}]"


def process_seconds(code: str) -> float:
    """CPU seconds of a fresh interpreter that runs the code."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def imports(rounds: int) -> None:
    for code in IMPORTS.values():
        process_seconds(code)
    times: dict[str, list[float]] = {name: [] for name in IMPORTS}
    for i in range(rounds):
        for name in list(IMPORTS)[:: 1 if i % 2 else -1]:
            times[name].append(process_seconds(IMPORTS[name]))
    for name, own in times.items():
        ratios = [a / b for a, b in zip(own, times["torch"], strict=True)]
        print(f"import {name:28} {spread(own)} CPU s   x torch {spread(ratios)}")
    both = zip(times["ray.tune + trainables.trial"], times["ray.tune + torch"], strict=True)
    print(f"import ray.tune + trainables.trial over ray.tune + torch: {spread([a / b for a, b in both])}", flush=True)


def clocked_trial(suggestion, arrays, store, share):
    """The trainable of the sweep, with a record of when it began and ended, and where."""
    import os
    import time

    from trainables.trial import tune_trial

    begin, cpu = time.time(), time.process_time()
    result = tune_trial(suggestion, arrays, store, share)
    store.write_json(f"clock/{suggestion['number']}.json", {
        "begin": begin, "end": time.time(), "cpu": time.process_time() - cpu, "pid": os.getpid(),
    })  # fmt: skip
    return result


class Driver:
    """A listener that notes when the driver hears of a trial."""

    def __init__(self):
        self.begun: dict[int, float] = {}
        self.over: dict[int, float] = {}

    def started(self, number, params, baseline) -> None:
        self.begun[number] = time.time()

    def rows(self, number, rows) -> None: ...

    def ended(self, trial) -> None:
        assert not trial.error, trial.error
        self.over[trial.number] = time.time()


def pauses(trials: int) -> None:
    from core import data
    from core.config import TrialConfig, trilemma
    from core.space import parse_range
    from trainables import cluster, sweep
    from trainables.outcome import Outcome
    from trainables.plan import Plan, Site
    from trainables.store import Store
    from trainables.trial import Share, pack

    sweep.tune_trial = clocked_trial
    config = TrialConfig().set({"epochs": 1, "judge.images": 32, "judge.steps": 1, "net.width": 4})
    plan = Plan(
        name="bench", study="bench", question="", config=config, space={"optimizer.lr": parse_range("0.001:0.1:log")},
        objectives=trilemma(10), baselines={}, trials=trials, sampler="tpe", seed=0, confirm={}, replicates=0,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        store, driver = Store.at(folder).below("bench"), Driver()
        outcome = Outcome(plan.name, plan.study, "", plan.objectives, plan.space, trials)
        with cluster.joined(Site()):
            start = time.time()
            sweep.sweep(plan, outcome, pack(data.load("digits")), store, Share(0, 1.0, 0.0), lambda: 1, [driver])
            whole = time.time() - start
        clocks = [store.read_json(f"clock/{n}.json") for n in range(trials)]
    legs: list[tuple[float, float, float, float]] = []
    for n in range(1, trials):
        if clocks[n]["pid"] == clocks[n - 1]["pid"]:
            marks = [clocks[n - 1]["end"], driver.over[n - 1], driver.begun[n], clocks[n]["begin"]]
            legs.append((marks[3] - marks[0], *(b - a for a, b in itertools.pairwise(marks))))
    work = [clock["end"] - clock["begin"] for clock in clocks]
    print(f"sweep of {trials} trials: {whole:.1f} s, a trial's own work {spread(work, 3)} s, "
          f"{len({c['pid'] for c in clocks})} worker process(es), {len(legs)} pauses")  # fmt: skip
    print(f"sweep called -> first trial begins {clocks[0]['begin'] - start:.1f} s; "
          f"first trial {work[0]:.2f} s, of which {clocks[0]['cpu']:.2f} CPU s")  # fmt: skip
    for i, name in enumerate(("pause", "  end -> driver hears", "  ended -> next started", "  started -> begin")):
        print(f"{name:26} {spread([leg[i] for leg in legs], 3)} s")
    print("pauses in order:", " ".join(f"{leg[0]:.3f}" for leg in legs))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--only", choices=["imports", "pauses"])
    args = parser.parse_args()
    versions = ", ".join(f"{package} {version(package)}" for package in ("torch", "ray", "optuna"))
    machine = f"{os.cpu_count()} CPU cores ({platform.machine()}), Python {platform.python_version()}"
    print(f"{machine}, {versions}, load {os.getloadavg()[0]:.1f}")
    if args.only != "pauses":
        imports(args.rounds)
    if args.only != "imports":
        pauses(args.trials)


if __name__ == "__main__":
    main()
