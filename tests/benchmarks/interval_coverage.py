"""Coverage and width of the intervals of `core.estimates`, of the selected audit and of fronts, simulated.

    PYTHONPATH=.:tests/helpers python tests/benchmarks/interval_coverage.py [TABLES [RUNS]]

TABLES are some of shares, audits, fronts, separated by commas. R is the number of replicates, P that of points; widths are mean
half-widths over 1.96 standard errors of the estimate. A coverage has a standard error of 0.01 to 0.02 with 300 runs,
and of 0.03 to 0.04 with 8,000 members and of fronts.

Shares, over true values of 0.03, 0.8 and 0.97 and small and large effects of members and seeds:

    images R   P   interval     width       paired       width       Student's
       100 2   1   0.967-0.990  1.16-1.26        -           -       0.913-0.917
       100 2   2   0.927-0.960  1.01-1.07   0.950-0.953  1.08-1.11   0.898-0.933
       100 2   7   0.936-0.954  0.99-1.05   0.954-0.969  1.03-1.09   0.899-0.927
       100 2  13   0.945-0.962  0.99-1.05   0.942-0.954  1.00-1.07   0.913-0.916
       100 3   1   0.960-0.967  1.06-1.14        -           -       0.893-0.917
       100 3   2   0.965-0.975  1.08-1.14   0.967-0.977  1.10-1.10   0.903-0.923
       100 3   7   0.948-0.958  0.98-1.07   0.962-0.967  1.02-1.07   0.899-0.910
       100 3  13   0.951-0.962  1.00-1.07   0.942-0.961  1.01-1.08   0.906-0.919
       100 5   1   0.953-0.963  1.04-1.04        -           -       0.807-0.837
       100 5   2   0.940-0.955  1.00-1.04   0.953-0.973  1.06-1.13   0.775-0.823
       100 5   7   0.949-0.955  1.01-1.05   0.961-0.964  1.04-1.10   0.783-0.839
       100 5  13   0.946-0.952  0.98-1.00   0.939-0.961  0.96-1.01   0.784-0.838
       224 2   1   0.960-0.993  1.16-1.42        -           -       0.890-0.943
       224 2   2   0.950-0.983  1.12-1.32   0.970-0.997  1.22-1.37   0.863-0.947
       224 2   7   0.938-0.974  1.02-1.18   0.948-0.974  1.03-1.12   0.874-0.935
       224 2  13   0.929-0.967  0.97-1.12   0.946-0.978  0.98-1.17   0.879-0.927
       224 3   1   0.943-0.993  1.07-1.29        -           -       0.900-0.937
       224 3   2   0.947-0.977  1.07-1.17   0.963-0.973  1.14-1.22   0.885-0.938
       224 3   7   0.943-0.963  1.01-1.10   0.951-0.966  0.98-1.08   0.901-0.920
       224 3  13   0.942-0.970  1.01-1.13   0.954-0.979  1.02-1.14   0.891-0.927
       224 5   1   0.933-0.970  1.00-1.18        -           -       0.813-0.917
       224 5   2   0.958-0.972  1.10-1.13   0.950-0.973  1.07-1.18   0.842-0.917
       224 5   7   0.937-0.958  0.95-1.07   0.933-0.980  0.97-1.18   0.802-0.882
       224 5  13   0.946-0.960  1.01-1.08   0.941-0.977  1.00-1.14   0.817-0.879
      2000 2   1   0.993-1.000  1.60-1.72        -           -       0.947-0.967
      2000 2   2   0.953-0.990  1.27-1.39   0.980-1.000  1.53-1.64   0.917-0.950
      2000 2   7   0.950-0.975  1.15-1.22   0.913-0.967  0.98-1.12   0.938-0.953
      2000 2  13   0.942-0.965  1.13-1.13   0.953-0.969  1.08-1.12   0.928-0.945
      2000 3   1   0.993-1.000  1.57-1.57        -           -       0.967-0.973
      2000 3   2   0.950-0.967  1.12-1.15   0.973-0.973  1.23-1.40   0.900-0.947
      2000 3   7   0.947-0.957  1.01-1.03   0.949-0.960  1.03-1.04   0.918-0.945
      2000 3  13   0.940-0.962  1.02-1.07   0.951-0.953  1.02-1.04   0.912-0.930
      2000 5   1   0.960-0.980  1.14-1.18        -           -       0.840-0.907
      2000 5   2   0.950-0.970  1.08-1.12   0.960-0.980  1.13-1.30   0.880-0.903
      2000 5   7   0.948-0.953  1.02-1.05   0.940-0.953  1.02-1.05   0.825-0.917
      2000 5  13   0.942-0.942  0.99-1.00   0.956-0.969  1.04-1.04   0.835-0.902

Audits, over leaks with AUCs of 0.5, 0.58, 0.76 and 0.98; the selected audit is that of `core.audits.selection`:

    members others R P   selected     width       paired       width       each audit    Student's of the maximum
       100    50 2 1   0.973-1.000  1.13-1.78        -           -       0.987-1.000   0.773-0.933
       100    50 2 4   0.945-0.987  1.03-1.75   0.949-0.993  1.03-1.58   0.965-0.985   0.717-0.922
       100    50 3 1   0.940-0.987  0.96-1.76        -           -       0.927-0.980   0.133-0.887
       100    50 3 4   0.957-0.978  1.03-1.63   0.958-1.000  1.00-1.86   0.968-0.980   0.168-0.852
       449   225 2 1   0.947-0.987  1.17-1.32        -           -       0.947-0.987   0.693-0.920
       449   225 2 4   0.952-0.975  1.06-1.14   0.956-0.976  1.06-1.22   0.948-0.967   0.667-0.927
       449   225 3 1   0.940-0.980  1.02-1.17        -           -       0.940-0.987   0.127-0.920
       449   225 3 4   0.948-0.970  1.04-1.13   0.936-0.971  0.99-1.06   0.948-0.968   0.158-0.908
      8000  2000 2 4   0.950-1.000  1.26-1.45   0.840-1.000  1.00-1.34   0.950-1.000   0.650-0.960
      8000  2000 3 4   0.910-0.960  1.01-1.03   0.920-0.973  1.03-1.14   0.910-0.990   0.200-0.950

The selected audit is compared with the best one; where several are nearly as good, the choice costs up to 0.02 with 50 others.
Single points with two replicates are covered too often, as two values show little of their variance. Where the true AUC is 0.98
and 50 images limit it, all intervals are wide, as DeLong's variance is too small there.

Fronts of three metrics on 224 images:

    kind points R | undecided, wrong leaves, wrong stays | hypervolume: covered, error, half-width, error of the means'
    | lowest shrunken mean: covered, error | error of the lowest mean
    null      1 2   0.000   0.000   0.000   0.990 +0.000 ±0.030  +0.000   0.980 -0.002   -0.002
    null      5 2   1.000   0.000   0.000   0.980 +0.007 ±0.027  +0.019   0.960 -0.010   -0.027
    null      7 2   0.997   0.000   0.000   0.980 +0.009 ±0.027  +0.024   0.980 -0.010   -0.032
    null      7 3   0.999   0.000   0.000   1.000 +0.006 ±0.023  +0.019   0.950 -0.010   -0.029
    null     13 2   1.000   0.000   0.000   0.990 +0.004 ±0.025  +0.025   0.960 -0.002   -0.032
    null     13 3   1.000   0.000   0.000   0.980 +0.005 ±0.022  +0.023   0.930 -0.009   -0.035
    null     20 2   1.000   0.000   0.000   0.990 +0.006 ±0.025  +0.031   0.900 -0.003   -0.042
    null    200 2   0.897   0.103   0.000   1.000 -0.001 ±0.022  +0.043   1.000 -0.001   -0.056
    close    13 2   0.965   0.000   0.000   0.950 -0.012 ±0.028  +0.009   0.917 +0.011   -0.018
    close     7 3   0.902   0.000   0.025   1.000 -0.005 ±0.024  +0.005   0.967 -0.004   -0.019
    apart     7 2   0.421   0.003   0.012   0.925 -0.001 ±0.032  +0.004   0.988 +0.003   -0.005
    apart    13 3   0.403   0.005   0.000   0.988 -0.002 ±0.029  +0.002   0.938 -0.003   -0.008
    ties     13 2   0.792   0.012   0.000   0.950 +0.011 ±0.035  +0.019   0.917 -0.008   -0.018

Of 200 equal points a tenth leaves, as a draw of 200 points has a front of a tenth of them; no study confirms so many.
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
