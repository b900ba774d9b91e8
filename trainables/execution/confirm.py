"""The confirmation step: front and baselines trained again with new seeds and members, and evaluated on data no sweep has seen.

A front that is picked from noisy trials is biased upward, like every maximum. Its points and all baselines are therefore trained
again in several replicates and evaluated with stronger attacks and audits on `test`. The points' means form a second front, and
each point gets the probability that it belongs there.

Confirmation is sequential, because most replicates of a fixed number per point would go to points that are decided already (as in
M-MOBA, Branke and Zhang 2019): every point gets a few replicates, and each further one goes to the most undecided point, until all
are decided or the budget is used. The stored results alone determine which replicate is next, so a resumed study continues where it
was.
"""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from core.front_estimates import most_undecided
from trainables.execution.audits import AuditTarget, audit_all, audit_targets, shadows_of
from trainables.execution.shadows import ExpectedModels
from trainables.execution.tasks import Executor
from trainables.storage.jobs import Job, replicate_job
from trainables.storage.results import started_replicates, stored_replicate
from trainables.study.outcome import Confirmation, Outcome, Verdict
from trainables.study.plan import Plan
from trainables.study.replicates import Replicate
from trainables.study.results import AuditResult, NetworkResult, TrainingResult
from trainables.study.text import counted, listed, numbered_trials, plural
from trainables.study.verdicts import Standing, concluded, stand


def announcement(plan: Plan, outcome: Outcome) -> str:
    """The line that announces the step: what is trained again, and how often."""
    front, points = len(outcome.front()), len(outcome.to_confirm())
    others = f" and {counted(points - front, 'other baseline')}" if points > front else ""
    trainings = f"{counted(plan.first_replicates, 'training')} of each"
    if plan.replicates > plan.first_replicates:
        trainings += (
            ", then of undecided points and of their rivals (the points that come nearest to dominating them), at most "
            f"{plan.replicates * points} in all"
        )
    return f"confirming the {counted(front, 'trial')} of the front{others} on the test part: {trainings}"


def confirm(plan: Plan, outcome: Outcome, executor: Executor) -> Confirmation | None:
    """Train and evaluate the front and the baselines again, and audit each replicate by its siblings and by shadow models.

    Args:
        plan: the plan, with the number of replicates and shadow models.
        outcome: the outcome of the sweep.
        executor: executor of the study; it reports each replicate that ends.

    Returns:
        The confirmation, or None if every replicate failed.
    """
    executor = executor.with_report(lambda text, report=executor.report: report(f"confirmation: {text}"))
    return _Rounds(plan, outcome, executor).run()


