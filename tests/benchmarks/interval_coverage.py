"""Coverage and width of the intervals of `core.estimates`, of the selected audit and of fronts, simulated.

    PYTHONPATH=.:tests/helpers python tests/benchmarks/interval_coverage.py [TABLES [RUNS]]

TABLE
"""

import sys

import numpy as np
from replicated import aucs, audited, shares, student_covers, true_auc

from core import pareto
from core.audits.selection import select_audit
from core.estimates import Estimates
from core.front_estimates import LEAVES, STAYS, front_probabilities, hypervolume_estimate
from core.shrinkage import shrunken
from core.study import Objective

OBJECTIVES = (Objective("0", "max", 0.0, 1.0), Objective("1", "max", 0.0, 1.0), Objective("2", "min", 1.0, 0.0))
SHOWN = 4
"""Points per study of which intervals are computed."""


class Coverage:
    """Counts of covered values, with half-widths and errors."""

    def __init__(self):
        self.covered, self.halves, self.errors = [], [], []

    def add(self, value: float, interval: tuple[float, float], truth: float) -> None:
        """Add an estimate with its interval."""
        self.covered.append(interval[0] <= truth <= interval[1])
        self.halves.append((interval[1] - interval[0]) / 2)
        self.errors.append(value - truth)

    def __str__(self) -> str:
        if not self.covered:
            return "    -     -"
        return f"{np.mean(self.covered):.3f} x{np.mean(self.halves) / np.std(self.errors) / 1.96:4.2f}"


def of_shares(truth: float, replicates: int, points: int, images: int, seeds: float, runs: int) -> str:
    """Coverage of a share: own interval, paired difference, Student's interval."""
    stream, own, paired, student = np.random.default_rng(0), Coverage(), Coverage(), []
    for _ in range(runs):
        measured = shares(stream, np.full((points, 1), truth), replicates, images, seeds, seeds)
        estimates = Estimates.of(measured, ["0"])
        for p in range(min(points, SHOWN)):
            own.add(estimates.mean(p, "0"), estimates.interval(p, "0"), truth)
            student.append(student_covers([m["0"].value for m in measured[p].values()], truth))
            if p:
                paired.add(*estimates.difference(p, 0, "0"), 0.0)
    return f"{own}   {paired}   {np.mean(student):.3f}"


def of_audits(leak: float, replicates: int, points: int, sizes: tuple[int, int, int], runs: int) -> str:
    """Coverage of the selected audit, of its paired difference, of the best and of a weak audit; Student's of the maximum."""
    stream, best, paired, first, weak, student = np.random.default_rng(0), Coverage(), Coverage(), Coverage(), Coverage(), []
    truth = true_auc(leak)
    for _ in range(runs):
        each = {p: aucs(own) for p, own in audited(stream, points, replicates, sizes, leak).items()}
        chosen = {p: select_audit(own).measurements for p, own in each.items()}
        measured = {p: {r: {**each[p][r], "best": chosen[p][r]} for r in each[p]} for p in each}
        estimates = Estimates.of(measured, ["best", "0", "3"])
        for p in range(min(points, SHOWN)):
            best.add(estimates.mean(p, "best"), estimates.interval(p, "best"), truth)
            first.add(estimates.mean(p, "0"), estimates.interval(p, "0"), truth)
            weak.add(estimates.mean(p, "3"), estimates.interval(p, "3"), true_auc(leak, 3))
            student.append(student_covers([max(max(m.value, 1 - m.value) for m in r.values()) for r in each[p].values()], truth))
            if p:
                paired.add(*estimates.difference(p, 0, "best"), 0.0)
    return f"{best} {np.mean(best.errors):+.3f}   {paired}   {first}   {weak}   {np.mean(student):.3f}"


def true_values(stream: np.random.Generator, kind: str, points: int) -> np.ndarray:
    """True values of three metrics of points, which trade off: accuracy, robust accuracy and leak."""
    spread = {"null": 0.0, "close": 0.03, "apart": 0.12, "ties": 0.12}[kind]
    drawn = stream.normal(size=(points, 3))
    drawn[:, 1] = -0.5 * drawn[:, 0] + 0.866 * drawn[:, 1]
    values = np.array([0.7, 0.4, 0.6]) + spread * drawn
    return np.clip(values[stream.integers(0, 4, points)] if kind == "ties" else values, 0.03, 0.97)


