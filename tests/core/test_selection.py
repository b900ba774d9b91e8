"""The choice of the epoch: images that nothing else uses, the right epoch, and the same one after resuming and on two workers."""

import copy
import io
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from splits import split_or_discard
from states import identical, run_on_two_workers
from tiny_training import TINY, images

from core import data, train, trial
from core.attacks.gradient import ifgsm
from core.bound import Bound
from core.config import TrialConfig
from core.data import Images, split
from core.data.protocols import ALL_PARTS, Official, Paper, Stratified
from core.errors import InputError
from core.evaluation.privacy import audit_by_others
from core.modes import as_float, predict
from core.selection import ByAccuracy, EpochChooser, selected_epoch

torch.set_num_threads(1)

ATTACK = {"selection": "attack", "selection.attack": "ifgsm:steps=3", "selection.epsilon": 0.1}
JUDGED = {"judge.steps": 2, "judge.images": 40, "judge.attacks": "fgsm", "judge.suite": "none"}
SMALL = {"pool": 600, "net.width": 4, "epochs": 3, "judge.epsilon": 0.1, **JUDGED}


@cache
def pool() -> Images:
    return data.load("digits", pool=600)


def fit(params: dict, **options) -> Bound:
    """Train with `TINY`, changed by `params`, and choose the epoch by 12 further images."""
    return train.train(TrialConfig.of(TINY | params), images(), images(9, seed=1), images(12, seed=2), **options)


def fit_planned(monkeypatch, counts: list[int], params: dict, **options) -> Bound:
    """Train for six epochs; these numbers of the 12 images count as correct, one after each epoch that may be chosen."""
    planned = iter(counts)
    monkeypatch.setattr(ByAccuracy, "correct", lambda self, net, x, y, *, seed, ids: torch.arange(len(y)) < next(planned))
    return fit({"selection": "accuracy", "epochs": 6, **params}, **options)


def modules_by_epoch(kept: list) -> train.OnEpoch:
    """An `on_epoch` callback that keeps a copy of the modules after each epoch."""
    return lambda row, bound: kept.append(copy.deepcopy(bound.state()["modules"]))


