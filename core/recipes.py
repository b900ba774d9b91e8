"""The papers' methods as configurations in flat form; `config.set(RECIPES["crl"])` applies one.

Schedules count epochs from 0, as the papers do. A comment marks each value that a paper does not give and that is our choice.
"""

from collections.abc import Mapping

from core.space import Value

Recipe = dict[str, Value]

# -- the CRL paper: conf/train/cifar10_resnet.yml of its authors, no augmentation -------------------------------------
_CRL: Recipe = {
    "optimizer": "sgd", "optimizer.lr": 0.01, "optimizer.momentum": 0.9, "optimizer.weight_decay": 5e-4,
    "optimizer.schedule": "50:0.1,80:0.01", "batch_size": 256, "epochs": 100,
}  # fmt: skip
# -- RelaxLoss: its authors' CIFAR-10 training -------------------------------------------------------------------------
_RELAXLOSS: Recipe = {
    "optimizer": "sgd", "optimizer.lr": 0.1, "optimizer.momentum": 0.9, "optimizer.weight_decay": 1e-4,
    "optimizer.schedule": "150:0.1,225:0.01", "batch_size": 128, "epochs": 300,
}  # fmt: skip
# -- BPFC: its authors' ResNet-18 and CIFAR-10 training; "after epoch 25" means that epoch 26 is the first -------------
_BPFC: Recipe = {
    "net": "resnet18", "net.relu_before_addition": True, "normalize": False, "augmentation": "crop_flip", "optimizer": "sgd",
    "optimizer.lr": 0.1, "optimizer.momentum": 0.9, "optimizer.weight_decay": 5e-4,
    "optimizer.schedule": "26:0.2,51:0.04,76:0.008", "batch_size": 128, "epochs": 100,
}  # fmt: skip
_BPFC_GREY: Recipe = {
    "net": "mlenet", "normalize": False, "augmentation": "none", "optimizer": "sgd", "optimizer.lr": 0.01,
    "optimizer.momentum": 0.9, "optimizer.weight_decay": 5e-4, "optimizer.schedule": "13:0.2,26:0.04,38:0.008",
    "batch_size": 64, "epochs": 50,
}  # fmt: skip
# -- GAT: Adam 1e-3, the all-conv net, no augmentation; our batch size and epochs --------------------------------------
_GAT: Recipe = {
    "net": "allconv", "normalize": False, "optimizer": "adam", "optimizer.lr": 1e-3, "batch_size": 128, "epochs": 200,
}  # fmt: skip
# -- sparsity: Adam 1e-3 and batches of 128 as in the toolbox example that the paper follows ---------------------------
_SPARSE: Recipe = {"optimizer": "adam", "optimizer.lr": 1e-3, "batch_size": 128, "epochs": 20}
# -- adversarial training as the CIFAR-10 challenge does it ------------------------------------------------------------
_MADRY: Recipe = {
    "augmentation": "crop_flip", "optimizer": "sgd", "optimizer.lr": 0.1, "optimizer.momentum": 0.9,
    "optimizer.weight_decay": 2e-4, "optimizer.schedule": "100:0.1,150:0.01", "batch_size": 128, "epochs": 200,
}  # fmt: skip

# -- model inversion: the targets of the inversion paper, which states no augmentation ---------------------------------
_TTM_VGG: Recipe = {  # the paper's network has no batch norm, without which Adam at this rate may stay at chance accuracy
    "net": "vgg16", "augmentation": "none", "optimizer": "adam", "optimizer.lr": 1e-3, "batch_size": 128, "epochs": 100,
}  # fmt: skip
_TTM_RES: Recipe = {  # our batch size
    "net": "wrn", "net.depth": 28, "net.widen": 10, "augmentation": "none", "optimizer": "sgd", "optimizer.lr": 0.01,
    "optimizer.momentum": 0.9, "optimizer.weight_decay": 2e-4, "optimizer.schedule": "constant", "batch_size": 128, "epochs": 100,
}  # fmt: skip
_ATM_RES: Recipe = {  # augmentation and batch size of the CIFAR-10 challenge
    "net": "wrn", "net.depth": 28, "net.widen": 10, "loss": "cross_entropy", "perturbation": "pgd",
    "perturbation.epsilon": 10 / 255, "perturbation.steps": 10, "perturbation.step_size": 2 / 255, "perturbation.alpha": 0.0,
    **_MADRY,
}  # fmt: skip


