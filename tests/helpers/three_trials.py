"""A small outcome: a baseline, a completed and a failed trial."""

from core.space import LogUniform
from core.study import trilemma
from trainables.study.outcome import Outcome
from trainables.study.trial import Trial


def metrics(accuracy: float, robust: float, auc: float, **more: float) -> dict[str, float]:
    """Metrics of a trial."""
    return {"accuracy": accuracy, "robust_accuracy": robust, "mia_auc": auc, **more}


TRIALS = [
    Trial(0, {"loss": "cross_entropy"}, metrics(0.9, 0.1, 0.7), baseline="undefended"),
    Trial(2, {"loss": "crl", "loss.lambda": 1 / 3}, error="TrialError: not finite: [train_loss]"),
    Trial(1, {"loss": "crl", "loss.lambda": 2.0}, metrics(2 / 3, 0.5, 0.55)),
]
"""Trials in the order in which they end."""


def outcome(*trials: Trial) -> Outcome:
    """The outcome of a study of six trials, of which these have ended."""
    return Outcome("crl-1", "crl", "Why?", trilemma(10), {"loss.lambda": LogUniform(0.1, 3)}, 6, trials=list(trials))
