"""Suites of a trial, distances, and further attacks on a stored network."""

import functools
from itertools import pairwise

import numpy as np
import pytest
import torch

from core import data, trial
from core.attacks.suite import SUITES, quick
from core.bound import bind
from core.config import TrialConfig
from core.errors import InputError
from core.evaluation.judge import judge
from core.evaluation.robustness import attack_further, distance_metrics, suite_of

torch.set_num_threads(1)

CONFIG = TrialConfig.of(
    {"epochs": 8, "net.width": 8, "optimizer.lr": 0.05, "batch_size": 64, "judge.epsilon": 0.12, "judge.steps": 5}
)


@functools.cache
def pool():
    return data.load("digits")


@functools.cache
def parts():
    return data.split(pool())


@functools.cache
def trial_result():
    return trial.run(CONFIG, pool())


def test_a_trial_runs_the_suite_of_its_settings_and_the_adaptive_attack_on_its_defence():
    def names(changes):
        config = CONFIG.set(changes)
        return list(suite_of(config, bind(config, pool().at(parts().members), torch.device("cpu"))))

    assert names({}) == list(quick(5, 1))
    assert names({"judge.suite": "strong"}) == list(SUITES["strong"](5, 1))
    assert "pgd_bpfc" in names({"regularizer": "bpfc"}) and "generator" in names({"perturbation": "gat"})
    assert names({"regularizer": "bpfc"})[-1] == "square_probe"


def test_the_standard_suite_also_measures_distances():
    result = judge(CONFIG.set({"judge.suite": "standard", "judge.images": 60}), bound(), pool(), parts())
    m, arrays = result.metrics.values, result.predictions
    assert 0 < m["deepfool_l2"] <= m["adversarial_radius"] * 1.05 and m["deepfool_fooling_rate"] > 0.95
    curve = [m[f"robust_accuracy_at/{scale}"] for scale in ("0.25", "0.5", "1", "2", "4")]
    assert curve == sorted(curve, reverse=True) and curve[0] > curve[-1]
    resisted = [arrays[f"robust_at/{scale}"] for scale in ("0.25", "0.5", "1", "2", "4")]
    assert [array.mean() for array in resisted] == curve and {len(array) for array in resisted} == {60}
    assert all((small >= large).all() for small, large in pairwise(resisted))


def bound():
    restored = bind(CONFIG, pool().at(parts().members), torch.device("cpu"))
    restored.load(trial_result().state)
    return restored


def test_further_attacks_on_a_stored_network_only_add_to_the_earlier_verdicts():
    before = {k: v for k, v in trial_result().predictions.items()}
    again = attack_further(CONFIG, trial_result().state["modules"], pool(), "standard", before)
    worst = np.all([v for k, v in before.items() if k.startswith("robust/")], axis=0)
    new = np.all([v for k, v in again.predictions.items() if k.startswith("robust/")], axis=0)
    assert again.metrics["robust_accuracy"] == pytest.approx((worst & new).mean())
    assert again.metrics["robust_accuracy"] <= trial_result().metrics["robust_accuracy"]
    attacks = {k.removeprefix("robust/") for k in again.predictions if not k.startswith("robust_at/")}
    assert attacks == SUITES["standard"](5, 1).keys() - SUITES["quick"](5, 1).keys()
    assert all(not (v & ~worst).any() for k, v in again.predictions.items() if k.startswith("robust/"))
    direct = judge(CONFIG.set({"judge.suite": "standard"}), bound(), pool(), parts())
    # The earlier verdicts include images that the probe fooled, which the standard suite does not run.
    assert again.metrics["robust_accuracy"] <= direct.metrics["robust_accuracy"] + 1e-9


def test_further_attacks_with_the_predictions_of_other_images_are_rejected():
    stale = {k: v[:10] if k.startswith("robust/") else v for k, v in trial_result().predictions.items()}
    other = trial_result().predictions | {"rows": trial_result().predictions["rows"][::-1]}
    for known in (stale, other, {"rows": trial_result().predictions["rows"]}):
        with pytest.raises(InputError, match="not of these images"):
            attack_further(CONFIG, trial_result().state["modules"], pool(), "standard", known)


def test_a_network_that_no_attack_fools_has_no_distance_of_fooled_images():
    """A constant network: DeepFool has no gradient to follow."""

    class Constant(torch.nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :2] * 0 + torch.tensor([1.0, 0.0])

    x, y = torch.rand(6, 1, 8, 8), torch.zeros(6).long()
    m = distance_metrics(Constant(), x, y, CONFIG.judge, 0).metrics
    assert m["deepfool_fooling_rate"] == 0 and "deepfool_l2" not in m and m["adversarial_radius"] > 0
    assert not {"adversarial_radius", "deepfool_l2"} & set(distance_metrics(Constant(), x, y + 1, CONFIG.judge, 0).metrics)
