"""The choice of a point and of its network, among points that are confirmed by synthetic evidence."""

import numpy as np
import pytest
from chosen import LOWEST_AUC, OBJECTIVES, choose, confirmation, networks_of, point

from core.errors import InputError
from core.study import Constraint
from trainables.decisions.choice import pick
from trainables.storage.networks import StoredNetwork
from trainables.storage.store import Store
from trainables.study.choosing import Preference
from trainables.study.outcome import Outcome
from trainables.study.trial import Trial

POINTS = {3: point(0.96, 0.3, 0.7, 0.01), 5: point(0.91, 0.5, 0.6, 0.01), 8: point(0.81, 0.4, 0.55, 0.01)}


@pytest.mark.parametrize("preference, metric", [
    (LOWEST_AUC, "mia_auc"),
    (Preference("accuracy", maximize=True), "accuracy"),
    (Preference("robust_accuracy"), "robust_accuracy"),
])  # fmt: skip
def test_the_network_is_the_median_replicate_in_the_metric_that_is_optimised(preference, metric):
    values = {1: point(0.9, 0.5, 0.6, 0.02, replicates=5)}
    picked = choose(values, preference)
    own = values[1][metric]
    assert picked.own(metric) == sorted(own)[2] == own[int(picked.network.folder[-1]) - 1]
    assert f"{picked.network.name}, the median of the 5 replicates by {metric}" in picked.which


@pytest.mark.parametrize("aucs, replicate, which", [
    ([0.6], 1, "the only replicate that succeeded"),
    ([0.6, 0.7], 2, "the worse of the 2 replicates by mia_auc (audit loss)"),
    ([0.9, 0.7, 0.8], 3, "the median of the 3 replicates by mia_auc (audit loss)"),
    ([0.7, 0.9, 0.8, 0.6], 3, "the worse of the two in the middle of the 4 replicates by mia_auc (audit loss)"),
    ([0.7, 0.7, 0.7], 2, "the median of the 3 replicates by mia_auc (audit loss)"),
])  # fmt: skip
def test_of_two_middle_replicates_the_worse_one_and_of_equal_ones_the_first_order_is_shipped(aucs, replicate, which):
    values = {1: {"accuracy": [0.9] * len(aucs), "robust_accuracy": [0.5] * len(aucs), "mia_auc": aucs}}
    picked = choose(values)
    assert picked.network.folder == f"confirm/00001/{replicate}" and picked.which.endswith(which)
    assert choose(values, networks=networks_of(values)[::-1]).network == picked.network


def test_the_network_of_a_balanced_choice_is_the_median_by_the_distance_to_the_ideal():
    """Its accuracy, robust accuracy and AUC are each the median of another replicate."""
    values = {
        1: {"accuracy": [0.95, 0.90, 0.91], "robust_accuracy": [0.50, 0.51, 0.40], "mia_auc": [0.61, 0.60, 0.55]},
        2: {"accuracy": [0.99, 0.98, 0.99], "robust_accuracy": [0.10, 0.11, 0.12], "mia_auc": [0.90, 0.91, 0.92]},
        3: {"accuracy": [0.20, 0.21, 0.22], "robust_accuracy": [0.60, 0.61, 0.62], "mia_auc": [0.51, 0.52, 0.51]},
    }
    picked = choose(values, Preference())
    distance = picked.chosen.distance
    of = [distance.of_one({name: own[r] for name, own in values[1].items()}) for r in range(3)]
    assert picked.trial.number == 1 and picked.network.folder == f"confirm/00001/{np.argsort(of)[1] + 1}"
    assert (
        picked.which.endswith("the median of the 3 replicates by distance to the ideal")
        and picked.request == "the balanced compromise"
    )


def test_the_auc_of_a_network_is_that_of_the_audit_that_was_chosen_for_its_point():
    picked = choose(POINTS)
    assert picked.own("mia_auc") == pytest.approx(0.55, abs=0.02) and picked.network.metrics["mia_auc"] > 0.58
    assert f"this network {picked.own('mia_auc'):.4f})" in picked.value_text("mia_auc")


def test_the_number_is_the_shrunken_mean_with_its_interval_beside_the_mean_as_measured():
    picked = choose(POINTS)
    value, text = picked.chosen.values["accuracy"], picked.value_text("accuracy")
    own = picked.chosen.point
    assert value.shrunk == own.shrunk["accuracy"] != value.mean == pytest.approx(0.81)
    low, high = own.shrunk_intervals["accuracy"]
    assert text.startswith(f"accuracy {value.shrunk:.4f} (95 % interval {low:.4f} to {high:.4f}; mean as measured 0.8100; this net")


def test_an_auc_at_its_chance_level_is_not_resolved():
    picked = choose(POINTS, given=confirmation(POINTS, chance=0.56))
    assert "chance level 0.5600, not resolved; this network" in picked.value_text("mia_auc")
    (caveat,) = [text for text in picked.caveats if "mia_auc" in text]
    assert caveat.startswith("mia_auc is not resolved")
    above = choose({5: POINTS[5]}, given=confirmation({5: POINTS[5]}, chance=0.56))
    assert "chance level 0.5600; this" in above.value_text("mia_auc") and not [t for t in above.caveats if "mia_auc" in t]


