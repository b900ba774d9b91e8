"""Robust or private? Does adversarial training make training images easier to reconstruct?

    python studies/inversion_tradeoff.py

Sweeps the radius of adversarial training over accuracy, robust accuracy and the inversion leak: how much closer the images that
gradient ascent makes for each class are to members than to images that the network has never seen (0: no closer, 1: they are
members). The report shows reconstructions next to their nearest members, and the leak against the adversarial radius. The results
on photographs and MNIST are in studies/RESULTS.md.

The preset `paper` trains on the training file and evaluates on the test file in the confirmation step, as the paper does. The paper
keeps all 50,000 images of the training file for training. Here 46,000 are members: 2,000 are held out to compare members with, as
images of the test file are not drawn like them, and 2,000 are for the AC-GAN.
"""

from core.config import TrialConfig
from core.recipes import RECIPES
from core.space import Range, Uniform
from core.study import CONFIRM, PUBLISH, UNDEFENDED, Contrast, Objective, Preset, Study
from trainables.commands.study import main

DEV = TrialConfig.of({
    "dataset": "digits", "net": "convnet", "epochs": 50, "judge.epsilon": 0.1, "judge.inversion": "ascent",
    "judge.inversion_iterations": 300, "perturbation": "pgd", "perturbation.steps": 3, "perturbation.alpha": 0.5,
})  # fmt: skip
PAPER = TrialConfig.of({
    **RECIPES["pgd_at"], "dataset": "cifar10", "net": "wrn", "judge.epsilon": 8 / 255, "judge.images": 2000,
    "judge.inversion": "all", "judge.inversion_iterations": 10000, "perturbation.steps": 10,
    "split": "official", "split.val": 2000, "split.shadow": 2000,
})  # fmt: skip
"""CIFAR-10's training file, of which the inversion leak and the AC-GAN need 2,000 images each, and its test file."""


def objectives(classes: int) -> tuple[Objective, ...]:
    """Accuracy, robust accuracy, and the inversion leak."""
    return (
        Objective("accuracy", "max", reference=1 / classes, ideal=1.0),
        Objective("robust_accuracy", "max", reference=0.0, ideal=1.0),
        Objective("inversion_leak", "min", reference=1.0, ideal=0.0),
    )


def space(config: TrialConfig) -> dict[str, Range]:
    """Training radii from 0 to twice the radius of the evaluation (the paper trains with 10/255), and the share of clean images."""
    largest = 2 * config.judge.epsilon if config.judge.norm == "l2" else min(1.0, 2 * config.judge.epsilon)
    return {"perturbation.epsilon": Uniform(0.0, largest), "perturbation.alpha": Uniform(0.0, 1.0)}


STUDY = Study(
    name="inversion_tradeoff",
    question="Robust or private? Does adversarial training make training images easier to reconstruct?",
    presets={
        "dev": Preset(config=DEV, trials=16, confirm=CONFIRM, replicates=3),
        "paper": Preset(config=PAPER, trials=24, confirm=PUBLISH, replicates=5),
    },
    space=space,
    baselines={
        "undefended": UNDEFENDED,
        "adversarial training": {**UNDEFENDED, "perturbation": "pgd", "perturbation.epsilon": 0.1, "perturbation.alpha": 0.5},
    },
    objectives=objectives,
    contrasts=(
        Contrast(
            "Is adversarial training more robust than no defence?", "adversarial training", "undefended", "robust_accuracy"
        ),
        Contrast(
            "Are training images harder to reconstruct after adversarial training than without it?",
            "adversarial training", "undefended", "inversion_leak",
        ),
    ),
)  # fmt: skip

if __name__ == "__main__":
    main(STUDY)
