"""A trial's numbers against its own evidence, and networks whose right verdict is known."""

import dataclasses
import functools
from types import SimpleNamespace

import numpy as np
import pytest
import sklearn.metrics
import torch
from torch import nn

from core import data, pareto, trial
from core.attacks.gradient import fgsm
from core.attacks.suite import Verdicts, attacked, quick
from core.config import TrialConfig, trilemma
from core.errors import TrialError
from core.train import predict, train

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
    """A trial's network, and with it everything a trial leaves behind."""
    images, p = pool(), parts()
    return train(CONFIG, images.at(p.members), images.at(p.val))


@functools.cache
def result():
    return trial.judge(CONFIG, trained(), pool(), parts())


@functools.cache
def stranger():
    """Trained on images that are neither members nor judged."""
    return train(CONFIG, pool().at(parts().shadow), pool().at(parts().val)).net


def judged(net, config=CONFIG, images=None, split=None):
    """The verdict on any network."""
    bound = SimpleNamespace(net=net, curve=[], state=dict)
    return trial.judge(config, bound, images or pool(), split or parts())  # pyright: ignore[reportArgumentType]


def found(fgsm_, pgd_):
    """What stands in for the attacks: these verdicts, whatever the network."""
    stands = {"fgsm": torch.tensor(fgsm_), "pgd": torch.tensor(pgd_)}
    all_ = torch.ones(len(fgsm_), dtype=torch.bool)
    return lambda *args, **kwargs: Verdicts(all_, all_, stands, {})


def on_front(*results):
    return pareto.front([r.metrics.values for r in results], trilemma(10)).tolist()