def of_fronts(kind: str, points: int, replicates: int, runs: int) -> str:
    """Shares of undecided points and of wrong verdicts; hypervolume; the lowest shrunken mean; each against its naive version."""
    stream, on, probabilities = np.random.default_rng(0), [], []
    volume, raw, winner, lucky = Coverage(), [], Coverage(), []
    for _ in range(runs):
        truth = true_values(stream, kind, points)
        estimates = Estimates.of(shares(stream, truth, replicates, 224, 0.05, 0.06), [o.metric for o in OBJECTIVES])
        every = np.ones(points, bool)
        probabilities += front_probabilities(estimates, OBJECTIVES, every).tolist()
        losses, noisy = (np.stack([1 - v[:, 0], 1 - v[:, 1], v[:, 2]], 1) for v in (truth, estimates.means))
        on += pareto.non_dominated(losses).tolist()
        volume.add(*hypervolume_estimate(estimates, OBJECTIVES, every), pareto.hypervolume(losses))
        raw.append(pareto.hypervolume(noisy) - pareto.hypervolume(losses))
        found = shrunken(estimates, list(range(points)), ["2"])
        best = min(found, key=lambda p: found[p]["2"][0])
        winner.add(*found[best]["2"], truth[best, 2])
        lucky.append(noisy[:, 2].min() - truth[noisy[:, 2].argmin(), 2])
    p, front = np.array(probabilities), np.array(on)
    wrong = [np.mean(p[front] <= LEAVES), np.mean(~front[p >= STAYS]) if (p >= STAYS).any() else 0.0]
    return (
        f"{np.mean((p > LEAVES) & (p < STAYS)):.3f}   {wrong[0]:.3f}   {wrong[1]:.3f}   {np.mean(volume.covered):.3f} "
        f"{np.mean(volume.errors):+.3f} ±{np.mean(volume.halves):.3f}  {np.mean(raw):+.3f}   {np.mean(winner.covered):.3f} "
        f"{np.mean(winner.errors):+.3f}   {np.mean(lucky):+.3f}"
    )


SHARES = [
    (images, replicates, points, truth, effect)
    for images, effects in ((100, (0.03, 0.1)), (224, (0.03, 0.1)), (2000, (0.02, 0.05)))
    for replicates in (2, 3, 5) for points in (1, 2, 7, 13)
    for truth in ((0.03, 0.8, 0.97) if images == 224 else (0.8,)) for effect in effects
]  # fmt: skip
"""Images, replicates, points, true share, effects of members and seeds."""
AUDITED = [
    (sizes, replicates, points, leak)
    for sizes in ((100, 50, 50), (449, 224, 225), (8000, 2000, 2000)) for replicates in (2, 3)
    for points in ((1, 4) if sizes[0] < 8000 else (4,)) for leak in (0.0, 0.3, 1.0, 3.0)
]  # fmt: skip
"""Members, other images of the pool and non-members; replicates, points, leak."""
FRONTS = [
    ("null", 1, 2), ("null", 5, 2), ("null", 7, 2), ("null", 7, 3), ("null", 13, 2), ("null", 13, 3), ("null", 20, 2),
    ("null", 200, 2), ("close", 13, 2), ("close", 7, 3), ("apart", 7, 2), ("apart", 13, 3), ("ties", 13, 2),
]  # fmt: skip
"""Kind of the true values, points, replicates."""


def print_shares(runs: int) -> None:
    """Print the table of shares."""
    print("images replicates points truth effects | interval, paired difference, Student's interval")
    for images, replicates, points, truth, effect in SHARES:
        row = of_shares(truth, replicates, points, images, effect, runs if images < 2000 else runs // 2)
        print(f"{images:6} {replicates} {points:3} {truth:.2f} {effect:.2f}   {row}", flush=True)


def print_audits(runs: int) -> None:
    """Print the table of audits."""
    print("members non-members replicates points leak | selected audit, bias, paired difference, best, weak, Student of maximum")
    for sizes, replicates, points, leak in AUDITED:
        row = of_audits(leak, replicates, points, sizes, runs // 2 if sizes[0] < 8000 else max(10, runs // 12))
        print(f"{sizes[0]:6} {sizes[2]:5} {replicates} {points} {leak:.1f}   {row}", flush=True)


def print_fronts(runs: int) -> None:
    """Print the table of fronts."""
    print("kind points replicates | undecided, wrong leaves, wrong stays, hypervolume, naive one, lowest point, naive one")
    for kind, points, replicates in FRONTS:
        row = of_fronts(kind, points, replicates, max(10, runs // 3 if points < 100 else runs // 30))
        print(f"{kind:6} {points:4} {replicates}   {row}", flush=True)


TABLES = {"shares": print_shares, "audits": print_audits, "fronts": print_fronts}


if __name__ == "__main__":
    for name in sys.argv[1].split(",") if len(sys.argv) > 1 else TABLES:
        TABLES[name](int(sys.argv[2]) if len(sys.argv) > 2 else 300)
