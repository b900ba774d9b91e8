"""What does privacy by CRL cost, and is it compatible with robustness by adversarial training?

    python studies/crl_tradeoff.py

Sweeps CRL's knobs and the radius of adversarial training together, over accuracy, robust accuracy and the AUC of the strongest
threshold attack on membership.

The default preset uses digits that are made harder, because on the original ones almost no leak can be measured
(`core.data.hard_digits`); CRL's default there is one that has a clear effect at little cost in accuracy, not the paper's. Means and
intervals of its baselines over seeds are in tests/benchmarks/bench_default_study.py.

The preset `photos` asks the same of CIFAR-10's photographs on CPU cores: 8,000 members, a batch-norm ResNet of width 16, and radii
up to 8/255. With a copy of the photographs in `parquet:DIR`, add `--dataset parquet:DIR`. It takes hours, and `--resume` continues
it.
"""

from core.config import TrialConfig
from core.losses import CRL
from core.recipes import RECIPES
from core.search_space import ranges
from core.space import Range, Uniform
from core.study import CONFIRM, PUBLISH, UNDEFENDED, Contrast, Preset, Study
from trainables.commands.study import main

DEV = TrialConfig.of({
    "dataset": "hard_digits", "split.members": 0.14, "split.val": 0.28, "split.test": 0.28, "split.shadow": 0.28,
    "net": "convnet", "epochs": 30, "batch_size": 50, "judge.epsilon": 0.05, "judge.images": 300,
    "loss": "crl", "loss.alpha_rce": 0.7, "loss.lambda": 0.5,
    "perturbation": "pgd", "perturbation.epsilon": 0.05, "perturbation.steps": 2, "perturbation.alpha": 0.5,
})  # fmt: skip

PHOTOS = TrialConfig.of({
    "dataset": "cifar10", "pool": 14000, "split.members": 8000, "split.val": 4000, "split.test": 2000, "split.shadow": 0,
    "net": "resnet10", "net.width": 16, "augmentation": "crop_flip", "epochs": 20, "batch_size": 64,
    "optimizer": "sgd", "optimizer.lr": 0.1, "optimizer.schedule": "one_cycle", "judge.images": 500,
    "loss": "crl", "loss.alpha_rce": 1.0, "perturbation": "pgd", "perturbation.steps": 2,
})  # fmt: skip
"""A network that learns CIFAR-10's photographs on a CPU core; `--dataset parquet:DIR` uses a copy of one's own."""

PAPER = TrialConfig.of({
    **RECIPES["crl"], "dataset": "cifar10", "net": "resnet18", "split": "paper", "judge.steps": 20, "judge.images": 2000,
    "perturbation": "pgd", "perturbation.steps": 7, "perturbation.alpha": 0.5,
})  # fmt: skip


def space(config: TrialConfig) -> dict[str, Range]:
    """The privacy knobs at the ranges of their components, and training radii from 0 to the radius of the evaluation."""
    crl = ranges(CRL, "loss.", only=("alpha_rce", "lambda", "alpha_rcl", "tau_rcl"))
    return crl | {"perturbation.epsilon": Uniform(0.0, config.judge.epsilon)}


STUDY = Study(
    name="crl_tradeoff",
    question="What does privacy by CRL cost, and is it compatible with robustness by adversarial training?",
    presets={
        "dev": Preset(config=DEV, trials=20, confirm={**CONFIRM, "judge.images": 300}, replicates=3),
        "photos": Preset(config=PHOTOS, trials=12, confirm={**CONFIRM, "judge.images": 500}, replicates=3),
        "paper": Preset(config=PAPER, trials=60, confirm=PUBLISH, replicates=5, shadows=5),
    },
    space=space,
    baselines={
        "undefended": UNDEFENDED,
        "CRL alone": {**UNDEFENDED, "loss": "crl"},
        "adversarial training alone": {**UNDEFENDED, "perturbation": "pgd", "perturbation.epsilon": 0.05},
        "CRL + adversarial training": {**UNDEFENDED, "loss": "crl", "perturbation": "pgd", "perturbation.epsilon": 0.05},
    },
    contrasts=(
        Contrast("Does CRL alone leak less than no defence?", "CRL alone", "undefended", "mia_auc"),
        Contrast(
            "Is adversarial training alone more robust than no defence?", "adversarial training alone", "undefended",
            "robust_accuracy",
        ),
        Contrast(
            "Does adversarial training alone leak less than no defence?", "adversarial training alone", "undefended", "mia_auc"
        ),
        Contrast(
            "Does adversarial training leak less with CRL than without, at the same accuracy?",
            {"loss": "crl", "perturbation": "pgd"}, "adversarial training alone", "mia_auc", matched="accuracy",
        ),
        Contrast(
            "Is adversarial training more robust with CRL than without, at the same accuracy?",
            {"loss": "crl", "perturbation": "pgd"}, "adversarial training alone", "robust_accuracy", matched="accuracy",
        ),
    ),
)  # fmt: skip

if __name__ == "__main__":
    main(STUDY)
