"""An executor whose replicates have synthetic evidence, so that confirmation steps take no time and have planted results."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import finished
from confirming import evidence
from in_process import SHARE, LocalExecutor, workspace

from core import data
from core.config import TrialConfig
from trainables.execution.resources import to_shared
from trainables.storage.arrays import to_npz
from trainables.storage.results import intact_result
from trainables.study.outcome import Outcome
from trainables.study.plan import Plan
from trainables.study.results import TrainingResult
from trainables.study.trial import Trial

IMAGES = to_shared(data.load("digits"))


@dataclass(frozen=True)
class PlantedExecutor(LocalExecutor):
    """Writes the files of a training instead of training."""

    planted: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    """Knobs of the evidence by number of the trial; see `confirming.evidence`."""
    fails: frozenset[tuple[int, int]] = frozenset()
    """Replicates that fail."""
    trained: list[tuple[int, int]] = field(default_factory=list)
    """Replicates that were trained, in order."""
    at_most: int = 10**6
    """Number of trainings after which the driver is interrupted."""

    def train(self, jobs, on_result=lambda name, result: None):
        """Write the result of each job that has none; see `Executor.train`."""
        results, store = {}, self.workspace.store
        for (number, r), job in jobs.items():
            known = intact_result(store, job.folder)
            if known is None:
                if len(self.trained) == self.at_most:
                    raise KeyboardInterrupt
                self.trained.append((number, r))
                failed = (number, r) in self.fails
                known = TrainingResult(metrics={} if failed else {"a": 1.0}, error="it diverged" if failed else "", seconds=2.0)
                arrays = evidence(100 * number + r, members_seed=r, **self.planted[number])
                store.write(f"{job.folder}/predictions.npz", to_npz(arrays))
                store.write_json(f"{job.folder}/result.json", known.to_json())
            results[number, r] = known
            on_result((number, r), known)
        return results


def executor(
    root: Path, planted: Mapping[int, Mapping[str, float]], limit: int = 1, lines: list[str] | None = None, **changes
) -> PlantedExecutor:
    """An executor for the study s-1 below `root`; `lines` receives what it reports."""
    report = [].append if lines is None else lines.append
    return PlantedExecutor(
        images=IMAGES, workspace=workspace(root, "s-1"), limit=lambda: limit, shadow_share=SHARE, shadow_limit=lambda: 1,
        report=report, planted=planted, **changes,
    )  # fmt: skip


def plan(replicates: int, **changes) -> Plan:
    """A plan with this number of replicates per point, which are audited by thresholds alone."""
    return finished.plan(replicates=replicates, confirm={"judge.part": "test", "judge.audits": "scores"}, **changes)


def outcome(of: Plan, trials: Mapping[int, tuple[float, float, float]], baselines: Mapping[int, str]) -> Outcome:
    """The outcome of a sweep with these objectives by trial, of which some are baselines."""
    names = [o.metric for o in of.objectives]
    params = TrialConfig().params()
    ended = [Trial(n, params, dict(zip(names, m, strict=True)), baseline=baselines.get(n, "")) for n, m in trials.items()]
    return Outcome.of_plan(of, {}, ended)
