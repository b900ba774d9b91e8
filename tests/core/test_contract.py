"""The contract of every component that takes part in training: a table of components, and tests over its rows."""

import io
import math

import pytest
import torch
from states import digest, identical, run_on_two_workers, tensors

from core import train
from core.bound import Bound
from core.config import SLOTS, TrialConfig
from core.data import Images
from core.errors import InputError

torch.set_num_threads(1)
TRAINING = {slot: SLOTS[slot] for slot in ("loss", "perturbation", "regularizer", "augmentation", "optimizer")}
PLAIN = {"net.width": 3, "net.hidden": 8, "epochs": 10, "batch_size": 16, "optimizer.lr": 0.05}
CASES: dict[tuple[str, str], dict] = {
    ("loss", "cross_entropy"): {},
    ("loss", "label_smoothing"): {},
    ("loss", "confidence_penalty"): {},
    ("loss", "relaxloss"): {"loss.alpha": 0.6},
    ("loss", "imp_relaxloss"): {"loss.alpha_rce": 0.2},
    ("loss", "centre_loss"): {"loss.alpha_rcl": 0.3, "loss.lr_c": 0.1},
    ("loss", "crl"): {"loss.alpha_rce": 0.2, "loss.lr_c": 0.1},
    ("loss", "dmp"): {"epochs": 60, "loss.temperature": 2.0, "loss.keep": 0.8},
    ("perturbation", "none"): {},
    ("perturbation", "noise"): {},
    ("perturbation", "fgsm"): {},
    ("perturbation", "rfgsm"): {},
    ("perturbation", "pgd"): {"perturbation.steps": 2},
    ("perturbation", "gat"): {"perturbation.width": 4, "perturbation.lr_g": 1e-3, "perturbation.delta_scale": "batch_std"},
    ("regularizer", "none"): {},
    ("regularizer", "bpfc"): {},
    ("regularizer", "l1"): {"regularizer.l1": 1e-3, "regularizer.proximal": True},
    ("regularizer", "l2"): {"regularizer.l2": 1e-3},
    ("regularizer", "elastic_net"): {"regularizer.l1": 1e-3},
    ("regularizer", "convex_elastic_net"): {"regularizer.lambda": 1e-3},
    ("regularizer", "activation_sparsity"): {"regularizer.lambda": 1e-4},
    ("regularizer", "rss"): {"perturbation": "fgsm", "perturbation.alpha": 0.0, "regularizer.lambda": 1.0},
    ("regularizer", "advreg"): {"regularizer.alpha": 1.0},
    ("augmentation", "none"): {},
    ("augmentation", "crop_flip"): {"augmentation.padding": 1, "augmentation.flip": False},
    ("augmentation", "mixup"): {"augmentation.padding": 1},
    ("optimizer", "sgd"): {},
    ("optimizer", "adam"): {"optimizer.lr": 0.01},
    ("optimizer", "dp_sgd"): {"normalize": False, "optimizer.lr": 0.5, "epochs": 20},
}
"""Settings with which each component is tested; they enable every hook, and effects that are off by default."""
for_every_component = pytest.mark.parametrize("case", CASES, ids=[f"{slot}={name}" for slot, name in CASES])


def bright_halves(n: int, seed: int) -> Images:
    """Images of two classes, which differ in the half that is bright, with noise."""
    stream = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 2
    x = torch.randint(0, 100, (n, 1, 8, 8), generator=stream)
    x[y == 0, :, :, :4] += 120
    x[y == 1, :, :, 4:] += 120
    return Images(x.to(torch.uint8), y, 2)


MEMBERS, VAL = bright_halves(94, 0), bright_halves(64, 1)
"""94 members in batches of 16 and 15, so that two workers have shares of different sizes."""


def config_of(case, **changes) -> TrialConfig:
    slot, name = case
    return TrialConfig.of({**PLAIN, slot: name, **CASES[case], **changes})


def fit(config: TrialConfig, **options) -> Bound:
    return train.train(config, MEMBERS, VAL, **options)


def test_the_table_has_a_row_for_every_component():
    assert set(CASES) == {(slot, name) for slot, family in TRAINING.items() for name in family}


@for_every_component
def test_a_component_learns_a_separable_problem(case):
    bound = fit(config_of(case))
    assert bound.curve[-1]["epoch/val_accuracy"] >= 0.95
    assert all(math.isfinite(v) for row in bound.curve for v in row.values())


@for_every_component
def test_runs_are_bit_identical_for_the_same_seed_and_differ_for_another_seed(case):
    short = {"epochs": 2}
    first = digest(fit(config_of(case, **short)).state())
    torch.manual_seed(1234)  # the global stream of the caller has no effect
    assert digest(fit(config_of(case, **short)).state()) == first
    assert digest(fit(config_of(case, **short, seed=1)).state()) != first


@for_every_component
def test_a_run_resumed_at_any_epoch_is_bit_identical(case):
    config, files = config_of(case, epochs=4), []

    def keep(row, bound):
        files.append(io.BytesIO())
        torch.save(bound.state(), files[-1])

    uninterrupted = digest(fit(config, on_epoch=keep).state())
    for file in files[:-1]:
        file.seek(0)
        assert digest(fit(config, resume=torch.load(file, weights_only=True)).state()) == uninterrupted