# -- the images that are set aside ----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(
    st.integers(300, 500), st.integers(0, 9999), st.sampled_from([Stratified(), Paper(), Official(val=0.3, shadow=0.3)]),
    st.integers(0, 2), st.integers(0, 1), st.integers(1, 12),
)  # fmt: skip
def test_selection_images_are_a_part_of_val_and_share_no_image_with_any_other_part(n, seed, protocol, replicate, shadow, count):
    stream, numbers = np.random.default_rng(seed), np.arange(n, dtype=np.int32)
    copies = stream.choice(n, n // 10, replace=False)
    numbers[copies] = stream.choice(n, len(copies))
    pixels = torch.from_numpy(numbers).view(torch.uint8).reshape(-1, 1, 2, 2)
    copied = Images(pixels, torch.arange(n) % 2, 2, in_test_file=torch.arange(n) % 5 == 4)
    before = split_or_discard(copied, protocol, replicate, shadow)
    after = split(copied, protocol, replicate, shadow, count)
    for name in ("members", "test", "shadow"):
        assert np.array_equal(getattr(before, name), getattr(after, name))
    assert {*after.selection} | {*after.val} <= {*before.val} and len(after.selection) == count
    ids = [set(copied.ids[getattr(after, name)].tolist()) for name in ALL_PARTS]
    assert len(set().union(*ids)) == sum(map(len, ids))
    lost = set(copied.ids[before.val].tolist()) - ids[1] - ids[4]
    assert not lost  # a copy that is left out has another one in one of the two parts
    for part in ("val", "both"):
        assert not {*after.selection} & {*after.judged(part)} and not {*after.selection} & {*after.non_members(part)}
    assert np.array_equal(before.judged("test"), after.judged("test"))


def test_selection_images_have_the_classes_of_val_and_others_for_each_replicate():
    first, second = (split(pool(), Stratified(), replicate, 0, 30) for replicate in (0, 1))
    assert len(first.selection) == 30 and len(first.val) == len(split(pool()).val) - 30
    assert np.bincount(pool().y[first.selection]).tolist() == [3] * 10
    assert {*first.selection} != {*second.selection}


def test_as_many_images_as_val_has_cannot_be_set_aside():
    val = len(split(pool()).val)
    with pytest.raises(InputError, match=f"selection.images={val} leaves none of the {val} images of val"):
        TrialConfig.of({"selection": "accuracy", "selection.images": val}).parts(pool())
    with pytest.raises(InputError, match=r"has no image in val.*; lower selection\.images, or use a larger pool"):
        TrialConfig.of({"selection": "accuracy", "selection.images": val - 5}).parts(pool())
    with pytest.raises(InputError, match="selection chooses the epoch by images of val"):
        TrialConfig.of({"split": "official", "split.val": 0, "judge.part": "test", "selection": "accuracy"})


@pytest.mark.parametrize("part", ["val", "test", "both"])
def test_nothing_judges_or_audits_the_images_that_chose_the_epoch(part):
    settings = SMALL | {"judge.part": part, "judge.audits": "full", "epochs": 1}
    config = TrialConfig.of(settings | ATTACK | {"selection.images": 20})
    parts, plain = config.parts(pool()), TrialConfig.of(settings).parts(pool())
    result = trial.run(config, pool(), rungs=(1,))
    aside = {*parts.selection}
    judged = {"val": {*plain.val} - aside, "test": {*plain.test}, "both": {*plain.val, *plain.test} - aside}[part]
    assert len(aside) == 20 and {*result.predictions["rows"]} == judged
    for group in ("own", "label_only"):
        assert not aside & {*result.predictions[f"{group}/rows"]}
    assert {*result.predictions["own/rows"]} == judged | {*parts.members}
    net = trial.Network.of(config, result.state["modules"], result.curve, 0.0, pool()).bound.net
    rows = np.array(sorted(judged))
    accuracy = (predict(net, pool().x[rows]).argmax(1) == pool().y[rows]).double().mean().item()
    assert result.metrics["accuracy"] == pytest.approx(accuracy)
    assert result.curve[0]["rung/accuracy"] == pytest.approx(accuracy)  # of the interim evaluation
    assert result.outputs and (result.outputs.state[parts.selection] == 0).all()
    assert (result.outputs.state[parts.members] == 1).all() and (result.outputs.state[sorted(judged)] == -1).all()


def test_audits_by_siblings_leave_out_the_images_that_chose_the_epoch_of_the_network():
    own = TrialConfig.of(SMALL | {"epochs": 1, "judge.audits": "standard", "selection": "accuracy", "selection.images": 20})
    configs = [own.set({"replicate": r, "seed": r}) for r in (1, 2, 3)]
    outputs = [trial.run(config, pool()).outputs for config in configs]
    assert all(outputs)
    audit = audit_by_others(configs[0], outputs[0], outputs[1:], [], pool(), {})  # pyright: ignore[reportArgumentType]
    parts = configs[0].parts(pool())
    both = [set(config.parts(pool()).selection) for config in configs[1:]]
    assert set(audit.evidence["auditor/rows"]) == {*parts.members, *parts.val} - (both[0] & both[1])


# -- the epoch ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("params", "counts", "first", "expected"), [
    ({}, [5, 9, 4, 7, 9, 8], 1, 2),  # the first of two equal ones
    ({"selection.last": 3}, [7, 9, 8], 4, 5),
    ({"selection.last": 99}, [5, 6, 4, 7, 9, 10], 1, 6),
    ({"selection.patience": 2}, [5, 9, 4, 7], 1, 2),  # training ends after the fourth epoch
    ({"selection.patience": 3}, [5, 7, 4, 7, 9, 8], 1, 5),
    ({"selection.last": 3, "selection.patience": 1}, [7, 6], 4, 4),
    ({"optimizer.stop_at": 0.5, "selection.last": 2}, [3, 2], 2, 2),
    ({"loss": "dmp", "loss.teacher": 0.5}, [1, 0, 0], 4, 4),  # no epoch of the teacher
])  # fmt: skip
def test_the_network_of_the_best_epoch_is_the_result(monkeypatch, params, counts, first, expected):
    kept = []
    bound = fit_planned(monkeypatch, counts, params, on_epoch=modules_by_epoch(kept))
    assert len(bound.curve) == len(kept) == first + len(counts) - 1 and selected_epoch(bound.curve) == expected
    shares = {int(row["epoch"]): row["epoch/selection"] for row in bound.curve if "epoch/selection" in row}
    assert shares == {first + i: count / 12 for i, count in enumerate(counts)}
    assert identical(bound.state()["modules"], kept[expected - 1])
    assert expected == len(kept) or not identical(kept[expected - 1], kept[-1])


