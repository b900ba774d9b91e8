"""The expected size of the confirmation step: how many points are on the front of a sweep, and how many networks they take."""

from typing import NamedTuple

from trainables.study.plan import Plan


class Span(NamedTuple):
    """A range of an unknown number."""

    low: float
    high: float

    def times(self, other: "Span") -> "Span":
        """The range of the product of two positive numbers."""
        return Span(self.low * other.low, self.high * other.high)

    def plus(self, other: "Span") -> "Span":
        """The range of the sum of two numbers that are low or high together."""
        return Span(self.low + other.low, self.high + other.high)

    @property
    def middle(self) -> float:
        """The mean of both ends."""
        return (self.low + self.high) / 2


class ConfirmationSize(NamedTuple):
    """Expected numbers in the confirmation step."""

    front: Span
    """Trials on the front of the sweep."""
    points: Span
    """Points that are confirmed."""
    replicates: Span
    """Replicates per point."""

    @property
    def networks(self) -> Span:
        """Replicates of all points."""
        return self.points.times(self.replicates)


def expected(plan: Plan) -> ConfirmationSize:
    """The expected numbers of a plan. This function alone knows which points are confirmed, and how often.

    All baselines and all points of the front are confirmed; a share of the front, the same as of all trials, are baselines. Each
    point gets `plan.first_replicates`, and `plan.replicates` at most on average.
    """
    if not plan.replicates:
        return ConfirmationSize(Span(0, 0), Span(0, 0), Span(0, 0))
    front = front_size(plan.trials, len(plan.objectives))
    others = 1 - len(plan.baselines) / plan.trials
    points = Span(*(len(plan.baselines) + others * size for size in front))
    return ConfirmationSize(front, points, Span(plan.first_replicates, plan.replicates))


def front_size(trials: int, objectives: int) -> Span:
    """The expected number of non-dominated trials.

    For independent objectives it is E(n, d) = sum of E(k, d - 1) / k over k = 1 to n, with E(n, 1) = 1 (Bentley et al. 1978);
    this is the lower end. Objectives that conflict leave more; the upper end is that of one more independent objective. Earlier
    studies with three objectives had 10 of 20, 9 of 16 and 6 of 8 trials on the front, for which the ends are 7.3 and 11.0, 6.5 and
    9.5, and 4.5 and 5.8. Constraints, flags that exclude trials and early stopping make a front smaller and are not considered.
    """
    counts = [1.0] * (trials + 1)
    for _ in range(objectives - 1):
        total = 0.0
        for k in range(1, trials + 1):
            total += counts[k] / k
            counts[k] = total
    low, total = counts[trials], 0.0
    for k in range(1, trials + 1):
        total += counts[k] / k
    return Span(low, total)
