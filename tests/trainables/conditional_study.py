"""A study of which fillings: two slots, knobs that only some fillings have, one name with two ranges. See test_conditional.py."""

from core.config import Preset, Study, TrialConfig
from core.losses import LOSSES
from core.perturbations import PERTURBATIONS
from core.space import Choice, LogUniform, Range, Uniform, switch
from trainables.cli import main


def space(config: TrialConfig) -> dict[str, Range]:
    """Three losses, three perturbations, and the learning rate of all."""
    return {
        "loss": switch("loss", LOSSES, only={"cross_entropy": (), "relaxloss": ("alpha",), "crl": ("alpha_rce", "lambda")}),
        "perturbation": switch(
            "perturbation", PERTURBATIONS, only={"none": (), "fgsm": ("epsilon",), "pgd": ("epsilon",)},
            limits={
                "fgsm": {"epsilon": Uniform(0.0, 0.05)},
                "pgd": {"epsilon": Uniform(0.05, config.judge.epsilon), "steps": Choice((1, 2))},
            },
        ),
        "optimizer.lr": LogUniform(0.01, 0.1),
    }  # fmt: skip


STUDY = Study(
    name="conditional_study",
    question="Which loss and which perturbation?",
    presets={
        "dev": Preset(
            config=TrialConfig.of({"net.width": 2, "epochs": 3, "judge.steps": 2, "judge.epsilon": 0.1}), trials=8, replicates=0
        )
    },
    space=space,
    baselines={"CRL by hand": {"loss": "crl", "loss.tau_rce": 0.1, "perturbation": "none"}},
)

if __name__ == "__main__":
    main(STUDY)
