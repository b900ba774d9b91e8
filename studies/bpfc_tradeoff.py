"""How much robustness does training without adversarial images buy, and at what accuracy and privacy?

    python studies/bpfc_tradeoff.py

Sweeps the number of bits that BPFC drops and the weight of its penalty (k, lambda), against an undefended network and adversarial
training.

The preset `paper` splits the images as the paper does: 10,000 images of the training file are for validation, the others are
members, and the confirmation step evaluates on the test file. Audits compare members with the validation images, because the test
file is another sample. This leaves no images for shadow models: for them, add `--shadows 5 --set split.shadow=20000`.
"""

from core.config import TrialConfig
from core.recipes import RECIPES
from core.regularizers import BPFC
from core.search_space import ranges
from core.space import Range
from core.study import CONFIRM, PUBLISH, UNDEFENDED, Contrast, Preset, Study
from trainables.commands.study import main

DEV = TrialConfig.of({
    "dataset": "digits", "net": "convnet", "epochs": 50, "judge.epsilon": 0.1,
    "regularizer": "bpfc", "regularizer.growth": 3.0,
})  # fmt: skip
PAPER = TrialConfig.of({
    **RECIPES["bpfc"], "dataset": "cifar10", "split": "official", "split.val": 10000, "judge.steps": 20, "judge.images": 2000,
})  # fmt: skip
"""The paper's 40,000 members and 10,000 validation images of the training file, on CIFAR-10; 50,000 members on both MNIST sets."""


def space(config: TrialConfig) -> dict[str, Range]:
    """Both knobs, over the full range of 8-bit images."""
    del config
    return ranges(BPFC, "regularizer.", only=("k", "lambda"))


STUDY = Study(
    name="bpfc_tradeoff",
    question="How much robustness does training without adversarial images buy, and at what accuracy and privacy?",
    presets={
        "dev": Preset(config=DEV, trials=20, confirm=CONFIRM, replicates=3),
        "paper": Preset(config=PAPER, trials=40, confirm=PUBLISH, replicates=5),
    },
    space=space,
    baselines={
        "undefended": UNDEFENDED,
        "adversarial training": {
            **UNDEFENDED, "perturbation": "pgd", "perturbation.epsilon": 0.1, "perturbation.alpha": 0.5,
        },
        "without noise (A1)": {**UNDEFENDED, "regularizer": "bpfc", "regularizer.noise": 0.0},
    },
    contrasts=(
        Contrast(
            "Is BPFC more robust than no defence, at the same accuracy?",
            {"regularizer": "bpfc", "regularizer.noise": 1.0}, "undefended", "robust_accuracy", matched="accuracy",
        ),
        Contrast(
            "Is BPFC more robust than adversarial training, at the same accuracy?",
            {"regularizer": "bpfc", "regularizer.noise": 1.0}, "adversarial training", "robust_accuracy", matched="accuracy",
        ),
        Contrast(
            "Does BPFC leak less than adversarial training of the same robust accuracy?",
            {"regularizer": "bpfc", "regularizer.noise": 1.0}, "adversarial training", "mia_auc", matched="robust_accuracy",
        ),
        Contrast("Does adversarial training leak less than no defence?", "adversarial training", "undefended", "mia_auc"),
    ),
)  # fmt: skip

if __name__ == "__main__":
    main(STUDY)
