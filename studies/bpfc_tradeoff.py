"""How much robustness does training without adversarial images buy, and at what accuracy and privacy?

    python studies/bpfc_tradeoff.py

Sweeps the number of bits that BPFC drops and the weight of its penalty (k, lambda), against an undefended network and adversarial
training.
"""

from core.config import TrialConfig
from core.recipes import RECIPES
from core.regularizers import BPFC
from core.search_space import ranges
from core.space import Range
from core.study import CONFIRM, PUBLISH, Contrast, Preset, Study
from trainables.commands.study import main

DEV = TrialConfig.of({
    "dataset": "digits", "net": "convnet", "epochs": 50, "judge.epsilon": 0.1,
    "regularizer": "bpfc", "regularizer.growth": 3.0,
})  # fmt: skip
PAPER = TrialConfig.of({**RECIPES["bpfc"], "dataset": "cifar10", "judge.steps": 20, "judge.images": 2000})


def space(config: TrialConfig) -> dict[str, Range]:
    """Both knobs, over the full range of 8-bit images."""
    del config
    return ranges(BPFC, "regularizer.", only=("k", "lambda"))


STUDY = Study(
    name="bpfc_tradeoff",
    question="How much robustness does training without adversarial images buy, and at what accuracy and privacy?",
    presets={
        "dev": Preset(config=DEV, trials=20, confirm=CONFIRM, replicates=3),
        "paper": Preset(config=PAPER, trials=40, confirm=PUBLISH, replicates=5, shadows=5),
    },
    space=space,
    baselines={
        "undefended": {"regularizer": "none"},
        "adversarial training": {
            "regularizer": "none", "perturbation": "pgd", "perturbation.epsilon": 0.1, "perturbation.alpha": 0.5,
        },
        "without noise (A1)": {"regularizer.noise": 0.0},
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
