"""Are sparse networks more robust, are their attributions more stable, and what does sparsity cost?

    python studies/sparsity_tradeoff.py

Sweeps both weights of the elastic net over accuracy, robust accuracy, activation density (the share of hidden units that an image
activates) and attribution stability (the agreement of the heat maps of a larger and a smaller occlusion patch). The report shows
heat maps.

The preset `paper` trains on 5,000 images and confirms on 500, as the paper's tables of accuracies do; its heat maps are of 1,000
validation images in the sweep, and of these 500 in the confirmation step. For conclusions, add `--set split.test=10000`.
"""

from core.config import TrialConfig
from core.recipes import RECIPES
from core.regularizers import ElasticNet
from core.search_space import ranges
from core.space import Range
from core.study import CONFIRM, PUBLISH, UNDEFENDED, Contrast, Objective, Preset, Study
from trainables.commands.study import main

DEV = TrialConfig.of({
    "dataset": "digits", "net": "convnet", "epochs": 50, "judge.epsilon": 0.1, "regularizer": "elastic_net",
    "optimizer.weight_decay": 0.0, "judge.attribution": 30,
})  # fmt: skip
PAPER = TrialConfig.of({
    **RECIPES["elastic_net"], "dataset": "cifar10", "net": "vgg16", "judge.steps": 20, "judge.images": 2000,
    "split.members": 5000, "split.val": 1000, "split.test": 500, "split.shadow": 10000, "judge.attribution": 1000,
})  # fmt: skip
"""The paper's 5,000 members and 500 test images, and as many validation images as its attribution maps are of."""


def objectives(classes: int) -> tuple[Objective, ...]:
    """Accuracy, robust accuracy, activation density, and attribution stability as the rank correlation of heat maps.

    Rank correlation has the same range for every image size; the paper's sum of squared differences is measured too.
    """
    return (
        Objective("accuracy", "max", reference=1 / classes, ideal=1.0),
        Objective("robust_accuracy", "max", reference=0.0, ideal=1.0),
        Objective("density", "min", reference=1.0, ideal=0.0),
        Objective("attribution_rank/patch", "max", reference=-1.0, ideal=1.0),
    )


def space(config: TrialConfig) -> dict[str, Range]:
    """Both weights, from a negligible effect to a network at chance."""
    del config
    return ranges(ElasticNet, "regularizer.", only=("l1", "l2"))


STUDY = Study(
    name="sparsity_tradeoff",
    question="Are sparse networks more robust, are their attributions more stable, and what does sparsity cost?",
    presets={
        "dev": Preset(config=DEV, trials=24, confirm=CONFIRM, replicates=3),
        "paper": Preset(config=PAPER, trials=40, confirm=PUBLISH, replicates=5, shadows=5),
    },
    space=space,
    baselines={
        "undefended": UNDEFENDED,
        "L1 alone": {**UNDEFENDED, "regularizer": "l1", "regularizer.l1": 1e-3},
        "L2 alone": {**UNDEFENDED, "regularizer": "l2", "regularizer.l2": 1e-3},
        "activation sparsity": {**UNDEFENDED, "regularizer": "activation_sparsity", "regularizer.lambda": 1e-4},
    },
    objectives=objectives,
    contrasts=(
        Contrast(
            "Is a sparse network more robust than a dense one, at the same accuracy?",
            {"regularizer": "elastic_net"}, "undefended", "robust_accuracy", matched="accuracy",
        ),
        Contrast(
            "Are the attributions of a sparse network more stable, at the same accuracy?",
            {"regularizer": "elastic_net"}, "undefended", "attribution_rank/patch", matched="accuracy",
        ),
        Contrast(
            "Does the elastic net activate fewer units than L1 alone, at the same accuracy?",
            {"regularizer": "elastic_net"}, "L1 alone", "density", matched="accuracy",
        ),
        Contrast(
            "Does the elastic net activate fewer units than a penalty on activations, at the same accuracy?",
            {"regularizer": "elastic_net"}, "activation sparsity", "density", matched="accuracy",
        ),
    ),
)  # fmt: skip

if __name__ == "__main__":
    main(STUDY)
