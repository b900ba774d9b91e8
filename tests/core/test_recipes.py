"""Recipes are legal configurations with the published settings."""

import pytest

from core.config import SLOTS, TrialConfig
from core.optimizers.standard import factor
from core.recipes import CRL_TRAINING, RECIPES, method_of
from core.small_recipes import SMALL, small


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_legal_and_sets_optimizer_batch_size_and_epochs(name):
    config = TrialConfig.of(RECIPES[name])
    params = config.params()
    assert all(params[key] == value for key, value in RECIPES[name].items())
    assert {"optimizer", "batch_size", "epochs"} <= RECIPES[name].keys()


def test_every_training_method_has_a_recipe():
    used = {(slot, TrialConfig.of(recipe).params()[slot]) for recipe in RECIPES.values() for slot in SLOTS}
    methods = {(slot, name) for slot in ("loss", "perturbation", "regularizer") for name in SLOTS[slot]}
    assert methods | {("augmentation", "mixup"), ("optimizer", "dp_sgd")} <= used


LEARNING_RATES = {
    "cross_entropy": {0: 0.01, 49: 0.01, 50: 1e-3, 79: 1e-3, 80: 1e-4, 99: 1e-4},
    "crl": {0: 0.01, 50: 1e-3, 80: 1e-4},
    "relaxloss": {0: 0.1, 149: 0.1, 150: 0.01, 225: 1e-3},
    "bpfc": {0: 0.1, 25: 0.1, 26: 0.02, 50: 0.02, 51: 0.004, 75: 0.004, 76: 0.0008},
    "bpfc_mnist": {0: 0.01, 12: 0.01, 13: 0.002, 25: 0.002, 26: 0.0004, 37: 0.0004, 38: 8e-5},
    "pgd_at": {0: 0.1, 99: 0.1, 100: 0.01, 150: 0.001},
    "gat": {0: 1e-3, 199: 1e-3},
    "ttm_vgg": {0: 1e-3, 99: 1e-3},
    "ttm_res": {0: 0.01, 99: 0.01},
    "atm_res": {0: 0.1, 99: 0.1, 100: 0.01, 149: 0.01, 150: 0.001, 199: 0.001},
    "atm_res10": {0: 0.1, 9: 0.1},
}
"""Published learning rates by epoch, counted from 0."""


@pytest.mark.parametrize("name", LEARNING_RATES)
def test_learning_rates_are_the_published_ones(name):
    config = TrialConfig.of(RECIPES[name])
    for epoch, rate in LEARNING_RATES[name].items():
        assert config.optimizer.lr * factor(config.optimizer.schedule, epoch, config.epochs) == pytest.approx(rate)