@for_every_component
def test_a_component_changes_the_weights_unless_it_is_the_default(case):
    slot, name = case
    changed = fit(config_of(case, epochs=6)).net.state_dict()
    others = {k: v for k, v in CASES[case].items() if not k.startswith(f"{slot}.")}
    default = "sgd" if slot == "optimizer" else "cross_entropy" if slot == "loss" else "none"
    if default == "none" or slot == "loss":
        others.pop("perturbation.alpha", None)
    plain = fit(TrialConfig.of({**PLAIN, **others, "epochs": 6, slot: default})).net.state_dict()
    unchanged = all(torch.equal(changed[key], plain[key]) for key in plain)
    assert unchanged == (name == default)


PAIRS = [(case, loss) for case in CASES if case[0] != "loss" for loss in SLOTS["loss"]]


@pytest.mark.parametrize("case, loss", PAIRS, ids=[f"{s}={n}+{loss}" for (s, n), loss in PAIRS])
def test_a_component_trains_with_every_loss_or_is_rejected_with_the_reason(case, loss):
    slot, name = case
    loss_settings = {k: v for k, v in CASES["loss", loss].items() if k != "epochs"}
    try:
        config = config_of(case, loss=loss, **loss_settings, epochs=2)
    except InputError as error:
        assert f"{slot}={name}" in str(error) and "\n" not in str(error)
        assert name in ("mixup", "dp_sgd", "advreg")
        return
    assert math.isfinite(fit(config).curve[-1]["epoch/loss"])


REJECTED = {
    "mixup": {"relaxloss", "imp_relaxloss", "centre_loss", "crl"},
    "dp_sgd": {"relaxloss", "imp_relaxloss", "centre_loss", "crl", "dmp"},
    "advreg": {"dmp"},
}


@pytest.mark.parametrize("name", REJECTED)
def test_only_these_losses_are_rejected(name):
    (case,) = [case for case in CASES if case[1] == name]
    rejected = set()
    for loss in SLOTS["loss"]:
        try:
            config_of(case, loss=loss)
        except InputError:
            rejected.add(loss)
    assert rejected == REJECTED[name]


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"normalize": True}, "normalize=false"),
        ({"net": "vgg16"}, "batch norm"),
        ({"net": "resnet18"}, "batch norm"),
        ({"perturbation": "gat"}, "perturbation=gat"),
        ({"regularizer": "advreg"}, "regularizer=advreg"),
        ({"regularizer": "l1"}, "regularizer=l1"),
        ({"augmentation": "mixup"}, "augmentation=mixup"),
    ],
)
def test_dp_sgd_rejects_settings_that_void_its_guarantee(changes, reason):
    with pytest.raises(InputError, match=reason):
        TrialConfig.of({"optimizer": "dp_sgd", "normalize": False, **changes})
    TrialConfig.of({"optimizer": "dp_sgd", "normalize": False})


# -- two workers ------------------------------------------------------------------------------------------------------


def train_all() -> dict:
    """Train every case; run by each of two workers."""
    return {"=".join(case): fit(config_of(case, epochs=2)).state() for case in CASES}


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    """The results of `train_all` on each of two gloo workers."""
    return run_on_two_workers(__file__, "train_all", tmp_path_factory.mktemp("workers"))


@pytest.mark.thorough
@for_every_component
def test_two_workers_train_as_one_does(two_workers, case):
    one = tensors(fit(config_of(case, epochs=2)).state())
    two = tensors(two_workers[0]["=".join(case)])
    assert one.keys() == two.keys()
    for path in one:
        torch.testing.assert_close(two[path], one[path], rtol=2e-3, atol=1e-4, msg=lambda m, path=path: f"{path}: {m}")


@pytest.mark.thorough
def test_the_states_of_two_workers_are_bit_identical(two_workers):
    rank_0, rank_1 = two_workers
    parts = ("modules", "curve")
    assert [name for name in rank_0 if any(not identical(rank_0[name][part], rank_1[name][part]) for part in parts)] == []


PER_IMAGE = [case for case in CASES if case[0] != "optimizer" and getattr(TRAINING[case[0]][case[1]], "per_image", False)]


@pytest.mark.parametrize("case", PER_IMAGE, ids=[f"{slot}={name}" for slot, name in PER_IMAGE])
def test_dp_sgd_without_noise_and_clipping_is_sgd_on_the_full_batch(case, monkeypatch):
    """Every forward pass of a component counts once in the gradient of an image, also where there are several."""
    monkeypatch.setattr(train, "_batches", lambda n, *_: iter([torch.arange(n)]))  # the same order, hence the same noise per image
    shared = {"epochs": 2, "batch_size": 94, "normalize": False, "optimizer.momentum": 0.5, "optimizer.lr": 0.1}
    plain = fit(config_of(case, **shared, **{"optimizer": "sgd", "optimizer.weight_decay": 0.0}))
    private = {"optimizer": "dp_sgd", "optimizer.noise_multiplier": 0.0, "optimizer.max_grad_norm": 1e6}
    trained, expected = (tensors(bound.state()["modules"]) for bound in (fit(config_of(case, **shared, **private)), plain))
    for path in expected:
        torch.testing.assert_close(trained[path], expected[path], rtol=1e-3, atol=1e-5, msg=lambda m, path=path: f"{path}: {m}")