def _crl_training(
    dataset: str, net: str, epochs: int, lr: float, schedule: str, *, batch_size: int = 256, augment: bool = False
) -> Recipe:
    """The training of one network and data set in the CRL paper; see `CRL_TRAINING`."""
    augmentation: Recipe = {"augmentation": "crop_flip", "augmentation.shared": True} if augment else {"augmentation": "none"}
    return {
        **_CRL, "dataset": dataset, "net": net, "optimizer.lr": lr, "optimizer.schedule": schedule, "batch_size": batch_size,
        "epochs": epochs, "normalize": dataset != "svhn", **augmentation,
    }  # fmt: skip


CRL_TRAINING: dict[tuple[str, str], Recipe] = {
    (str(recipe["dataset"]), str(recipe["net"])): recipe
    for recipe in (
        _crl_training("cifar10", "vgg11_bn", 120, 0.05, "50:0.2,80:0.1,100:0.02"),
        _crl_training("cifar10", "resnet18", 100, 0.01, "50:0.1,80:0.01"),
        _crl_training("cifar10", "densenet", 50, 0.1, "20:0.1,40:0.01", batch_size=32),
        _crl_training("cifar100", "resnet18", 100, 0.1, "0:0.1,1:1,50:0.1,80:0.01", augment=True),
        _crl_training("cifar100", "googlenet", 80, 0.1, "40:0.1,60:0.01", augment=True),
        _crl_training("cifar100", "densenet", 100, 0.1, "40:0.1,70:0.01,90:0.001", batch_size=32, augment=True),
        _crl_training("svhn", "vgg11_bn", 40, 0.1, "10:0.1,30:0.01"),
        _crl_training("svhn", "resnet18", 40, 0.1, "10:0.1,30:0.01"),
    )
}
"""The CRL paper's training of every method, by data set and network (its authors' conf/train/*.yml; the batch sizes are those of
section 5.1). Only CIFAR-100 is augmented, with one crop and one flip per batch, and SVHN's pixels are not normalised. `DMP` needs
twice the epochs, for teacher and student, and its schedule applies to each."""

