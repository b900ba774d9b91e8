"""The confirmation step: the front trained again with new seeds and members, and evaluated on data that no sweep has seen.

A front that is picked from noisy trials is biased upward, like every maximum. Each of its points is therefore trained again in
several replicates and evaluated with stronger attacks and audits on `test`. The points' means form a second front, and each point
gets the probability that it belongs there.
"""

import itertools
from collections.abc import Sequence

from core.config import TrialConfig
from trainables.execution.audits import audit_all, audit_targets
from trainables.execution.shadows import ExpectedModels
from trainables.execution.tasks import Executor
from trainables.storage.jobs import replicate_job
from trainables.study.outcome import Confirmed
from trainables.study.plan import Plan
from trainables.study.results import NetworkResult, TrainingResult
from trainables.study.trial import Trial
from trainables.study.verdicts import verdicts


def confirm(plan: Plan, front: Sequence[Trial], executor: Executor) -> list[Confirmed]:
    """Train and evaluate a front again, and audit each replicate by its siblings and by shadow models.

    Args:
        plan: the plan, with the number of replicates and shadow models.
        front: the points.
        executor: executor of the study; it reports each replicate that ends.

    Returns:
        One record per point of which at least one replicate succeeded.
    """
    executor = executor.with_report(lambda text, report=executor.report: report(f"confirmation: {text}"))
    jobs = {(point.number, r): replicate_job(plan, point, r) for point in front for r in range(1, plan.replicates + 1)}
    done = itertools.count(1)

    def ended(name: tuple[int, int], result: TrainingResult) -> None:
        failed = f" failed: {result.error}" if result.error else ""
        executor.report(f"[{next(done)}/{len(jobs)}] trial {name[0]}, replicate {name[1]}{failed}")

    results = {key: NetworkResult.of(result) for key, result in executor.train(jobs, ended).items()}
    if TrialConfig.of(next(iter(jobs.values())).params).judge.audits == "scores":
        return verdicts(front, results, plan.objectives, plan.require)  # the outputs that audits need were not stored
    succeeded = {key: job for key, job in jobs.items() if not results[key].error}
    targets = audit_targets(succeeded, plan.shadows, executor)
    executor.report(f"{len(targets)} replicates audited against each other" + (" and by shadow models" if plan.shadows else ""))
    audits = audit_all(targets, ExpectedModels(plan.replicates - 1, plan.shadows), executor)
    audited = {key: result.audited(audits.get(key)) for key, result in results.items()}
    return verdicts(front, audited, plan.objectives, plan.require)
