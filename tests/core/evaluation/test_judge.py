"""The evaluation of a trial: metrics against their evidence, and networks whose correct verdict is known."""

import dataclasses
import functools
from types import SimpleNamespace

import numpy as np
import pytest
import sklearn.metrics
import torch
from torch import nn

from core import data, pareto
from core.attacks.gradient import fgsm
from core.attacks.suite import SuiteResult, quick, run_suite
from core.audits.chance import chance_level
from core.audits.evidence import stored_scores
from core.config import TrialConfig
from core.errors import TrialError
from core.evaluation.judge import judge
from core.modes import predict
from core.study import trilemma
from core.train import train

torch.set_num_threads(1)

CONFIG = TrialConfig.of({
    "epochs": 5, "batch_size": 64, "net.width": 8, "optimizer.lr": 0.1, "judge.epsilon": 0.06, "judge.steps": 4,
    "judge.restarts": 2,
})  # fmt: skip


@functools.cache
def pool():
    return data.load("digits")


@functools.cache
def parts():
    return data.split(pool())


@functools.cache
def trained():
    """A trained network with its bound components."""
    images, p = pool(), parts()
    return train(CONFIG, images.at(p.members), images.at(p.val))


@functools.cache
def result():
    return judge(CONFIG, trained(), pool(), parts())


@functools.cache
def unrelated_network():
    """A network that was trained on images that are neither members nor evaluated."""
    return train(CONFIG, pool().at(parts().shadow), pool().at(parts().val)).net


def judge_network(net, config=CONFIG, images=None, split=None):
    """The evaluation of any network."""
    bound = SimpleNamespace(net=net, curve=[], state=dict)
    return judge(config, bound, images or pool(), split or parts())  # pyright: ignore[reportArgumentType]


def fixed_result(fgsm_, pgd_):
    """A replacement of `run_suite` that returns these verdicts for any network."""
    robust = {"fgsm": torch.tensor(fgsm_), "pgd": torch.tensor(pgd_)}
    all_ = torch.ones(len(fgsm_), dtype=torch.bool)
    return lambda *args, **kwargs: SuiteResult(all_, all_, robust, {})


def on_front(*results):
    return pareto.front([result.metrics.values for result in results], trilemma(10)).tolist()


