"""Do sparse networks resist attacks better and explain themselves more stably, and what does sparsity cost?

    python studies/sparsity_tradeoff.py

Sweeps the elastic net's two weights over accuracy, robust accuracy, activation density (the share of hidden units that an image
turns on) and attribution stability (how far the heat maps of a larger and a smaller sliding patch are apart). The report shows heat
maps.
"""

from core.config import CONFIRM, PUBLISH, Objective, Preset, Study, TrialConfig
from core.recipes import RECIPES
from core.regularizers import ElasticNet
from core.space import Range, ranges
from trainables.cli import main

DEV = TrialConfig.of({
    "dataset": "digits", "net": "convnet", "epochs": 50, "judge.epsilon": 0.1, "regularizer": "elastic_net",
    "optimizer.weight_decay": 0.0, "judge.attribution": 30,
})  # fmt: skip
PAPER = TrialConfig.of({
    **RECIPES["elastic_net"], "dataset": "cifar10", "net": "vgg16", "judge.steps": 20, "judge.images": 2000,
    "judge.attribution": 1000,
})  # fmt: skip


def objectives(classes: int) -> tuple[Objective, ...]:
    """Accuracy from chance up, robust accuracy from nothing up, density from everything active down, and equal heat maps.

    These by rank correlation, which has the same ends on every image size; the paper's SSD is measured beside it.
    """
    return (
        Objective("accuracy", "max", reference=1 / classes, ideal=1.0),
        Objective("robust_accuracy", "max", reference=0.0, ideal=1.0),
        Objective("density", "min", reference=1.0, ideal=0.0),
        Objective("attribution_rank/patch", "max", reference=-1.0, ideal=1.0),
    )


def space(config: TrialConfig) -> dict[str, Range]:
    """Both weights, from nothing that matters to more than a network bears."""
    del config
    return ranges(ElasticNet, "regularizer.", only=("l1", "l2"))


STUDY = Study(
    name="sparsity_tradeoff",
    question="Do sparse networks resist attacks better and explain themselves more stably, and what does sparsity cost?",
    presets={
        "dev": Preset(config=DEV, trials=24, confirm=CONFIRM, replicates=3),
        "paper": Preset(config=PAPER, trials=40, confirm=PUBLISH, replicates=5, shadows=5),
    },
    space=space,
    baselines={
        "undefended": {"regularizer": "none"},
        "L1 alone": {"regularizer": "l1", "regularizer.l1": 1e-3},
        "L2 alone": {"regularizer": "l2", "regularizer.l2": 1e-3},
        "activation sparsity": {"regularizer": "activation_sparsity", "regularizer.lambda": 1e-4},
    },
    objectives=objectives,
)

if __name__ == "__main__":
    main(STUDY)