RECIPES: dict[str, Recipe] = {
    # Membership inference: CRL and the methods it is compared with.
    "cross_entropy": {"loss": "cross_entropy", "perturbation": "none", **_CRL},
    "early_stopping": {"loss": "cross_entropy", **_CRL, "optimizer.stop_at": 0.25},  # our share
    "label_smoothing": {"loss": "label_smoothing", "loss.epsilon": 0.1, **_CRL},
    "confidence_penalty": {"loss": "confidence_penalty", "loss.alpha": 0.1, **_CRL},
    "relaxloss": {"loss": "relaxloss", "loss.alpha": 1.0, "loss.variant": "official", **_RELAXLOSS},
    "relaxloss_crl_baseline": {"loss": "relaxloss", "loss.alpha": 1.0, "loss.variant": "crl_baseline", **_CRL},
    "imp_relaxloss": {"loss": "imp_relaxloss", **_CRL},
    "centre_loss": {"loss": "centre_loss", **_CRL},
    "relaxed_centre_loss": {"loss": "centre_loss", "loss.lambda": 0.1, "loss.alpha_rcl": 0.6, "loss.tau_rcl": 1.0, **_CRL},
    "crl": {"loss": "crl", "perturbation": "none", **_CRL},  # our thresholds and lambda; the paper's are not published
    "advreg": {"regularizer": "advreg", "regularizer.alpha": 6.0, **_CRL},  # our share of reference images
    "dmp": {"loss": "dmp", "loss.crl_compat": True, **_CRL, "optimizer.schedule": "50:0.1,80:0.01", "epochs": 200},
    "dp_sgd": {  # clipping norm of the RelaxLoss code, whose noise of 0.01 guarantees nothing; our multiplier
        "net": "allconv", "normalize": False, "optimizer": "dp_sgd", "optimizer.max_grad_norm": 1.2,
        "optimizer.noise_multiplier": 1.0, "batch_size": 256, "epochs": 100,
    },
    # Robustness: BPFC, its ablations, and the methods it is compared with.
    "bpfc": {"regularizer": "bpfc", "regularizer.k": 5, "regularizer.lambda": 1.0, "regularizer.growth": 9.0, **_BPFC},
    "bpfc_mnist": {"regularizer": "bpfc", "regularizer.k": 7, "regularizer.lambda": 30.0, "regularizer.growth": 1.0, **_BPFC_GREY},
    "bpfc_fashion_mnist": {
        "regularizer": "bpfc", "regularizer.k": 6, "regularizer.lambda": 25.0, "regularizer.growth": 1.0, **_BPFC_GREY,
    },
    "bpfc_a1": {"regularizer": "bpfc", "regularizer.noise": 0.0, **_BPFC},
    "bpfc_a2": {"regularizer": "bpfc", "regularizer.quantiser": "uniform_noise", **_BPFC},
    "bpfc_a3": {"regularizer": "bpfc", "regularizer.distance": "l1", **_BPFC},
    "mixup": {"augmentation": "mixup", **{k: v for k, v in _BPFC.items() if k != "augmentation"},
              "augmentation.padding": 4, "augmentation.flip": True, "optimizer.weight_decay": 1e-4},
    "fgsm_at": {"perturbation": "fgsm", "perturbation.epsilon": 8 / 255, "perturbation.alpha": 0.5, **_BPFC},
    "rfgsm_at": {"perturbation": "rfgsm", "perturbation.epsilon": 8 / 255, "perturbation.alpha": 0.5, **_BPFC},
    "rss_at": {  # lambda of the authors' WRN-28-10
        "perturbation": "fgsm", "perturbation.epsilon": 8 / 255, "perturbation.alpha": 0.0, "regularizer": "rss", **_BPFC,
    },
    "pgd_at": {
        "loss": "cross_entropy", "perturbation": "pgd", "perturbation.epsilon": 8 / 255, "perturbation.steps": 10,
        "perturbation.step_size": 2 / 255, "perturbation.alpha": 0.0, **_MADRY,
    },
    # GAT and the methods it is compared with; the paper tuned the epsilon of its baselines and does not give it.
    "gat": {"perturbation": "gat", "perturbation.c_g": 1.0, "perturbation.k": 1, **_GAT},
    "gat_dropout": {"perturbation": "gat", **_GAT, "net.dropout": 0.25},
    "dropout": {**_GAT, "net.dropout": 0.25},
    "noise": {"perturbation": "noise", **_GAT},
    "fgsm_linf": {"perturbation": "fgsm", "perturbation.epsilon": 8 / 255, **_GAT},
    "fgsm_l2": {"perturbation": "fgsm", "perturbation.norm": "l2", "perturbation.epsilon": 0.5, **_GAT},
    # Sparsity; the paper's weight of 0.01 drives networks with millions of weights to chance accuracy.
    "l1": {"regularizer": "l1", "regularizer.l1": 0.01, **_SPARSE},
    "l2": {"regularizer": "l2", "regularizer.l2": 0.01, **_SPARSE},
    "elastic_net": {"regularizer": "elastic_net", "regularizer.l1": 0.01, "regularizer.l2": 0.01, **_SPARSE},
    "convex_elastic_net": {"regularizer": "convex_elastic_net", "regularizer.lambda": 0.01, **_SPARSE},
    "activation_sparsity": {"regularizer": "activation_sparsity", "regularizer.lambda": 1e-5, **_SPARSE},
    # Model inversion: networks that are trained normally (ttm) and adversarially (atm).
    "ttm_vgg": _TTM_VGG,
    "ttm_res": _TTM_RES,
    "atm_res": _ATM_RES,
    "atm_res10": {**_ATM_RES, "optimizer.stop_at": 0.05},  # the network of the first 10 epochs
}  # fmt: skip


def method_of(recipe: Mapping[str, Value]) -> Recipe:
    """The settings of a recipe that are its method, without those of the training that any method can have.

    These are its loss, perturbation and regularizer with their knobs, mixup, DP-SGD, dropout and an early end of the training. They
    are empty for ordinary training, whatever its network and optimizer.
    """

    def belongs(name: str) -> bool:
        slot = name.partition(".")[0]
        if slot in ("loss", "perturbation", "regularizer"):
            return recipe.get(slot, "") not in ("cross_entropy", "none")
        return recipe.get(slot, "") in ("mixup", "dp_sgd") or name in ("net.dropout", "optimizer.stop_at")

    return {name: value for name, value in recipe.items() if belongs(name)}