def dark_and_bright(n: int, swap: bool) -> Images:
    """Images of class 0, which are dark, and of class 1, which are bright; with `swap`, labelled the other way round."""
    labels = torch.arange(n) % 2
    noise = torch.randint(0, 100, (n, 1, 8, 8), generator=torch.Generator().manual_seed(n))
    return Images((noise + 150 * labels.view(-1, 1, 1, 1)).to(torch.uint8), (1 - labels) if swap else labels, 2)


@pytest.mark.parametrize("params", [{"selection": "accuracy"}, ATTACK | {"selection.epsilon": 0.02}])
def test_training_on_learnable_images_chooses_the_epoch_that_has_learned_them_or_the_one_that_has_not(params):
    config = TrialConfig.of(TINY | {"epochs": 8, "optimizer.lr": 0.02, **params})
    members, val = dark_and_bright(40, swap=False), dark_and_bright(20, swap=False)
    learned, not_yet = (train.train(config, members, val, dark_and_bright(30, swap)) for swap in (False, True))
    shares = [row["epoch/selection"] for row in learned.curve]
    best = shares.index(1.0) + 1  # dark and bright images are told apart in the end
    assert best > 1 and selected_epoch(learned.curve) == best and max(shares[: best - 1]) < 1
    assert not_yet.curve[-1]["epoch/selection"] == 0 and selected_epoch(not_yet.curve) == 1
    right = predict(not_yet.net, dark_and_bright(30, True).x).argmax(1) == dark_and_bright(30, True).y
    assert right.double().mean().item() >= not_yet.curve[0]["epoch/selection"] > 0


@pytest.mark.parametrize(("norm", "radius"), [("linf", 0.2), ("l2", 1.6)])
def test_the_share_is_that_of_images_that_are_correct_under_the_attack(norm, radius):
    held, measured = dark_and_bright(30, swap=False), []

    def by_hand(row, bound):
        bound.net.eval()
        x = as_float(held.x)
        attacked = ifgsm(bound.net, x, held.y, epsilon=radius, steps=3, norm=norm)
        right = torch.stack([bound.net(at).argmax(1) == held.y for at in (x, attacked)])
        measured.append((row["epoch/selection"], right.all(0).double().mean().item(), right[0].double().mean().item()))

    params = ATTACK | {"selection.norm": norm, "selection.epsilon": radius, "epochs": 8, "optimizer.lr": 0.03}
    train.train(TrialConfig.of(TINY | params), dark_and_bright(40, swap=False), held, held, on_epoch=by_hand)
    shares, expected, clean = zip(*measured, strict=True)
    assert shares == pytest.approx(expected) and len(set(shares)) > 2
    assert max(c - s for s, c in zip(shares, clean, strict=True)) > 0.1


def test_the_choice_changes_nothing_in_the_training():
    """The epochs of a training that chooses are those of one that does not, and attacks draw from their own stream."""
    random = ATTACK | {"selection.attack": "pgd:steps=2+noise", "perturbation": "noise", "augmentation": "mixup"}
    states: dict[bool, list] = {True: [], False: []}
    for chooses, kept in states.items():
        params = random if chooses else {name: value for name, value in random.items() if not name.startswith("selection")}
        fit(params | {"epochs": 3}, on_epoch=lambda row, bound, kept=kept: kept.append(copy.deepcopy(bound.state())))
    for chosen, plain in zip(*states.values(), strict=True):
        assert "best" in chosen and "best" not in plain
        for part in ("modules", "optimizers"):
            assert identical(chosen[part], plain[part])
        for row in chosen["curve"]:
            del row["epoch/selection"]
        assert identical(chosen["curve"], plain["curve"])


def test_the_result_of_a_trial_records_the_epoch_and_its_network():
    config = TrialConfig.of(SMALL | ATTACK | {"selection.images": 30, "optimizer.schedule": "1:0", "optimizer.lr": 0.2})
    kept = []
    result = trial.run(config, pool(), on_epoch=modules_by_epoch(kept))  # the weights do not change after the first epoch
    assert result.metrics["selected_epoch"] == 1 and len(result.curve) == 3
    assert identical(result.state["modules"], kept[0])
    assert "selected_epoch" not in trial.run(config.set({"selection": "none"}), pool()).metrics.values