class Pixels(nn.Module):
    """A network from a function of [B, 64] pixels."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x.flatten(1))


# ---- the numbers are the evidence's


def test_robust_accuracy_is_the_worst_case_of_every_image_over_the_attacks():
    r = result()
    attacks = [v for k, v in r.predictions.items() if k.startswith("stands/")]
    assert len(attacks) >= 2 and all(a.dtype == bool for a in attacks)
    assert r.metrics["robust_accuracy"] == pytest.approx(np.mean(np.all(attacks, axis=0)))
    for name in ("fgsm", "pgd"):
        assert r.metrics[f"robust_accuracy/{name}"] == pytest.approx(r.predictions[f"stands/{name}"].mean())
    assert r.metrics["robust_accuracy"] <= min(r.metrics["robust_accuracy/fgsm"], r.metrics["robust_accuracy/pgd"])
    assert 0 < r.metrics["robust_accuracy"] < r.metrics["accuracy"] - 0.05


def test_the_worst_case_is_taken_per_image_and_not_per_attack(monkeypatch):
    monkeypatch.setattr(trial, "attacked", found([True, False, True, True], [False, True, True, True]))
    assert judged(trained().net, CONFIG.set({"judge.images": 4})).metrics["robust_accuracy"] == 0.5


def test_metrics_can_be_recomputed_from_the_stored_predictions():
    r = result()
    p = r.predictions
    assert r.metrics["accuracy"] == pytest.approx((p["logits"].argmax(1) == p["labels"]).mean())
    assert r.metrics["train_accuracy"] == pytest.approx((p["member_logits"].argmax(1) == p["member_labels"]).mean())

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

    ours, theirs = audits(p["member_logits"], p["member_labels"]), audits(p["logits"], p["labels"])
    truth = np.r_[np.ones(len(p["member_rows"])), np.zeros(len(p["rows"]))]
    raw = {name: sklearn.metrics.roc_auc_score(truth, np.r_[ours[name], theirs[name]]) for name in ours}
    for name, auc in raw.items():
        assert r.metrics[f"mia_auc/{name}"] == pytest.approx(auc, abs=1e-6)
    assert r.metrics["mia_auc"] == pytest.approx(max(max(a, 1 - a) for a in raw.values()), abs=1e-6)


def test_stored_predictions_are_the_networks_on_the_stored_rows():
    p, images = result().predictions, pool()
    for rows, labels, logits in (("rows", "labels", "logits"), ("member_rows", "member_labels", "member_logits")):
        assert (p[labels] == images.y.numpy()[p[rows]]).all()
        np.testing.assert_allclose(p[logits], predict(trained().net, images.x[p[rows]]).numpy(), atol=1e-5)


def test_what_stands_under_attack_was_right_without_it():
    p = result().predictions
    right = p["logits"].argmax(1) == p["labels"]
    assert not (p["stands/fgsm"] & ~right).any() and not (p["stands/pgd"] & ~right).any()


def test_a_wrong_image_that_an_attack_makes_right_does_not_stand():
    """The margin of label 1 is (u - 0.5)^2 - 0.001 at the first pixel u: a step down the slope comes out on top."""
    net = Pixels(lambda x: torch.stack([0 * x[:, 0], (x[:, 0] - 0.5) ** 2 - 0.001], 1))
    x, y = torch.full((4, 1, 8, 8), 0.51), torch.ones(4, dtype=torch.long)
    assert (net(fgsm(net, x, y, epsilon=0.1)).argmax(1) == y).all()
    stands = attacked(net, x, y, quick(1, 1), epsilon=0.1).stands
    assert not stands["fgsm"].any() and not stands["pgd"].any()


def test_run_is_train_then_judge():
    whole = trial.run(CONFIG, pool())
    same = {k: v for k, v in whole.metrics.values.items() if "second" not in k}
    assert same == {k: v for k, v in result().metrics.values.items() if "second" not in k}
    assert len(whole.curve) == CONFIG.epochs


def test_the_first_images_are_attacked_and_all_are_audited():
    r = trial.judge(CONFIG.set({"judge.images": 50}), trained(), pool(), parts())
    assert len(r.predictions["stands/pgd"]) == 50
    assert len(r.predictions["logits"]) == len(parts().val)
    assert r.metrics["mia_auc"] == result().metrics["mia_auc"]


def test_epsilon_zero_leaves_robust_accuracy_at_accuracy_and_a_wide_ball_leaves_nothing():
    x, y = pool().x[parts().val] / 255, pool().y[parts().val]
    for epsilon, low, high in ((0.0, result().metrics["accuracy"], result().metrics["accuracy"]), (0.5, 0, 0.02)):
        worst = attacked(trained().net, x, y, quick(10, 1), epsilon=epsilon).worst
        assert low - 1e-9 <= worst.double().mean() <= high + 1e-9


# ---- who is judged


def test_confirm_is_judged_on_test_rows_and_nothing_else():
    """Pictures outside members and test are replaced by noise: not one number moves."""
    config, p, images = CONFIG.set({"judge.part": "test"}), parts(), pool()
    noise = torch.randint(0, 256, images.x.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    kept = np.concatenate([p.members, p.test])
    noise[kept] = images.x[kept]
    plain, noisy = judged(trained().net, config), judged(trained().net, config, dataclasses.replace(images, x=noise))
    assert (plain.predictions["rows"] == p.test).all()
    for name, value in plain.metrics.values.items():
        assert "second" in name or noisy.metrics[name] == value
    assert plain.metrics["accuracy"] != result().metrics["accuracy"]


@pytest.mark.parametrize("part", ["val", "test", "both"])
def test_the_judged_rows_are_those_of_the_part_and_never_members(part):
    p = parts()
    rows = judged(trained().net, CONFIG.set({"judge.part": part, "judge.images": 10})).predictions["rows"]
    assert set(rows) == {"val": {*p.val}, "test": {*p.test}, "both": {*p.val, *p.test}}[part]
    assert not set(rows) & {*p.members}


# ---- networks with a known verdict


def test_a_sound_trial_is_on_the_front_without_an_excluding_flag():
    of_fleets = {"flag/audit_is_blind", "flag/audit_is_biased"}  # raised by audits of several networks only
    assert not any(result().metrics[flag] for flag in set(pareto.EXCLUDING_FLAGS) - of_fleets)
    assert on_front(result()) == [True]


@pytest.mark.parametrize("what", ["constant", "untrained"])
def test_a_network_that_learned_nothing_is_at_chance_and_on_no_front(what):
    if what == "constant":
        net = Pixels(lambda x: x[:, :10] * 0 + torch.linspace(0, 1, 10))
    else:
        torch.manual_seed(0)
        net = Pixels(nn.Linear(64, 10))
    r = judged(net)
    assert r.metrics["flag/at_chance"] == 1
    assert on_front(r) == [False] and on_front(r, result()) == [False, True]


def test_always_answering_the_largest_class_is_chance_also_where_classes_are_uneven():
    """Half of the pool is one class; the net moves with the image, a little, but never changes its mind."""
    images = pool()
    y = torch.where(torch.rand(len(images.y), generator=torch.Generator().manual_seed(0)) < 0.5, 0, images.y)
    uneven = dataclasses.replace(images, y=y)
    lazy = Pixels(lambda x: x[:, :10] * 0.01 + x.sum(1, keepdim=True) * 1e-3 * torch.eye(10)[1] + 5 * torch.eye(10)[0])
    r = judged(lazy, images=uneven, split=data.split(uneven))
    assert 0.5 < r.metrics["accuracy"] < 0.65
    assert r.metrics["flag/at_chance"] == 1
    assert on_front(r) == [False]


def test_a_network_whose_input_gradient_is_not_a_number_is_on_no_front():
    """Finite logits, the right ones, but their derivative is 0 * inf: an attack that follows it attacks nothing."""
    base = trained().net
    net = Pixels(lambda x: base(x.view(-1, 1, 8, 8)) + 0 * (0 * x).sqrt().sum(1, keepdim=True))
    try:
        r = judged(net)
    except TrialError:
        return
    assert r.metrics["accuracy"] == result().metrics["accuracy"]
    assert on_front(r) == [False]


@pytest.mark.parametrize(("only_fgsm", "only_pgd", "flag"), [(0, 0, 0), (1, 0, 0), (20, 0, 1), (30, 5, 1), (12, 10, 0), (0, 20, 0)])
def test_one_step_that_beats_many_beyond_chance_is_flagged(monkeypatch, only_fgsm, only_pgd, flag):
    """`only_fgsm`: images that fall to the single step alone."""
    one, many = torch.ones(100, dtype=torch.bool), torch.ones(100, dtype=torch.bool)
    one[:only_fgsm] = False
    many[only_fgsm : only_fgsm + only_pgd] = False
    monkeypatch.setattr(trial, "attacked", found(one.tolist(), many.tolist()))
    r = judged(trained().net, CONFIG.set({"judge.images": 100}))
    assert r.metrics["flag/fgsm_beats_pgd"] == flag
    assert on_front(r) == [not flag]


def test_a_network_whose_input_gradient_is_zero_everywhere_is_flagged_and_on_no_front():
    """Rounded pixels: accurate, and no attack can move along a gradient that is not there."""
    base = trained().net
    r = judged(Pixels(lambda x: base((x.view(-1, 1, 8, 8) * 3).round() / 3)))
    assert r.metrics["accuracy"] > 0.5 and r.metrics["flag/at_chance"] == 0
    assert r.metrics["flag/zero_gradients"] == 1
    assert on_front(r) == [False]
    assert result().metrics["flag/zero_gradients"] == 0


def test_a_saturated_network_has_a_gradient_and_is_not_more_robust_than_the_plain_one():
    base = trained().net
    r = judged(Pixels(lambda x: base(x.view(-1, 1, 8, 8)) * 1000))
    assert r.metrics["flag/zero_gradients"] == 0
    assert r.metrics["accuracy"] == result().metrics["accuracy"]
    assert r.metrics["robust_accuracy"] < result().metrics["robust_accuracy"] + 0.05
    assert r.metrics["flag/saturated_logits"] == 1 and result().metrics["flag/saturated_logits"] == 0
    assert on_front(r) == [False]  # other people's attacks and every audit of its confidence see nothing


def memoriser():
    """Sure of the label within a hair of a member, undecided but right elsewhere: it leaks all there is."""
    members = pool().at(parts().members)
    known, labels = members.x.flatten(1).double() / 255, nn.functional.one_hot(members.y, 10).double()

    def logits(x):
        squares = torch.cdist(x.double(), known).square()
        return ((-500 * squares).exp() @ labels * 20 + (-5 * squares).exp() @ labels).float()

    return Pixels(logits)


def test_a_network_that_remembers_its_members_leaks_them_all():
    r = judged(memoriser(), CONFIG.set({"judge.images": 8, "judge.steps": 1}))
    assert r.metrics["train_accuracy"] == 1 and r.metrics["accuracy"] > 0.9
    assert r.metrics["mia_auc"] > 0.99
    assert r.metrics["mia_balanced_accuracy/loss"] > 0.97
    assert "mia_tpr_at_fpr_0.01/loss" not in r.metrics.values  # too few non-members to say


def test_a_network_that_saw_neither_side_leaks_nothing():
    r = judged(stranger(), CONFIG.set({"judge.part": "both"}))
    assert r.metrics["accuracy"] > 0.7
    for name in ("confidence", "loss", "entropy", "modified_entropy"):
        assert r.metrics[f"mia_auc_low/{name}"] <= 0.5 <= r.metrics[f"mia_auc_high/{name}"]
    assert r.metrics["mia_auc"] < 0.55


def test_an_auc_below_one_half_by_chance_is_not_flagged():
    """With the sides swapped every AUC turns into one minus it, so one of the two trials has some below one half."""
    p = parts()
    both = [judged(stranger(), split=s) for s in (p, dataclasses.replace(p, members=p.val, val=p.members))]
    assert min(r.metrics["mia_auc/loss"] for r in both) < 0.5
    assert [r.metrics["flag/auc_below_half"] for r in both] == [0, 0]


def test_members_that_score_below_non_members_are_flagged_and_still_count_as_a_leak():
    swapped = dataclasses.replace(parts(), members=parts().val, val=parts().members)
    r = judged(memoriser(), CONFIG.set({"judge.images": 8, "judge.steps": 1}), split=swapped)
    assert r.metrics["flag/auc_below_half"] == 1
    assert r.metrics["mia_auc/loss"] < 0.01 and r.metrics["mia_auc"] > 0.99


def test_a_member_among_the_judged_is_flagged_and_on_no_front():
    p = parts()
    r = judged(trained().net, split=dataclasses.replace(p, val=np.r_[p.val, p.members[:1]]))
    assert r.metrics["flag/split_overlap"] == 1 and result().metrics["flag/split_overlap"] == 0
    assert on_front(r) == [False]


def test_too_few_non_members_for_a_false_positive_rate_of_one_percent_are_flagged():
    assert result().metrics["flag/few_non_members"] == 1  # 448 of them: 4 false positives


@pytest.mark.parametrize("where", ["everywhere", "one image"])
def test_nan_logits_fail_the_trial(where):
    def logits(x):
        bad = torch.ones(len(x), dtype=torch.bool) if where == "everywhere" else x.sum(1) == x.sum(1).max()
        return torch.where(bad[:, None], torch.nan, x[:, :10])

    with pytest.raises(TrialError):
        judged(Pixels(logits))


def test_the_verdict_is_a_function_of_the_seed_and_moves_nothing_in_the_network():
    net = trained().net
    before = {k: v.clone() for k, v in net.state_dict().items()}
    first, again = (trial.judge(CONFIG, trained(), pool(), parts()) for _ in range(2))
    for name in first.predictions:
        assert (first.predictions[name] == again.predictions[name]).all()
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
