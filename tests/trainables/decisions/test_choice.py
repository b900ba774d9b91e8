"""The choice of a point and of its network."""

import pytest

from core.errors import InputError
from core.stats import mean_interval
from core.study import Constraint, trilemma
from trainables.decisions.choice import Candidate, Pick, Preference, choose
from trainables.storage.networks import StoredNetwork
from trainables.study.trial import Trial


def candidate(number: int, *accuracies: float, auc: float = 0.6) -> Candidate:
    """A point with one replicate for each accuracy."""
    metrics = [{"accuracy": a, "robust_accuracy": 0.5, "mia_auc": auc, "flag/x": 0.0, "seconds/train": 1.0} for a in accuracies]
    networks = [StoredNetwork(f"r{r}", f"confirm/{number:05d}/{r}", {}, own) for r, own in enumerate(metrics, 1)]
    return Candidate(Trial(number, {}), tuple(networks))


def preference(*constraints: str, metric: str = "mia_auc", maximize: bool = False) -> Preference:
    """A preference with these constraints."""
    return Preference(tuple(Constraint.of(text) for text in constraints), metric, maximize)


def pick(among: list[Candidate], preferred: Preference) -> Pick:
    """The choice among confirmed points."""
    return choose(among, preferred, trilemma(10), confirmed=True)


POINTS = [candidate(3, 0.95, 0.97, auc=0.7), candidate(5, 0.90, 0.92, auc=0.6), candidate(8, 0.80, 0.82, auc=0.5)]


@pytest.mark.parametrize("preferred, number, feasible", [
    (preference(), 8, 3),
    (preference("accuracy>=0.9"), 5, 2),
    (preference("accuracy>=0.91"), 5, 2),  # its mean is 0.91
    (preference("accuracy>=0.92"), 3, 1),
    (preference("mia_auc<=0.6", metric="accuracy", maximize=True), 5, 2),
    (preference("mia_auc<=0.6", "accuracy<=0.85", metric="accuracy", maximize=True), 8, 1),
    (preference(metric="accuracy"), 8, 3),
    (preference(metric="robust_accuracy"), 3, 3),  # all are equal: the earliest trial
])  # fmt: skip
def test_the_best_point_whose_means_meet_the_constraints_is_chosen(preferred, number, feasible):
    picked = pick(POINTS, preferred)
    assert (picked.candidate.trial.number, picked.feasible, picked.among) == (number, feasible, 3)


@pytest.mark.parametrize("accuracies, replicate, which", [
    ((0.9,), 1, "the only replicate"),
    ((0.9, 0.8), 2, "the lower of the two middle ones of 2"),
    ((0.9, 0.7, 0.8), 3, "the median of 3"),
    ((0.7, 0.9, 0.8, 0.6), 1, "the lower of the two middle ones of 4"),
    ((0.5, 0.9, 0.8, 0.6, 0.7), 5, "the median of 5"),
])  # fmt: skip
def test_the_network_is_the_median_replicate(accuracies, replicate, which):
    picked = pick([candidate(1, *accuracies)], preference())
    assert picked.network.folder == f"confirm/00001/{replicate}" and which in picked.which


def test_a_limit_inside_the_interval_is_a_caveat():
    low, high = mean_interval([0.90, 0.92])[1]
    assert low < 0.85 < 0.91 < high and low > 0.78
    caveats = lambda *constraints: pick(POINTS[1:2], preference(*constraints)).caveats  # noqa: E731
    assert not caveats("accuracy>=0.78") and not caveats("mia_auc<=0.6") and not caveats()
    (caveat,) = caveats("accuracy>=0.85", "mia_auc<=0.7")
    assert "accuracy>=0.85" in caveat and f"{low:.4f} to {high:.4f}, crosses" in caveat
    crosses, own = caveats("accuracy>=0.905")  # the mean is 0.91, and the network has 0.90
    assert "crosses" in crosses and own == "accuracy>=0.905 is met by the mean, but this network itself has 0.9000"
    (caveat,) = caveats("accuracy<=0.95")
    assert "accuracy<=0.95" in caveat
    (caveat,) = pick([candidate(1, 0.9)], preference("accuracy>=0.1")).caveats
    assert "no interval" in caveat


def test_the_nearest_point_violates_the_fewest_constraints_and_then_by_the_least():
    with pytest.raises(InputError, match=r"none of the 3 points.* the nearest is trial 3 with accuracy 0.9600, mia_auc 0.7000"):
        pick(POINTS, preference("accuracy>=0.99", "mia_auc<=0.7"))
    with pytest.raises(InputError, match=r"the nearest is trial 8 with accuracy 0.8100, mia_auc 0.5000"):
        pick(POINTS, preference("accuracy>=0.97", "mia_auc<=0.55"))  # trial 5 is closer, but violates both


def test_a_metric_that_one_replicate_does_not_have_cannot_be_preferred():
    mixed = candidate(1, 0.9, 0.8)
    mixed.networks[0].metrics["epsilon"] = 8.0  # pyright: ignore[reportIndexIssue]
    for name in ("epsilon", "flag/x", "seconds/train"):
        with pytest.raises(InputError, match=f"unknown metric '{name}'.*expected one of: accuracy, robust_accuracy, mia_auc$"):
            pick([mixed], preference(metric=name))