def test_images_that_choose_are_required():
    with pytest.raises(ValueError, match="chooses the epoch by images that are not given"):
        train.train(TrialConfig.of(TINY | ATTACK), images(), images(9, seed=1))


# -- resuming, and several workers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("params", "epochs"), [
    (ATTACK | {"selection.epsilon": 0.2, "selection.attack": "pgd:steps=3"}, 8),
    ({"selection": "accuracy", "selection.patience": 3}, 6),
])  # fmt: skip
def test_a_resumed_training_chooses_the_same_epoch_and_is_bit_identical(params, epochs):
    config, files = TrialConfig.of(TINY | {"epochs": 8, "optimizer.lr": 0.03, **params}), []
    own = dark_and_bright(40, swap=False), dark_and_bright(20, swap=False), dark_and_bright(30, swap=False)

    def keep(row, bound):
        files.append(io.BytesIO())
        torch.save(bound.state(), files[-1])

    uninterrupted = train.train(config, *own, on_epoch=keep)
    chosen = selected_epoch(uninterrupted.curve)
    assert chosen and 1 < chosen < len(files) == epochs  # checkpoints are from before and after the best epoch
    for file in files:
        file.seek(0)
        resumed = train.train(config, *own, resume=torch.load(file, weights_only=True))
        assert selected_epoch(resumed.curve) == chosen and identical(resumed.state(), uninterrupted.state())
    finished = train.train(config, *own, resume=uninterrupted.state(), on_epoch=lambda *_: pytest.fail("trained"))
    assert identical(finished.state(), uninterrupted.state())


def on_a_worker() -> dict:
    bound = fit(ATTACK | {"selection.attack": "pgd:steps=2", "epochs": 5, "batch_size": 9, "seed": 3})
    return {"curve": bound.curve, "modules": bound.state()["modules"]}


@pytest.mark.thorough
def test_two_workers_choose_the_epoch_of_one_process(tmp_path):
    one, (first, second) = on_a_worker(), run_on_two_workers(__file__, "on_a_worker", tmp_path)
    assert identical(first["modules"], second["modules"])
    for there in (first, second):
        assert [row["epoch/selection"] for row in there["curve"]] == [row["epoch/selection"] for row in one["curve"]]
        assert selected_epoch(there["curve"]) == selected_epoch(one["curve"])
    for name, value in one["modules"]["net"].items():
        assert torch.allclose(first["modules"]["net"][name], value, atol=1e-4), name


def test_a_worker_without_an_image_counts_none(monkeypatch):
    chooser, net = EpochChooser(TrialConfig.of({"selection": "accuracy"}).selection, images(1), range(1, 3), 0), fit({}).net
    monkeypatch.setattr("core.workers.rows", lambda total: slice(0, 0))
    assert chooser.measured(net, 1) == {"epoch/selection": 0.0}


# -- settings -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("params", "message"), [
    ({"selection": "best"}, "expected one of: none, accuracy, attack"),
    ({"selection.images": 10}, r"selection=accuracy or attack has it"),
    ({"selection": "attack", "selection.attack": "ifgsn"}, "did you mean 'ifgsm'|ifgsm"),
    ({"selection": "attack", "selection.attack": ""}, "names no attack"),
    ({"selection": "attack", "selection.attack": "rfgsm", "selection.norm": "l2"}, "rfgsm is defined in Linf, and norm=l2"),
    ({"selection": "attack", "selection.epsilon": 8}, "so write 8/255 and not 8"),
    ({"selection": "accuracy", "selection.images": 0}, r"outside \[1, inf"),
])  # fmt: skip
def test_settings_that_choose_nothing_are_rejected(params, message):
    with pytest.raises(InputError, match=message) as caught:
        TrialConfig.of(params)
    assert "\n" not in str(caught.value)


def test_the_settings_have_a_flat_form_and_a_radius_that_fits_the_images():
    config = TrialConfig.of(ATTACK | {"selection.norm": "l2", "selection.epsilon": "9", "selection.last": "30"})
    assert TrialConfig.of(config.params()) == config and config.params()["selection.last"] == 30
    config.check_shape((1, 9, 9))
    with pytest.raises(InputError, match=r"selection\.epsilon=9 is longer than the L2 distance 8 "):
        config.check_shape((1, 8, 8))