PUBLISHED = {
    "crl": {"batch_size": 256, "epochs": 100, "optimizer.weight_decay": 5e-4, "optimizer.momentum": 0.9, "loss.lr_c": 1e-3},
    "relaxloss": {"batch_size": 128, "epochs": 300, "optimizer.weight_decay": 1e-4, "loss.alpha": 1.0, "loss.variant": "official"},
    "bpfc": {"batch_size": 128, "epochs": 100, "regularizer.k": 5, "regularizer.lambda": 1.0, "regularizer.growth": 9.0,
             "optimizer.weight_decay": 5e-4, "augmentation.padding": 4, "normalize": False, "net": "resnet18",
             "net.relu_before_addition": True},
    "bpfc_mnist": {"batch_size": 64, "epochs": 50, "regularizer.k": 7, "regularizer.lambda": 30.0, "regularizer.growth": 1.0,
                   "net": "mlenet", "augmentation": "none"},
    "bpfc_fashion_mnist": {"regularizer.k": 6, "regularizer.lambda": 25.0, "regularizer.growth": 1.0},
    "bpfc_a1": {"regularizer.noise": 0.0}, "bpfc_a3": {"regularizer.distance": "l1"},
    "bpfc_a2": {"regularizer.quantiser": "uniform_noise"},
    "rss_at": {"perturbation.alpha": 0.0, "regularizer.lambda": 25.0, "regularizer.random_share": 0.25},
    "pgd_at": {"perturbation.steps": 10, "perturbation.step_size": 2 / 255, "perturbation.alpha": 0.0,
               "optimizer.weight_decay": 2e-4, "perturbation.random_start": True},
    "gat": {"perturbation.k": 1, "perturbation.alpha": 0.5, "perturbation.lr_g": 1e-6, "perturbation.delta_scale": "none",
            "net": "allconv", "net.width": 48, "perturbation.width": 48, "normalize": False},
    "mixup": {"augmentation.a": 1.0, "optimizer.lr": 0.1, "optimizer.weight_decay": 1e-4},
    "l1": {"regularizer.l1": 0.01}, "l2": {"regularizer.l2": 0.01},
    "elastic_net": {"regularizer.l1": 0.01, "regularizer.l2": 0.01, "optimizer": "adam", "optimizer.lr": 1e-3},
    "advreg": {"regularizer.alpha": 6.0, "regularizer.lr_h": 1e-3},
    "dmp": {"loss.crl_compat": True, "loss.reference": 0.5, "loss.temperature": 1.0},
    "ttm_vgg": {"net": "vgg16", "batch_size": 128, "epochs": 100, "optimizer": "adam"},
    "ttm_res": {"net": "wrn", "net.depth": 28, "net.widen": 10, "epochs": 100, "optimizer.momentum": 0.9,
                "optimizer.weight_decay": 2e-4, "perturbation": "none"},
    "atm_res": {"net": "wrn", "net.depth": 28, "net.widen": 10, "epochs": 200, "optimizer.momentum": 0.9,
                "optimizer.weight_decay": 2e-4, "perturbation.epsilon": 10 / 255, "perturbation.steps": 10,
                "perturbation.step_size": 2 / 255, "perturbation.alpha": 0.0},
    "label_smoothing": {"loss.epsilon": 0.1}, "confidence_penalty": {"loss.alpha": 0.1},
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_settings_are_the_published_ones(name):
    params = TrialConfig.of(RECIPES[name]).params()
    assert {key: params[key] for key in PUBLISHED[name]} == PUBLISHED[name]


def test_both_phases_of_dmp_have_the_epochs_of_the_crl_paper():
    config = TrialConfig.of(RECIPES["dmp"])
    teacher_epochs = config.loss.teacher_epochs(config.epochs)
    assert (teacher_epochs, config.epochs - teacher_epochs) == (100, 100)


def test_the_inversion_papers_atm_res10_is_the_network_of_the_first_ten_epochs_of_atm_res():
    whole, stopped = (TrialConfig.of(RECIPES[name]) for name in ("atm_res", "atm_res10"))
    assert stopped.set({"optimizer.stop_at": 1.0}) == whole
    assert stopped.optimizer.last_epoch(stopped.epochs) == 10


CRL_RATES = {
    ("cifar10", "vgg11_bn"): (120, {0: 0.05, 49: 0.05, 50: 0.01, 79: 0.01, 80: 0.005, 99: 0.005, 100: 0.001, 119: 0.001}),
    ("cifar10", "resnet18"): (100, {0: 0.01, 49: 0.01, 50: 1e-3, 79: 1e-3, 80: 1e-4, 99: 1e-4}),
    ("cifar10", "densenet"): (50, {0: 0.1, 19: 0.1, 20: 0.01, 39: 0.01, 40: 1e-3, 49: 1e-3}),
    ("cifar100", "resnet18"): (100, {0: 0.01, 1: 0.1, 49: 0.1, 50: 0.01, 79: 0.01, 80: 1e-3, 99: 1e-3}),
    ("cifar100", "googlenet"): (80, {0: 0.1, 39: 0.1, 40: 0.01, 59: 0.01, 60: 1e-3, 79: 1e-3}),
    ("cifar100", "densenet"): (100, {0: 0.1, 39: 0.1, 40: 0.01, 69: 0.01, 70: 1e-3, 89: 1e-3, 90: 1e-4, 99: 1e-4}),
    ("svhn", "vgg11_bn"): (40, {0: 0.1, 9: 0.1, 10: 0.01, 29: 0.01, 30: 1e-3, 39: 1e-3}),
    ("svhn", "resnet18"): (40, {0: 0.1, 9: 0.1, 10: 0.01, 29: 0.01, 30: 1e-3, 39: 1e-3}),
}
"""Epochs and learning rates by epoch, counted from 0, in the CRL paper's code."""


@pytest.mark.parametrize("dataset, net", CRL_RATES)
def test_the_training_of_each_network_of_the_crl_paper_is_the_published_one(dataset, net):
    assert CRL_TRAINING.keys() == CRL_RATES.keys()
    config = TrialConfig.of(RECIPES["crl"] | CRL_TRAINING[dataset, net])
    epochs, rates = CRL_RATES[dataset, net]
    params = config.params()
    expected = {
        "dataset": dataset, "net": net, "epochs": epochs, "batch_size": 32 if net == "densenet" else 256, "loss": "crl",
        "augmentation": "crop_flip" if dataset == "cifar100" else "none", "optimizer.weight_decay": 5e-4,
        "normalize": dataset != "svhn",
    }  # fmt: skip
    assert {name: params[name] for name in expected} == expected
    if dataset == "cifar100":
        assert (params["augmentation.padding"], params["augmentation.flip"], params["augmentation.shared"]) == (4, True, True)
    for epoch, rate in rates.items():
        assert config.optimizer.lr * factor(config.optimizer.schedule, epoch, config.epochs) == pytest.approx(rate)


# -- methods, and their strengths for small networks ------------------------------------------------------------------

METHOD_SLOTS = ("loss", "perturbation", "regularizer")


def test_the_method_of_a_recipe_is_what_distinguishes_it_from_ordinary_training():
    assert method_of(RECIPES["cross_entropy"]) == {}
    assert method_of({"net": "vgg16", "optimizer": "adam", "epochs": 3, "augmentation": "crop_flip", "loss": "cross_entropy"}) == {}
    assert method_of(RECIPES["early_stopping"]) == {"optimizer.stop_at": 0.25}
    assert method_of(RECIPES["dropout"]) == {"net.dropout": 0.25}
    assert method_of(RECIPES["gat_dropout"]) == {"perturbation": "gat", "net.dropout": 0.25}
    assert method_of(RECIPES["bpfc_a1"]) == {"regularizer": "bpfc", "regularizer.noise": 0.0}
    assert method_of(RECIPES["mixup"]) == {"augmentation": "mixup", "augmentation.padding": 4, "augmentation.flip": True}
    assert method_of(RECIPES["dp_sgd"]) == {
        "optimizer": "dp_sgd", "optimizer.max_grad_norm": 1.2, "optimizer.noise_multiplier": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_a_small_recipe_has_the_components_of_the_published_method(name):
    changes = small(name)
    published, config = (TrialConfig.of(settings).params() for settings in (RECIPES[name], {"net": "allconv", **changes}))
    assert {slot: config[slot] for slot in METHOD_SLOTS} == {slot: published[slot] for slot in METHOD_SLOTS}
    for slot in ("augmentation", "optimizer"):
        if (component := method_of(RECIPES[name]).get(slot)) is not None:
            assert config[slot] == component
    if name not in SMALL:
        assert changes == method_of(RECIPES[name])


def test_strengths_for_small_networks_are_those_of_the_documented_tables():
    assert len(SMALL) == 25 and SMALL.keys() <= RECIPES.keys()
    assert SMALL["rss_at"] == {
        "perturbation": "fgsm", "perturbation.alpha": 0.5, "regularizer": "rss", "regularizer.lambda": 1.0,
    }  # fmt: skip
    assert SMALL["bpfc"] == {"regularizer": "bpfc", "regularizer.growth": 3.0}
    assert SMALL["early_stopping"] == {"optimizer.stop_at": 0.4}