class Pixels(nn.Module):
    """A network whose logits are a function of the pixels [B, 64]."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x.flatten(1))


# ---- metrics and evidence


def test_robust_accuracy_is_the_worst_case_per_image_over_the_attacks():
    evaluated = result()
    attacks = [v for k, v in evaluated.predictions.items() if k.startswith("robust/")]
    assert len(attacks) >= 2 and all(a.dtype == bool for a in attacks)
    assert evaluated.metrics["robust_accuracy"] == pytest.approx(np.mean(np.all(attacks, axis=0)))
    for name in ("fgsm", "pgd"):
        assert evaluated.metrics[f"robust_accuracy/{name}"] == pytest.approx(evaluated.predictions[f"robust/{name}"].mean())
    by_attack = [evaluated.metrics[f"robust_accuracy/{name}"] for name in ("fgsm", "pgd")]
    assert evaluated.metrics["robust_accuracy"] <= min(by_attack)
    assert 0 < evaluated.metrics["robust_accuracy"] < evaluated.metrics["accuracy"] - 0.05


def test_the_worst_case_is_taken_per_image_and_not_per_attack(monkeypatch):
    monkeypatch.setattr("core.evaluation.judge.run_suite", fixed_result([True, False, True, True], [False, True, True, True]))
    assert judge_network(trained().net, CONFIG.set({"judge.images": 4})).metrics["robust_accuracy"] == 0.5


def test_metrics_can_be_recomputed_from_the_stored_predictions():
    evaluated = result()
    p = evaluated.predictions
    assert evaluated.metrics["accuracy"] == pytest.approx((p["logits"].argmax(1) == p["labels"]).mean())
    assert evaluated.metrics["train_accuracy"] == pytest.approx((p["member_logits"].argmax(1) == p["member_labels"]).mean())

    def audits(logits, labels):
        probabilities = np.exp(logits.astype(float) - logits.max(1, keepdims=True))
        probabilities /= probabilities.sum(1, keepdims=True)
        true = np.arange(10) == labels[:, None]
        rest = (1 - probabilities)[true].clip(1e-300)
        return {
            "confidence": probabilities[true],
            "loss": np.log(probabilities[true]),
            "entropy": (probabilities * np.log(probabilities)).sum(1),
            "modified_entropy": rest * np.log(probabilities[true])
            + np.where(true, 0, probabilities * np.log1p(-np.where(true, 0, probabilities))).sum(1),
        }

    of_members, of_others = audits(p["member_logits"], p["member_labels"]), audits(p["logits"], p["labels"])
    truth = np.r_[np.ones(len(p["member_rows"])), np.zeros(len(p["rows"]))]
    raw = {name: sklearn.metrics.roc_auc_score(truth, np.r_[of_members[name], of_others[name]]) for name in of_members}
    for name, auc in raw.items():
        assert evaluated.metrics[f"mia_auc/{name}"] == pytest.approx(auc, abs=1e-6)
    assert evaluated.metrics["mia_auc"] == pytest.approx(max(max(a, 1 - a) for a in raw.values()), abs=1e-6)


def test_stored_predictions_are_those_of_the_network_on_the_stored_rows():
    p, images = result().predictions, pool()
    for rows, labels, logits in (("rows", "labels", "logits"), ("member_rows", "member_labels", "member_logits")):
        assert (p[labels] == images.y.numpy()[p[rows]]).all()
        np.testing.assert_allclose(p[logits], predict(trained().net, images.x[p[rows]]).numpy(), atol=1e-5)


def test_robust_images_are_classified_correctly_without_an_attack():
    p = result().predictions
    correct = p["logits"].argmax(1) == p["labels"]
    assert not (p["robust/fgsm"] & ~correct).any() and not (p["robust/pgd"] & ~correct).any()


def test_a_misclassified_image_that_an_attack_makes_correct_does_not_count_as_robust():
    """The margin of label 1 is (u - 0.5)^2 - 0.001 at the first pixel u: a step that first lowers it ends at a larger value."""
    net = Pixels(lambda x: torch.stack([0 * x[:, 0], (x[:, 0] - 0.5) ** 2 - 0.001], 1))
    x, y = torch.full((4, 1, 8, 8), 0.51), torch.ones(4, dtype=torch.long)
    assert (net(fgsm(net, x, y, epsilon=0.1)).argmax(1) == y).all()
    robust = run_suite(net, x, y, quick(1, 1), epsilon=0.1).robust
    assert not robust["fgsm"].any() and not robust["pgd"].any()


def test_the_first_images_are_attacked_and_all_are_audited():
    evaluated = judge(CONFIG.set({"judge.images": 50}), trained(), pool(), parts())
    assert len(evaluated.predictions["robust/pgd"]) == 50
    assert len(evaluated.predictions["logits"]) == len(parts().val)
    assert evaluated.metrics["mia_auc"] == result().metrics["mia_auc"]


def test_robust_accuracy_is_the_accuracy_at_epsilon_zero_and_zero_in_a_large_ball():
    x, y = pool().x[parts().val] / 255, pool().y[parts().val]
    for epsilon, low, high in ((0.0, result().metrics["accuracy"], result().metrics["accuracy"]), (0.5, 0, 0.02)):
        worst = run_suite(trained().net, x, y, quick(10, 1), epsilon=epsilon).worst
        assert low - 1e-9 <= worst.double().mean() <= high + 1e-9


# ---- evaluated images


def test_the_evaluation_on_test_depends_on_members_and_test_images_only():
    """No metric changes if all other images are replaced by noise."""
    config, p, images = CONFIG.set({"judge.part": "test"}), parts(), pool()
    noise = torch.randint(0, 256, images.x.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    kept = np.concatenate([p.members, p.test])
    noise[kept] = images.x[kept]
    plain, noisy = judge_network(trained().net, config), judge_network(trained().net, config, dataclasses.replace(images, x=noise))
    assert (plain.predictions["rows"] == p.test).all()
    for name, value in plain.metrics.values.items():
        assert "second" in name or noisy.metrics[name] == value
    assert plain.metrics["accuracy"] != result().metrics["accuracy"]


@pytest.mark.parametrize("part", ["val", "test", "both"])
def test_the_evaluated_rows_are_those_of_the_part_without_members(part):
    p = parts()
    rows = judge_network(trained().net, CONFIG.set({"judge.part": part, "judge.images": 10})).predictions["rows"]
    assert set(rows) == {"val": {*p.val}, "test": {*p.test}, "both": {*p.val, *p.test}}[part]
    assert not set(rows) & {*p.members}


# ---- networks with a known verdict


def test_a_sound_trial_is_on_the_front_without_an_excluding_flag():
    by_others = {"flag/audit_is_blind", "flag/audit_is_biased"}  # raised by audits by other networks only
    assert not any(result().metrics[flag] for flag in set(pareto.EXCLUDING_FLAGS) - by_others)
    assert on_front(result()) == [True]


@pytest.mark.parametrize("kind", ["constant", "untrained"])
def test_a_network_that_has_learned_nothing_is_at_chance_and_on_no_front(kind):
    if kind == "constant":
        net = Pixels(lambda x: x[:, :10] * 0 + torch.linspace(0, 1, 10))
    else:
        torch.manual_seed(0)
        net = Pixels(nn.Linear(64, 10))
    evaluated = judge_network(net)
    assert evaluated.metrics["flag/at_chance"] == 1
    assert on_front(evaluated) == [False] and on_front(evaluated, result()) == [False, True]


def test_always_predicting_the_largest_class_is_at_chance_with_unequal_classes():
    """Half of the pool is one class; the logits depend on the image, but the predicted class does not."""
    images = pool()
    y = torch.where(torch.rand(len(images.y), generator=torch.Generator().manual_seed(0)) < 0.5, 0, images.y)
    uneven = dataclasses.replace(images, y=y)
    constant = Pixels(lambda x: x[:, :10] * 0.01 + x.sum(1, keepdim=True) * 1e-3 * torch.eye(10)[1] + 5 * torch.eye(10)[0])
    evaluated = judge_network(constant, images=uneven, split=data.split(uneven))
    assert 0.5 < evaluated.metrics["accuracy"] < 0.65
    assert evaluated.metrics["flag/at_chance"] == 1
    assert on_front(evaluated) == [False]


def test_a_network_whose_input_gradient_is_not_a_number_is_on_no_front():
    """Finite and correct logits, whose derivative is 0 * inf: an attack along the gradient never moves."""
    base = trained().net
    net = Pixels(lambda x: base(x.view(-1, 1, 8, 8)) + 0 * (0 * x).sqrt().sum(1, keepdim=True))
    try:
        evaluated = judge_network(net)
    except TrialError:
        return
    assert evaluated.metrics["accuracy"] == result().metrics["accuracy"]
    assert on_front(evaluated) == [False]


@pytest.mark.parametrize(("only_fgsm", "only_pgd", "flag"), [(0, 0, 0), (1, 0, 0), (20, 0, 1), (30, 5, 1), (12, 10, 0), (0, 20, 0)])
def test_one_step_that_fools_significantly_more_images_than_many_is_flagged(monkeypatch, only_fgsm, only_pgd, flag):
    """`only_fgsm` images are fooled by the single step only, `only_pgd` images by many steps only."""
    one, many = torch.ones(100, dtype=torch.bool), torch.ones(100, dtype=torch.bool)
    one[:only_fgsm] = False
    many[only_fgsm : only_fgsm + only_pgd] = False
    monkeypatch.setattr("core.evaluation.judge.run_suite", fixed_result(one.tolist(), many.tolist()))
    evaluated = judge_network(trained().net, CONFIG.set({"judge.images": 100}))
    assert evaluated.metrics["flag/fgsm_beats_pgd"] == flag
    assert on_front(evaluated) == [not flag]


def test_a_network_whose_input_gradient_is_zero_is_flagged_and_on_no_front():
    """With rounded pixels the network is accurate, but no attack can move along its gradient."""
    base = trained().net
    evaluated = judge_network(Pixels(lambda x: base((x.view(-1, 1, 8, 8) * 3).round() / 3)))
    assert evaluated.metrics["accuracy"] > 0.5 and evaluated.metrics["flag/at_chance"] == 0
    assert evaluated.metrics["flag/zero_gradients"] == 1
    assert on_front(evaluated) == [False]
    assert result().metrics["flag/zero_gradients"] == 0


def test_a_saturated_network_has_a_gradient_and_is_no_more_robust():
    base = trained().net
    evaluated = judge_network(Pixels(lambda x: base(x.view(-1, 1, 8, 8)) * 1000))
    assert evaluated.metrics["flag/zero_gradients"] == 0
    assert evaluated.metrics["accuracy"] == result().metrics["accuracy"]
    assert evaluated.metrics["robust_accuracy"] < result().metrics["robust_accuracy"] + 0.05
    assert evaluated.metrics["flag/saturated_logits"] == 1 and result().metrics["flag/saturated_logits"] == 0
    assert on_front(evaluated) == [False]  # other tools' attacks and audits of its confidence would fail


def memoriser():
    """A network that is certain close to its members, and correct but uncertain elsewhere, so that its leak is complete."""
    members = pool().at(parts().members)
    centres, labels = members.x.flatten(1).double() / 255, nn.functional.one_hot(members.y, 10).double()

    def logits(x):
        squares = torch.cdist(x.double(), centres).square()
        return ((-500 * squares).exp() @ labels * 20 + (-5 * squares).exp() @ labels).float()

    return Pixels(logits)


def test_a_network_that_has_memorised_its_members_leaks_all_of_them():
    evaluated = judge_network(memoriser(), CONFIG.set({"judge.images": 8, "judge.steps": 1}))
    assert evaluated.metrics["train_accuracy"] == 1 and evaluated.metrics["accuracy"] > 0.9
    assert evaluated.metrics["mia_auc"] > 0.99
    assert evaluated.metrics["mia_balanced_accuracy/loss"] > 0.97
    assert "mia_tpr_at_fpr_0.01/loss" not in evaluated.metrics.values  # too few non-members


def test_a_network_that_was_trained_on_neither_members_nor_non_members_leaks_nothing():
    evaluated = judge_network(unrelated_network(), CONFIG.set({"judge.part": "both"}))
    assert evaluated.metrics["accuracy"] > 0.7
    for name in ("confidence", "loss", "entropy", "modified_entropy"):
        assert evaluated.metrics[f"mia_auc_low/{name}"] <= 0.5 <= evaluated.metrics[f"mia_auc_high/{name}"]
    assert evaluated.metrics["mia_auc"] < 0.55


def test_an_auc_below_one_half_by_chance_is_not_flagged():
    """Swapping members and non-members gives one minus every AUC, so one of the two evaluations has AUCs below one half."""
    p = parts()
    both = [judge_network(unrelated_network(), split=s) for s in (p, dataclasses.replace(p, members=p.val, val=p.members))]
    assert min(result.metrics["mia_auc/loss"] for result in both) < 0.5
    assert [result.metrics["flag/auc_below_half"] for result in both] == [0, 0]


def test_members_with_lower_scores_than_non_members_are_flagged_and_count_as_a_leak():
    swapped = dataclasses.replace(parts(), members=parts().val, val=parts().members)
    evaluated = judge_network(memoriser(), CONFIG.set({"judge.images": 8, "judge.steps": 1}), split=swapped)
    assert evaluated.metrics["flag/auc_below_half"] == 1
    assert evaluated.metrics["mia_auc/loss"] < 0.01 and evaluated.metrics["mia_auc"] > 0.99


def test_a_member_among_the_evaluated_images_is_flagged_and_on_no_front():
    p = parts()
    evaluated = judge_network(trained().net, split=dataclasses.replace(p, val=np.r_[p.val, p.members[:1]]))
    assert evaluated.metrics["flag/split_overlap"] == 1 and result().metrics["flag/split_overlap"] == 0
    assert on_front(evaluated) == [False]


def test_an_exact_copy_of_a_member_among_the_evaluated_images_is_flagged():
    p, x = parts(), pool().x.clone()
    x[p.val[5]] = x[p.members[0]]
    evaluated = judge_network(trained().net, images=data.Images(x, pool().y, 10), split=p)
    assert evaluated.metrics["flag/split_overlap"] == 1


def test_too_few_non_members_for_a_false_positive_rate_of_one_percent_raise_a_flag():
    assert result().metrics["flag/few_non_members"] == 1  # 448 of them: 4 false positives


@pytest.mark.parametrize("where", ["everywhere", "one image"])
def test_nan_logits_fail_the_trial(where):
    def logits(x):
        bad = torch.ones(len(x), dtype=torch.bool) if where == "everywhere" else x.sum(1) == x.sum(1).max()
        return torch.where(bad[:, None], torch.nan, x[:, :10])

    with pytest.raises(TrialError):
        judge_network(Pixels(logits))


def test_the_evaluation_is_determined_by_the_seed_and_does_not_change_the_network():
    net = trained().net
    before = {k: v.clone() for k, v in net.state_dict().items()}
    first, again = (judge(CONFIG, trained(), pool(), parts()) for _ in range(2))
    for name in first.predictions:
        assert (first.predictions[name] == again.predictions[name]).all()
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_the_stored_scores_give_every_auc_and_the_chance_level_of_the_largest():
    (group,) = stored_scores(result().predictions)
    assert {name: roc.auc for name, roc in group.rocs().items()} == {
        name.removeprefix("mia_auc/"): value for name, value in result().metrics.values.items() if name.startswith("mia_auc/")
    }
    assert set(group.rows[group.member]) == set(parts().members) and set(group.rows[~group.member]) == set(parts().val)
    assert result().metrics["mia_auc_chance"] == chance_level([group]) > 0.52


def test_a_network_that_has_not_seen_the_members_has_a_leak_that_is_not_resolved_and_counts_as_the_chance_level():
    unseen, memorised = (judge_network(net).metrics for net in (unrelated_network(), Memoriser()))
    assert unseen["flag/leak_not_resolved"] == 1 and unseen["mia_auc"] <= unseen["mia_auc_chance"]
    assert memorised["flag/leak_not_resolved"] == 0 and memorised["mia_auc"] > 0.9
    auc = trilemma(10)[2]
    assert auc.loss_of(unseen.values) == auc.loss(unseen["mia_auc_chance"]) > auc.loss(unseen["mia_auc"])
    assert "flag/leak_not_resolved" not in pareto.EXCLUDING_FLAGS


class Memoriser(nn.Module):
    """Certain of the label of every member, and undecided about every other image."""

    def forward(self, x):
        members = pool().at(parts().members)
        known = (x.flatten(1)[:, None] - (members.x.flatten(1).float() / 255)[None]).abs().amax(2) < 1e-3
        label = members.y[known.float().argmax(1)]
        return nn.functional.one_hot(label, 10).float() * known.any(1, keepdim=True) * 9