@dataclass
class _Rounds:
    """The rounds of a confirmation step, each of which trains, audits and reads a few replicates."""

    plan: Plan
    outcome: Outcome
    executor: Executor
    results: dict[tuple[int, int], TrainingResult] = field(default_factory=dict)
    """Results of the trainings that have ended, by number of the trial and of the replicate."""
    replicates: dict[tuple[int, int], Replicate] = field(default_factory=dict)
    """Replicates that have ended, with their evidence."""
    audited: dict[tuple[int, int], AuditTarget] = field(default_factory=dict)
    """Networks that have been audited, with those that audited them."""
    shadows: dict[int, list[Job]] = field(default_factory=dict)
    """Shadow models by point."""
    chance: dict[tuple[int, ...], float] = field(default_factory=dict)
    """Chance levels that are known; see `trainables.study.verdicts.stand`."""
    is_explained: bool = False
    """Whether it has been reported that the number of decided points can fall."""

    def __post_init__(self):
        self.points = {trial.number: trial for trial in self.outcome.to_confirm()}
        self.front = [trial.number for trial in self.outcome.front()]
        self.budget = self.plan.replicates * len(self.points)
        self.count = itertools.count(1)

    def run(self) -> Confirmation | None:
        """Train replicates until every point is decided or the budget is used."""
        order = list(self.points)
        first = {(number, r) for number in order for r in range(1, self.plan.first_replicates + 1)}
        started = {key for key in started_replicates(self.executor.workspace.store) if key[0] in self.points}
        wanted = sorted(first | started, key=lambda key: (key not in first, order.index(key[0]), key[1]))
        standing = None
        while wanted:
            self._train(wanted)
            standing = stand(self.plan, self.outcome.trials, self.front, self.replicates, self.chance)
            wanted = self._next(standing) if standing else []
            self._report(standing, last=not wanted)
        return concluded(self.plan, self.outcome.trials, self.front, self.replicates, standing) if standing else None

    def _next(self, standing: Standing) -> list[tuple[int, int]]:
        """The next replicate of each of the most undecided points, as many as run at a time and as the budget allows.

        Points of which a replicate failed come first, because a single replicate has no siblings that audit it. As a verdict
        depends on a difference, an undecided point waits while its rival has fewer replicates, and that gets one.
        """
        first, tried = self.plan.first_replicates, Counter(n for n, _ in self.replicates)
        numbers = [n for n, own in standing.points.items() if len(own) < first and tried[n] < 2 * first]
        every = list(standing.points)
        for i in most_undecided(standing.probabilities):
            numbers.append(min(every[i], every[standing.rival(i)], key=lambda n: len(standing.points[n])))
        numbers = list(dict.fromkeys(numbers))
        room = min(self.budget - len(self.replicates), max(1, self.executor.limit()))
        return [(number, 1 + max(r for n, r in self.replicates if n == number)) for number in numbers[: max(0, room)]]

    def _train(self, wanted: Sequence[tuple[int, int]]) -> None:
        """Train these replicates, audit all that have not been audited by the same networks, and read their evidence."""
        store, total = self.executor.workspace.store, max(self.budget, len(self.replicates) + len(wanted))
        at_most = "at most " if self.plan.replicates > self.plan.first_replicates else ""

        def ended(key: tuple[int, int], result: TrainingResult) -> None:
            failed = f" failed: {result.error}" if result.error else ""
            self.executor.report(f"[{next(self.count)}/{at_most}{total}] trial {key[0]}, replicate {key[1]}{failed}")

        jobs = {key: replicate_job(self.plan, self.points[key[0]], key[1]) for key in wanted}
        self.results |= self.executor.train(jobs, ended)
        results = {key: NetworkResult.of(self.results[key]) for key in wanted}
        for key, audit in self._audit().items():
            results[key] = NetworkResult.of(self.results[key]).audited(audit)
        self.replicates |= {key: stored_replicate(store, *key, result) for key, result in results.items()}

    def _audit(self) -> dict[tuple[int, int], AuditResult]:
        """Audit the replicates that have not been audited by the same networks before."""
        if self.plan.config.set(self.plan.confirm).judge.audits == "scores":
            return {}  # the outputs that audits need were not stored
        jobs = {(n, r): replicate_job(self.plan, self.points[n], r) for (n, r), result in self.results.items() if not result.error}
        new = {key: job for key, job in jobs.items() if key[0] not in self.shadows}
        self.shadows |= shadows_of(new, self.plan.shadows, self.executor) if new else {}
        targets = audit_targets(jobs, self.plan.siblings, self.shadows)
        targets = {key: target for key, target in targets.items() if self.audited.get(key) != target}
        self.audited |= targets
        audits = audit_all(targets, ExpectedModels(self.plan.siblings, self.plan.shadows), self.executor)
        others = ["another replicate of its point"] * bool(self.plan.siblings)
        others += [counted(self.plan.shadows, "shadow model")] * bool(self.plan.shadows)
        by = f", each by {listed(others)}" if others else ""
        self.executor.report(f"{counted(len(targets), 'replicate')} audited{by}")
        return audits

    def _report(self, standing: Standing | None, last: bool) -> None:
        """Report which points are decided, and at the end how many replicates were used."""
        used = f"{counted(len(self.replicates), 'replicate')} used" if last else ""
        if standing is None:
            self.executor.report(f"every replicate failed; {used}")
            return
        undecided = {
            number for number, probability in zip(standing.points, standing.probabilities, strict=True)
            if Verdict.of(probability) is Verdict.UNDECIDED
        }  # fmt: skip
        decided = len(standing.points) - len(undecided)
        parts = [used, f"{decided} of {counted(len(standing.points), 'point')} {plural(decided, 'is', 'are')} decided"]
        parts += [f"undecided: {numbered_trials(undecided)}"] * bool(undecided)
        if not last and not self.is_explained:
            parts.append("a verdict can become undecided again when further replicates come in")
            self.is_explained = True
        self.executor.report("; ".join(filter(None, parts)))
