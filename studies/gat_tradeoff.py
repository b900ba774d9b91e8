"""Does a trained generator regularise better than the gradient itself, and does that make the network robust?

    python studies/gat_tradeoff.py

Sweeps the cost of the generator's perturbation, its steps and its share of the loss (c_g, k, alpha), against an undefended
network, FGSM training and random noise. The generator's input is the gradient in units of its standard deviation, and it has its
own learning rate: at the paper's 1e-6 it has no effect in runs as short as these (flag `generator_silent`).

The preset `paper` splits the images as the paper does: 5,000 images of the training file are for validation, the others are
members, and the confirmation step evaluates on the test file. Audits compare members with the validation images, because the test
file is another sample. This leaves no images for shadow models: for them, add `--shadows 5 --set split.shadow=20000`.
"""

from core.config import TrialConfig
from core.perturbations import GAT
from core.recipes import RECIPES
from core.search_space import ranges
from core.space import Range
from core.study import CONFIRM, PUBLISH, UNDEFENDED, Contrast, Preset, Study
from trainables.commands.study import main

SWEPT = {"perturbation": "gat", "perturbation.delta_scale": "batch_std", "perturbation.lr_g": 1e-3}

DEV = TrialConfig.of({
    "dataset": "digits", "net": "convnet", "epochs": 40, "judge.epsilon": 0.1, **SWEPT, "perturbation.width": 16,
})  # fmt: skip
PAPER = TrialConfig.of({
    **RECIPES["gat"], **SWEPT, "dataset": "cifar10", "split": "official", "split.val": 5000, "judge.steps": 20,
    "judge.images": 2000,
})  # fmt: skip
"""The paper's 45,000 members and 5,000 validation images of CIFAR-10's training file."""


def space(config: TrialConfig) -> dict[str, Range]:
    """The three knobs and the generator's learning rate, at the ranges of the component."""
    del config
    return ranges(GAT, "perturbation.", only=("c_g", "k", "alpha", "lr_g"))


STUDY = Study(
    name="gat_tradeoff",
    question="Does a trained generator regularise better than the gradient itself, and does that make the network robust?",
    presets={
        "dev": Preset(config=DEV, trials=16, confirm=CONFIRM, replicates=3),
        "paper": Preset(config=PAPER, trials=40, confirm=PUBLISH, replicates=5),
    },
    space=space,
    baselines={
        "undefended": UNDEFENDED,
        "FGSM training": {**UNDEFENDED, "perturbation": "fgsm", "perturbation.epsilon": 0.1},
        "random noise": {**UNDEFENDED, "perturbation": "noise", "perturbation.epsilon": 0.1},
    },
    contrasts=(
        Contrast(
            "Is a generator more accurate than FGSM training of the same robust accuracy?",
            {"perturbation": "gat"}, "FGSM training", "accuracy", matched="robust_accuracy",
        ),
        Contrast(
            "Is a generator more robust than random noise, at the same accuracy?",
            {"perturbation": "gat"}, "random noise", "robust_accuracy", matched="accuracy",
        ),
        Contrast(
            "Is a generator more robust than no defence, at the same accuracy?",
            {"perturbation": "gat"}, "undefended", "robust_accuracy", matched="accuracy",
        ),
        Contrast(
            "Does a generator leak less than no defence, at the same accuracy?",
            {"perturbation": "gat"}, "undefended", "mia_auc", matched="accuracy",
        ),
    ),
)  # fmt: skip

if __name__ == "__main__":
    main(STUDY)
