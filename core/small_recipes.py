"""The strengths of the recipes for small networks that are trained for tens of epochs, as short changes to a common training.

The papers' own settings are in `core.recipes`. `small(name)` is what the same method is on a small budget: its entry in `SMALL`, or
its published method without the published training.
"""

from core.recipes import RECIPES, Recipe, method_of

_FGSM: Recipe = {"perturbation": "fgsm", "perturbation.alpha": 0.5}
SMALL: dict[str, Recipe] = {
    "cross_entropy": {"loss": "cross_entropy"},
    "early_stopping": {"optimizer.stop_at": 0.4},
    "label_smoothing": {"loss": "label_smoothing", "loss.epsilon": 0.3},
    "confidence_penalty": {"loss": "confidence_penalty", "loss.alpha": 1.0},
    "relaxloss": {"loss": "relaxloss", "loss.alpha": 1.0},
    "imp_relaxloss": {"loss": "imp_relaxloss", "loss.alpha_rce": 1.0},
    "centre_loss": {"loss": "centre_loss"},
    "relaxed_centre_loss": {"loss": "centre_loss", "loss.lambda": 0.1, "loss.alpha_rcl": 0.6, "loss.tau_rcl": 1.0},
    "crl": {"loss": "crl", "loss.alpha_rce": 1.0},
    "advreg": {"regularizer": "advreg"},
    "dmp": {"loss": "dmp"},
    "dp_sgd": {"optimizer": "dp_sgd", "optimizer.lr": 0.5, "optimizer.schedule": "cosine", "normalize": False, "batch_size": 128},
    "mixup": {"augmentation": "mixup"},
    "noise": {"perturbation": "noise"},
    "fgsm_at": _FGSM,
    "fgsm_l2": {**_FGSM, "perturbation.norm": "l2", "perturbation.epsilon": 0.5},
    "rfgsm_at": {"perturbation": "rfgsm", "perturbation.alpha": 0.5},
    "rss_at": {**_FGSM, "regularizer": "rss", "regularizer.lambda": 1.0},
    "pgd_at": {"perturbation": "pgd", "perturbation.steps": 3, "perturbation.alpha": 0.5},
    "bpfc": {"regularizer": "bpfc", "regularizer.growth": 3.0},
    "gat": {
        "perturbation": "gat", "perturbation.delta_scale": "batch_std", "perturbation.lr_g": 1e-3, "perturbation.width": 8,
        "perturbation.c_g": 0.1,
    },
    "l1": {"regularizer": "l1", "regularizer.l1": 1e-4},
    "l2": {"regularizer": "l2", "regularizer.l2": 1e-3},
    "elastic_net": {"regularizer": "elastic_net", "regularizer.l1": 1e-4, "regularizer.l2": 1e-3},
    "activation_sparsity": {"regularizer": "activation_sparsity", "regularizer.lambda": 1e-5},
}  # fmt: skip
"""Strengths by recipe, chosen once on `val` with one seed. Where there are adversarial images, half of the loss is on clean images,
because small plain networks stay at chance on adversarial images alone."""


def small(name: str) -> Recipe:
    """The method of a recipe at its strength for small networks, or at its published strength if `SMALL` has none.

    Empty if the recipe differs from ordinary training in its network, optimizer or length only.
    """
    return SMALL.get(name) or method_of(RECIPES[name])
