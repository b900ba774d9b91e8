"""The cost that `--dry-run` estimates against the actual cost of the study, for three studies.

    python tests/benchmarks/bench_dry_run.py [--seconds 40] [--only crl_tradeoff ...]

Each study is estimated as `--dry-run` does it, and then run in a process of its own; all three take about six minutes on two idle
cores. Device time is the CPU time of the workers, from their start; other processes on the machine hardly affect it. Wall time is
compared only if other processes use less than a tenth of a core. Since the size of the front is random, the estimate is computed
for the actual number of confirmed points and replicates; the span that `--dry-run` prints is shown as well. Memory is the largest
sum over the study's processes, each with the part of shared pages that is its own.

Required: an estimate of device time, wall time, disk and memory within 25 % of the actual cost.

Results on 2 CPU cores, of which other processes used 0.1 to 0.4, with `--seconds 40` (estimate / actual, ratio):

    study (trials, replicates)   device time           wall time             disk
    crl_tradeoff (6, 15)         121 s / 125 s  0.97   110 s / 119 s  0.92   25 MB / 26 MB 0.99
    bpfc_tradeoff (5, 15)        109 s / 138 s  0.79    97 s / 110 s  0.88   21 MB / 22 MB 0.97
    inversion_tradeoff (4, 9)     83 s /  77 s  1.08    82 s /  82 s  1.00   17 MB / 18 MB 0.95

The wall times are those of the constant `DRIVER` of `trainables.cost.estimate` that was fitted to these three runs, so they show
how well one constant serves three studies, and not how well it predicts a fourth. With its former value, from CPU times alone, the
ratios were 0.79, 0.73 and 0.81. Memory was 1.34 to 1.42 times the actual one while every process counted the libraries that all
share; in a run of inversion_tradeoff since then, it was 0.94 times (2.2 GB / 2.3 GB).

On a machine that other processes used (`--seconds` 110 to 150 to compensate), the device times were 1.15, 0.91 and 0.98 times the
actual ones. A worker took 4.2 to 4.3 CPU seconds until its first training; the start of a command took 3.8 to 4.8, and the first
training of a process 1.3 to 2.0 more than later ones. Where measuring got so little time that networks were trained for 0 to 40 %
of their epochs and attacks were only counted, the estimate of inversion_tradeoff was 1.98 times the actual device time, when such
attacks were assumed to run to their end (now: half as long).
"""

import argparse
import contextlib
import itertools
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from core.study import Study
from studies import bpfc_tradeoff, crl_tradeoff, inversion_tradeoff
from trainables.commands import dry_run
from trainables.commands import run as _loaded  # noqa: F401  as the command of a study does
from trainables.commands.arguments import site_of
from trainables.commands.study import parser, plan_of
from trainables.cost.configurations import pilots_of
from trainables.cost.confirmation import ConfirmationSize, Span
from trainables.cost.estimate import estimate
from trainables.cost.place import Place, file_bytes
from trainables.cost.text import duration, size, span
from trainables.runs import preflight
from trainables.terminal.console import Terminal

ROOT = Path(__file__).resolve().parents[2]
STUDIES: dict[str, tuple[Study, list[str]]] = {
    "crl_tradeoff": (crl_tradeoff.STUDY, ["--trials", "6", "--set", "epochs=30"]),
    "bpfc_tradeoff": (bpfc_tradeoff.STUDY, ["--trials", "5", "--set", "epochs=25"]),
    "inversion_tradeoff": (inversion_tradeoff.STUDY, ["--trials", "4", "--set", "epochs=20"]),
}
"""Studies with their options."""
TICKS = os.sysconf("SC_CLK_TCK")
TOLERANCE = 0.25
POLL_SECONDS = 0.5
MEMORY_POLLS = 4
"""Every how many polls the memory is read."""
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""Ray's own processes that are named like workers."""
MAX_OTHERS = 0.1
"""CPU cores that other processes may use; if they use more, the wall time says nothing."""


@dataclass
class Processes:
    """CPU time and memory of a process and of all processes that it started."""

    root: int
    seconds: dict[int, float] = field(default_factory=dict)
    """CPU seconds by process."""
    workers: set[int] = field(default_factory=set)
    """Processes that ran jobs of Ray."""
    peak: float = 0.0
    """Largest sum of their memory, in bytes."""

    def poll(self, with_memory: bool) -> None:
        """Read the current values; those of the memory slow the processes down."""
        parents, memory = {}, 0.0
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, IndexError, ValueError):
                fields = (path / "stat").read_text().rpartition(")")[2].split()
                parents[int(path.name)] = (int(fields[1]), sum(map(int, fields[11:13])) / TICKS)
        for pid, (_, seconds) in parents.items():
            if self._is_below(pid, parents):
                self.seconds[pid] = seconds
                with contextlib.suppress(OSError, IndexError, ValueError):
                    name = Path(f"/proc/{pid}/cmdline").read_bytes().decode()
                    if name.startswith("ray::") and not name.startswith(("ray::IDLE", *AGENTS)):
                        self.workers.add(pid)
                    if with_memory:
                        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                        memory += next(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
        self.peak = max(self.peak, memory)

    def _is_below(self, pid: int, parents: dict[int, tuple[int, float]]) -> bool:
        while pid in parents and pid != self.root:
            pid = parents[pid][0]
        return pid == self.root


def run(study: Study, options: list[str], folder: str) -> Processes:
    """Run a study in a folder until it ends."""
    words = [sys.executable, str(ROOT / "studies" / f"{study.name}.py"), *options, "--quiet"]
    env = os.environ | {"RAY_worker_niceness": "0", "RAY_TMPDIR": folder}
    process = subprocess.Popen(words, cwd=folder, env=env)
    processes = Processes(process.pid)
    for number in itertools.count():
        if process.poll() is not None:
            break
        processes.poll(with_memory=number % MEMORY_POLLS == 0)
        time.sleep(POLL_SECONDS)
    if process.returncode not in (0, 1):
        raise SystemExit(f"{study.name} ended with exit code {process.returncode}")
    return processes


def busy_seconds() -> float:
    """CPU seconds that all processes of this machine have used, and that were stolen from it, since it started."""
    user, nice, system, _, _, *interrupts = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9])
    return sum((user, nice, system, *interrupts)) / TICKS


