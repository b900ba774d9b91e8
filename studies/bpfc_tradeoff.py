"""How much robustness does training without adversarial images buy, and what does it do to accuracy and privacy?

    python studies/bpfc_tradeoff.py

Sweeps how many bits BPFC drops and how much it insists (k, lambda), against an undefended network and adversarial training.
"""

from core.config import CONFIRM, PUBLISH, Preset, Study, TrialConfig
from core.recipes import RECIPES
from core.regularizers import BPFC
from core.space import Range, ranges
from trainables.cli import main

DEV = TrialConfig.of({
    "dataset": "digits", "net": "convnet", "epochs": 50, "judge.epsilon": 0.1,
    "regularizer": "bpfc", "regularizer.growth": 3.0,
})  # fmt: skip
PAPER = TrialConfig.of({**RECIPES["bpfc"], "dataset": "cifar10", "judge.steps": 20, "judge.images": 2000})


def space(config: TrialConfig) -> dict[str, Range]:
    """The two knobs, over everything that 8-bit images allow."""
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
)  # fmt: skip

if __name__ == "__main__":
    main(STUDY)
