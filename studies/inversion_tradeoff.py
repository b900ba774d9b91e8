"""Robust or private? Does adversarial training make it easier to reconstruct training images from the weights?

    python studies/inversion_tradeoff.py

Sweeps the radius of adversarial training over accuracy, robust accuracy and the inversion leak: how much nearer the images that
gradient ascent makes of each class are to members than to images that the network has never seen (0: no nearer, 1: they are
members). The report shows reconstructions beside their nearest members, and the leak against the adversarial radius. What came
out on photographs and MNIST is in studies/RESULTS.md.
"""

from core.config import CONFIRM, PUBLISH, Objective, Preset, Study, TrialConfig
from core.recipes import RECIPES
from core.space import Range, Uniform
from trainables.cli import main

DEV = TrialConfig.of({
    "dataset": "digits", "net": "convnet", "epochs": 50, "judge.epsilon": 0.1, "judge.inversion": "ascent",
    "judge.inversion_iterations": 300, "perturbation": "pgd", "perturbation.steps": 3, "perturbation.alpha": 0.5,
})  # fmt: skip
PAPER = TrialConfig.of({
    **RECIPES["pgd_at"], "dataset": "cifar10", "net": "wrn", "judge.epsilon": 8 / 255, "judge.images": 2000,
    "judge.inversion": "all", "judge.inversion_iterations": 10000, "perturbation.steps": 10,
})  # fmt: skip


def objectives(classes: int) -> tuple[Objective, ...]:
    """Accuracy from chance up, robust accuracy from nothing up, the inversion leak down to none."""
    return (
        Objective("accuracy", "max", reference=1 / classes, ideal=1.0),
        Objective("robust_accuracy", "max", reference=0.0, ideal=1.0),
        Objective("inversion_leak", "min", reference=1.0, ideal=0.0),
    )


def space(config: TrialConfig) -> dict[str, Range]:
    """From ordinary training to twice the radius that the trial is judged at, as the paper's 0 to 16/255."""
    return {"perturbation.epsilon": Uniform(0.0, 2 * config.judge.epsilon), "perturbation.alpha": Uniform(0.0, 1.0)}


STUDY = Study(
    name="inversion_tradeoff",
    question="Robust or private? Does adversarial training make training images easier to reconstruct?",
    presets={
        "dev": Preset(config=DEV, trials=16, confirm=CONFIRM, replicates=3),
        "paper": Preset(config=PAPER, trials=24, confirm=PUBLISH, replicates=5),
    },
    space=space,
    baselines={
        "undefended": {"perturbation": "none"},
        "adversarial training": {"perturbation": "pgd", "perturbation.epsilon": 0.1, "perturbation.alpha": 0.5},
    },
    objectives=objectives,
)

if __name__ == "__main__":
    main(STUDY)
