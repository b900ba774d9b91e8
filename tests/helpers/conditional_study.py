"""A study that searches two slots: some knobs exist only in some trials, and one name has two ranges.

See tests/trainables/runs/test_conditional_study.py.
"""

from core.config import TrialConfig
from core.losses import LOSSES
from core.perturbations import PERTURBATIONS
from core.search_space import switch
from core.space import Choice, LogUniform, Range, Uniform
from core.study import Preset, Study
from trainables.commands.study import main


def space(config: TrialConfig) -> dict[str, Range]:
    """Three losses, three perturbations, and a learning rate that all of them have."""
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


CONFIG = TrialConfig.of({"net.width": 2, "epochs": 10, "judge.steps": 2, "judge.epsilon": 0.1})
STUDY = Study(
    name="conditional_study",
    question="Which loss and which perturbation?",
    presets={"dev": Preset(config=CONFIG, trials=8, replicates=0)},
    space=space,
    baselines={"CRL by hand": {"loss": "crl", "loss.tau_rce": 0.1, "perturbation": "none"}},
)

if __name__ == "__main__":
    main(STUDY)
