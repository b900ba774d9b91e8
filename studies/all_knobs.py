"""Which loss, which perturbation and which regularizer, and how strong?

    python studies/all_knobs.py

Searches a conditional space: a knob is searched only in trials with the component that has it. Incompatible combinations, such as
RSS without FGSM images, are never run. The default sampler is TPE, which models such spaces.
"""

from core.config import TrialConfig
from core.losses import LOSSES
from core.perturbations import PERTURBATIONS
from core.recipes import RECIPES
from core.regularizers import REGULARIZERS
from core.search_space import switch
from core.space import Choice, LogUniform, Range, Uniform
from core.study import CONFIRM, PUBLISH, UNDEFENDED, Contrast, Preset, Study
from trainables.commands.study import main

DEV = TrialConfig.of({"dataset": "digits", "net": "convnet", "epochs": 40, "judge.epsilon": 0.1})
PAPER = TrialConfig.of({
    **RECIPES["cross_entropy"], "dataset": "cifar10", "net": "resnet18", "augmentation": "crop_flip",
    "judge.steps": 20, "judge.images": 2000,
})  # fmt: skip


def space(config: TrialConfig) -> dict[str, Range]:
    """Three switched slots, with radii up to that of the evaluation and few attack steps, so that a sweep is affordable."""
    radius, l2 = Uniform(0.0, config.judge.epsilon), config.judge.norm == "l2"
    norm: dict[str, Range] = {"norm": Choice(("l2",))} if l2 else {}
    linf_only = {} if l2 else {"rfgsm": ("epsilon", "random_share")}
    return {
        "loss": switch("loss", LOSSES, only={
            "cross_entropy": (), "label_smoothing": (), "confidence_penalty": (), "relaxloss": ("alpha",),
            "centre_loss": ("lambda", "alpha_rcl"), "crl": ("alpha_rce", "lambda", "alpha_rcl", "tau_rcl"),
            "dmp": ("reference", "temperature"),
        }),
        "perturbation": switch("perturbation", PERTURBATIONS, only={
            "none": (), "noise": ("epsilon",), "fgsm": ("epsilon",), **linf_only,
            "pgd": ("epsilon", "steps"), "gat": ("c_g", "k", "alpha"),
        }, limits={
            "noise": {"epsilon": radius, **norm}, "fgsm": {"epsilon": radius, **norm},
            **({} if l2 else {"rfgsm": {"epsilon": radius}}),
            "pgd": {"epsilon": radius, **norm, "steps": Choice((2, 3, 5)), "alpha": Uniform(0.0, 1.0)},
            "gat": {"lr_g": LogUniform(1e-5, 1e-3), "delta_scale": Choice(("batch_std",)), "width": Choice((16,))},
        }),
        "regularizer": switch("regularizer", REGULARIZERS, only={
            "none": (), "bpfc": ("k", "lambda", "growth"), "elastic_net": ("l1", "l2"), "activation_sparsity": ("lambda",),
            "rss": ("lambda",), "advreg": ("alpha", "reference"),
        }),
    }  # fmt: skip


STUDY = Study(
    name="all_knobs",
    question="Which loss, which perturbation and which regularizer, and how strong?",
    presets={
        "dev": Preset(config=DEV, trials=40, confirm=CONFIRM, replicates=3),
        "paper": Preset(config=PAPER, trials=300, confirm=PUBLISH, replicates=5, shadows=5),
    },
    space=space,
    baselines={
        "undefended": UNDEFENDED,
        "adversarial training": {**UNDEFENDED, "perturbation": "pgd", "perturbation.epsilon": 0.1, "perturbation.alpha": 0.5},
        "CRL": {**UNDEFENDED, "loss": "crl"},
        "BPFC": {**UNDEFENDED, "regularizer": "bpfc", "regularizer.growth": 3.0},
    },
    contrasts=(
        Contrast("Does CRL leak less than no defence?", "CRL", "undefended", "mia_auc"),
        Contrast("Is adversarial training more robust than no defence?", "adversarial training", "undefended", "robust_accuracy"),
        Contrast("Does adversarial training leak less than no defence?", "adversarial training", "undefended", "mia_auc"),
        Contrast("Is BPFC more robust than no defence?", "BPFC", "undefended", "robust_accuracy"),
        Contrast("Does BPFC leak less than no defence?", "BPFC", "undefended", "mia_auc"),
        Contrast("Is BPFC more robust than adversarial training?", "BPFC", "adversarial training", "robust_accuracy"),
    ),
)

if __name__ == "__main__":
    main(STUDY)