def confirmed(folder: str) -> ConfirmationSize:
    """The actual numbers of a confirmation step."""
    replicates = len(list(Path(folder).glob("runs/*/confirm/*/*/result.json")))
    points = len(list(Path(folder).glob("runs/*/confirm/*")))
    return ConfirmationSize(Span(points, points), Span(points, points), Span(*2 * (replicates / max(1, points),)))


def bytes_in(folder: str) -> int:
    """Bytes of the files that a study leaves in a folder."""
    found = [*Path(folder).glob("runs/**/*"), Path(folder, "mlflow.db")]
    return sum(path.stat().st_size for path in found if path.is_file())


def compare(study: Study, options: list[str], seconds: int, start: float) -> None:
    """Print the estimated and the actual cost of a study.

    Args:
        study: the study.
        options: its options.
        seconds: time for measuring.
        start: CPU seconds of the start of this process.
    """
    args = parser(study).parse_args(options)
    site = site_of(args)
    plan, images = preflight.check_new(plan_of(study, args), site, study.objectives)
    share, at_a_time = dry_run.resources(site)
    pilots, sizes, begun = pilots_of(plan), dry_run.sizes_of(plan, images), time.monotonic()
    found = dry_run.measure(plan, images, sizes, pilots, share, at_a_time, Terminal("quiet"), seconds)
    measured = time.monotonic() - begun
    place = Place(
        at_a_time=at_a_time, workers=site.workers_per_trial, start=start, driver_bytes=0.6e9, pool_bytes=images.x.numel(),
        shared_bytes=file_bytes(),
    )  # fmt: skip
    printed = estimate(plan, pilots, found, place)
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        begun, busy = time.monotonic(), busy_seconds()
        processes = run(study, options, folder)
        wall, others = time.monotonic() - begun, busy_seconds() - busy - sum(processes.seconds.values())
        step, disk = confirmed(folder), bytes_in(folder)
    expected = estimate(plan, pilots, found, place, step)
    shares = sorted(round(cost.training.trained, 2) for cost in found.costs.values())
    counts = f"{len(found.costs)} of {len(pilots)} configurations measured in {measured:.0f} s"
    print(f"\n{study.name} {' '.join(options)}: {counts}, trained for {shares[0]:.0%} to {shares[-1]:.0%} of the epochs")
    members = sizes[plan.config.judge.part].members
    print(
        f"  {plan.trials} trials of {members} members, {step.points.low:.0f} confirmed points, {step.networks.low:.0f} replicates\n"
        f"  {len(processes.workers)} worker processes started, {expected.starts.low:.0f} expected, {expected.start:.1f} s each\n"
        f"  start of the command {start:.1f} s, CPU time of the driver {processes.seconds[processes.root]:.1f} s"
    )
    idle = others / wall <= MAX_OTHERS
    print(f"  other processes used {others / wall:.2f} cores" + ("" if idle else ", so wall times cannot be compared"))
    rows = {
        "device time": (expected.device.low, sum(processes.seconds[pid] for pid in processes.workers), duration, printed.device),
        "wall time": (expected.wall.low, wall, duration, printed.wall),
        "disk": (expected.disk.low, disk, size, printed.disk),
        "memory": (expected.memory.total, processes.peak, size, Span(*2 * (printed.memory.total,))),
    }  # fmt: skip
    required = {"device time", "disk", "memory"} | ({"wall time"} if idle else set())
    for name, (guess, actual, text, ends) in rows.items():
        verdict = "   MORE THAN 25 % OFF" if name in required and abs(guess / actual - 1) > TOLERANCE else ""
        print(f"  {name:12} estimate {text(guess):>8}   actual {text(actual):>8}   ratio {guess / actual:5.2f}   "
              f"printed {span(ends, text)}{verdict}", flush=True)  # fmt: skip


def main() -> None:
    """Compare estimate and cost of each study."""
    options = argparse.ArgumentParser()
    options.add_argument("--seconds", type=int, default=dry_run.SECONDS, help="time for measuring; more on a busy machine")
    options.add_argument("--only", nargs="+", choices=STUDIES, default=list(STUDIES))
    args, start = options.parse_args(), time.process_time()
    for name, (study, words) in STUDIES.items():
        if name in args.only:
            compare(study, words, args.seconds, start)


if __name__ == "__main__":
    main()
