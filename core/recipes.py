"""`RECIPES`: the papers' methods as fillings of the slots, in flat form. `config.set(RECIPES["crl"])` applies one."""

from core.space import Value

_CRL_TRAINING: dict[str, Value] = {  # the authors' conf/train/cifar10_resnet.yml
    "optimizer": "sgd", "optimizer.lr": 0.01, "optimizer.momentum": 0.9, "optimizer.weight_decay": 5e-4,
    "optimizer.schedule": "50:0.1,80:0.01", "batch_size": 256, "epochs": 100,
}  # fmt: skip

RECIPES: dict[str, dict[str, Value]] = {
    # The undefended network of the CRL paper.
    "cross_entropy": {"loss": "cross_entropy", "perturbation": "none", **_CRL_TRAINING},
    # RelaxLoss as its authors trained CIFAR-10, ResNet-20 (their alpha 1.0).
    "relaxloss": {
        "loss": "relaxloss", "loss.alpha": 1.0, "loss.variant": "official", "perturbation": "none",
        "optimizer": "sgd", "optimizer.lr": 0.1, "optimizer.momentum": 0.9, "optimizer.weight_decay": 1e-4,
        "optimizer.schedule": "150:0.1,225:0.01", "batch_size": 128, "epochs": 300,
    },
    # CRL on CIFAR-10, ResNet-18; the paper's thresholds and lambda were not published, these are ours.
    "crl": {"loss": "crl", "perturbation": "none", **_CRL_TRAINING},
    # Madry's adversarial training as the CIFAR-10 challenge does it: adversarial images only.
    "pgd_at": {
        "loss": "cross_entropy", "perturbation": "pgd", "perturbation.epsilon": 8 / 255, "perturbation.steps": 10,
        "perturbation.step_size": 2 / 255, "perturbation.alpha": 0.0, "augmentation": "crop_flip",
        "optimizer": "sgd", "optimizer.lr": 0.1, "optimizer.momentum": 0.9, "optimizer.weight_decay": 2e-4,
        "optimizer.schedule": "100:0.1,150:0.01", "batch_size": 128, "epochs": 200,
    },
    # FGSM training with half of the loss on clean images (GAT paper, Eq. 2).
    "fgsm_at": {
        "loss": "cross_entropy", "perturbation": "fgsm", "perturbation.epsilon": 8 / 255, "perturbation.alpha": 0.5,
        "optimizer": "adam", "optimizer.lr": 1e-3, "batch_size": 128, "epochs": 200,
    },
}  # fmt: skip
