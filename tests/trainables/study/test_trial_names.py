"""Names of trials, the same in MLflow and in the report."""

import pytest

from core.config import TrialConfig
from core.losses import CRL, LOSSES
from core.optimizers import OPTIMIZERS
from core.perturbations import PERTURBATIONS
from core.regularizers import BPFC
from core.search_space import ranges, switch
from core.space import LogUniform, Range, Uniform, Value
from trainables.study.outcome import Outcome
from trainables.study.trial import Trial
from trainables.study.trial_names import described, trial_name

CRL_SPACE = {**ranges(CRL, "loss.", only=("alpha_rce", "lambda")), "perturbation.epsilon": Uniform(0.0, 0.1)}
BPFC_SPACE = ranges(BPFC, "regularizer.", only=("k", "lambda", "growth"))
LR = {"optimizer.lr": LogUniform(1e-3, 1.0)}
SLOTS = {
    "loss": switch("loss", LOSSES, only={"crl": ("lambda",), "label_smoothing": ("epsilon",), "cross_entropy": ()}),
    "perturbation": switch("perturbation", PERTURBATIONS, only={"none": (), "pgd": ("epsilon",)}),
    "optimizer": switch("optimizer", OPTIMIZERS, only={"sgd": ("lr",), "adam": ("stop_at",)}),
}


@pytest.mark.parametrize(
    ("changes", "space", "words"),
    [
        ({"loss": "crl", "perturbation": "pgd", "perturbation.epsilon": 0.08}, CRL_SPACE, "crl + pgd 0.08"),
        ({"loss": "crl", "loss.lambda": 0.5}, CRL_SPACE, "crl alpha_rce=0.5 lambda=0.5"),
        ({"perturbation": "fgsm", "perturbation.epsilon": 8 / 255}, CRL_SPACE, "fgsm 0.0314"),
        ({"perturbation": "gat"}, ranges(PERTURBATIONS["gat"], "perturbation.", only=("c_g", "k")), "gat c_g=1 k=1"),
        ({"regularizer": "bpfc", "regularizer.lambda": 12.34}, BPFC_SPACE, "bpfc k=5 lambda=12.3"),
        # a radius that is not searched tells nothing; the first knobs of two components tell more than two knobs of one
        ({"loss": "crl", "regularizer": "bpfc", "perturbation": "noise"},
         {**ranges(CRL, "loss.", only=("lambda", "tau_rcl")), **BPFC_SPACE}, "crl lambda=0.1 + noise 0.0314 + bpfc k=5"),
        ({}, LR, "cross_entropy, optimizer.lr=0.05"),
        ({"loss": "crl"}, {**LR, "epochs": Uniform(1, 9), "net.width": Uniform(1, 9)}, "crl, optimizer.lr=0.05, epochs=30"),
        # searched slots
        ({"loss": "label_smoothing", "perturbation": "pgd"}, SLOTS, "label_smoothing + pgd 0.0314 + sgd"),
        ({"loss": "label_smoothing", "optimizer": "adam"}, SLOTS, "label_smoothing epsilon=0.1 + adam stop_at=1"),
        ({}, {"loss": SLOTS["loss"], "perturbation": SLOTS["perturbation"]}, "cross_entropy"),
    ],
)  # fmt: skip
def test_a_name_has_the_components_and_the_most_telling_searched_values(
    changes: dict[str, Value], space: dict[str, Range], words: str
):
    params = TrialConfig.of(changes).params()
    assert trial_name(18, params, "", space, 40) == f"018 {words}"
    assert described(Trial(18, params), Outcome("n", "s", "?", (), space, 40)) == f"018 {words}"


def test_a_baseline_has_its_own_name_and_large_studies_have_wider_numbers():
    params = TrialConfig.of({"loss": "crl"}).params()
    assert trial_name(0, params, "undefended", CRL_SPACE, 20) == "000 undefended"
    assert [trial_name(7, params, "a", {}, trials) for trials in (1, 1000, 1001)] == ["007 a", "007 a", "0007 a"]


def test_a_name_has_at_most_sixty_characters():
    name = trial_name(7, {}, "x" * 80, {}, 20)
    assert len(name) == 60 and name.startswith("007 xxx") and name.endswith("x\N{HORIZONTAL ELLIPSIS}")