def test_a_constraint_that_may_not_be_met_is_a_caveat_with_its_probability():
    caveats = lambda *constraints: choose(POINTS, LOWEST_AUC, *constraints).caveats[:-1]  # noqa: E731
    assert not caveats("accuracy>=0.78") and not caveats("mia_auc<=0.6")
    met = choose(POINTS, LOWEST_AUC, "accuracy>=0.805").chosen.meets[Constraint("accuracy", ">=", 0.805)]
    first, *own = caveats("accuracy>=0.805")
    assert 0.6 < met < 0.975 and first.startswith(f"accuracy>=0.805 is met with probability {met:.2f}; the 95 % interval is 0.")
    network = choose(POINTS, LOWEST_AUC, "accuracy>=0.805").own("accuracy")
    assert own == ([f"accuracy>=0.805 is met by the point, but this network itself has {network:.4f}"] if network < 0.805 else [])
    single = {1: point(0.9, 0.5, 0.6, replicates=1)}
    assert (
        "accuracy>=0.1 is met by a single network, so there is no interval for it"
        in choose(single, LOWEST_AUC, "accuracy>=0.1").caveats
    )


def test_an_undecided_verdict_is_a_caveat():
    (caveat,) = choose(POINTS).caveats
    assert caveat == "the verdict on its place on the front is undecided: its probability of being on the front is 0.500"


def test_runners_up_are_listed_with_their_probability_and_difference():
    noisy = {n: point(*means, 0.02) for n, means in {1: (0.9, 0.2, 0.600), 2: (0.8, 0.4, 0.605), 3: (0.95, 0.1, 0.9)}.items()}
    picked = choose(noisy)
    (other,) = picked.chosen.runners_up
    value, (low, high) = other.differences["mia_auc"]
    assert value > 0 and low < 0 < high
    assert picked.runners_up == [
        f"trial 2; its probability of being the best choice is {other.probability:.3f}; compared with trial 1, with 95 % "
        f"intervals: mia_auc {value:.4f} higher ({-low:.4f} lower to {high:.4f} higher)"
    ]
    probability = f"its probability of being the best choice is {picked.chosen.probability:.3f}"
    assert picked.certainty == f"{probability}; 1 other point cannot be distinguished from it"
    certain = "its probability of being the best choice is 0.999; every other point can be distinguished from it"
    assert choose(POINTS).certainty == certain


def test_the_runners_up_of_a_balanced_choice_are_compared_in_every_objective():
    noisy = {1: point(0.9, 0.3, 0.6, 0.05), 2: point(0.85, 0.35, 0.61, 0.05), 3: point(0.8, 0.38, 0.59, 0.05)}
    lines = choose(noisy, Preference()).runners_up
    assert lines and all(f"{name} " in line for line in lines for name in ("accuracy", "robust_accuracy", "mia_auc"))


def test_a_point_whose_trial_a_flag_excludes_is_not_chosen():
    trials = [Trial(n, {}, {name: float(np.mean(v)) for name, v in own.items()}) for n, own in POINTS.items()]
    trials[2] = Trial(8, {}, {**trials[2].metrics, "flag/zero_gradients": 1.0})
    outcome = Outcome("s-1", "s", "?", OBJECTIVES, {}, 3, trials=trials, confirmation=confirmation(POINTS))
    picked = pick("s-1", outcome, networks_of(POINTS), Store.at("."), [], [], LOWEST_AUC, False)
    assert picked.trial.number == 5 and picked.chosen.among == 2


def test_a_metric_that_one_replicate_does_not_have_cannot_be_preferred():
    networks = networks_of(POINTS)
    networks[0].metrics["epsilon"] = 8.0  # pyright: ignore[reportIndexIssue]
    for name in ("epsilon", "flag/x", "seconds/train"):
        with pytest.raises(InputError, match=f"unknown metric '{name}'.*expected one of: accuracy, robust_accuracy, mia_auc, "):
            choose(POINTS, Preference(name), networks=networks)


def test_the_front_of_a_sweep_is_chosen_from_by_its_own_numbers():
    values = {n: {name: v[:1] for name, v in own.items()} for n, own in POINTS.items()}
    networks = [StoredNetwork(f"trial {n}", f"trials/{n:05d}", {}, {k: v[0] for k, v in own.items()}) for n, own in values.items()]
    picked = choose(values, LOWEST_AUC, "accuracy>=0.9", unconfirmed=True, networks=networks)
    assert picked.trial.number == 5 and picked.which == "trial 5, as the sweep trained it" and not picked.runners_up
    value = values[5]["mia_auc"][0]
    seeds = [StoredNetwork(f"trial {n}, seed {s}", f"trials/{n:05d}/seeds/{s}", {}, {k: v[s] for k, v in POINTS[n].items()})
             for n in POINTS for s in (0, 1)]  # fmt: skip
    assert choose(POINTS, unconfirmed=True, networks=seeds).which.endswith("the worse of the 2 seeds by mia_auc")
    assert picked.value_text("mia_auc") == f"mia_auc {value:.4f} (95 % interval none; this network {value:.4f})"
    assert picked.candidates == "among 3 points on the front of the sweep, by its own numbers, of which 2 meet the constraints"
