"""A study whose confirmed points have known true values, aggregated by the real code from synthetic evidence."""

from dataclasses import replace
from functools import cache

import numpy as np
from confirming import THRESHOLDS, evidence
from scipy.stats import norm

from core.config import TrialConfig
from core.space import LogUniform, Uniform
from core.study import Constraint, Contrast, trilemma
from trainables.study.contrasts import answer
from trainables.study.outcome import Outcome
from trainables.study.plan import Plan
from trainables.study.replicates import Replicate
from trainables.study.results import NetworkResult
from trainables.study.trial import Trial
from trainables.study.verdicts import confirmation

UNDEFENDED, CRL, ADVERSARIAL, BOTH, TWIN = range(5)
"""Numbers of the trials: three baselines, CRL with adversarial training, and a trial with the same true values."""
TRUTH = {
    UNDEFENDED: (0.95, 0.10, 0.80), CRL: (0.93, 0.12, 0.60), ADVERSARIAL: (0.80, 0.55, 0.80), BOTH: (0.86, 0.50, 0.58),
    TWIN: (0.86, 0.50, 0.58),
}  # fmt: skip
"""True accuracy, robust accuracy and AUC of the audit by siblings, by trial."""
BASELINES = {
    "undefended": {"loss": "cross_entropy", "perturbation": "none"},
    "CRL alone": {"loss": "crl", "perturbation": "none"},
    "adversarial training alone": {"loss": "cross_entropy", "perturbation": "pgd", "perturbation.epsilon": 0.1},
}
LESS_LEAK = Contrast("Does CRL lower the leak?", "CRL alone", "undefended", "mia_auc")
MORE_ACCURACY = Contrast("Does adversarial training raise the accuracy?", "adversarial training alone", "undefended", "accuracy")
LESS_LEAK_OF_ADVERSARIAL = Contrast(
    "Does adversarial training lower the leak?", "adversarial training alone", "undefended", "mia_auc"
)
MATCHED = Contrast(
    "Does CRL lower the leak of adversarial training?", {"loss": "crl", "perturbation": "pgd"}, "adversarial training alone",
    "mia_auc", matched="robust_accuracy",
)  # fmt: skip
SPACE = {"loss.lambda": LogUniform(1e-3, 10), "perturbation.epsilon": Uniform(0, 0.1)}
FACTS = {
    "command": "python studies/crl.py --trials 5", "commit": "0123456789ab", "hardware": "2 CPU cores",
    "data": "2,000 images of 8x8 grey in 10 classes, no exact copies", "parts": "500 members",
    "confirmation attacks": "fgsm, pgd",
}  # fmt: skip


@cache
def outcome(
    replicates: int = 3, require: tuple[str, ...] = (), contrasts=(LESS_LEAK, MORE_ACCURACY, LESS_LEAK_OF_ADVERSARIAL)
) -> Outcome:
    """The outcome of the study; without replicates nothing is confirmed."""
    base = TrialConfig.of({"dataset": "digits", "judge.epsilon": 0.1, "loss": "crl", "perturbation": "pgd"})
    sampled = [{"loss.lambda": 0.5, "perturbation.epsilon": 0.08}, {"loss.lambda": 0.6, "perturbation.epsilon": 0.07}]
    changes = [*BASELINES.values(), *sampled]
    names = [*BASELINES, "", ""]
    trials = [
        Trial(n, base.set(changes[n]).params(), _sweep_metrics(TRUTH[n]), baseline=names[n])
        for n in TRUTH
    ]  # fmt: skip
    made = Outcome(
        "crl-1", "crl", "What does privacy cost?", trilemma(10), SPACE, 5, dict(FACTS), trials,
        require=tuple(Constraint.of(text) for text in require),
    )  # fmt: skip
    plan = Plan(
        name=made.name, study=made.study, question=made.question, config=base, space=SPACE, objectives=tuple(made.objectives),
        baselines=BASELINES, trials=5, seed=0, sampler="gp", confirm={}, replicates=replicates, require=tuple(made.require),
        contrasts=tuple(contrasts),
    )  # fmt: skip
    found = {(n, r): _replicate(n, r, TRUTH[n]) for n in TRUTH for r in range(1, replicates + 1)}
    if found:
        made.confirmation = confirmation(plan, trials, [t.number for t in made.front()], found)
    return made


def matched() -> Outcome:
    """The study with an answer to the contrast `MATCHED` only."""
    made = outcome()
    assert made.confirmation
    found = answer(MATCHED, made.objectives, made.confirmation.estimates, BOTH, ADVERSARIAL)
    return replace(made, confirmation=replace(made.confirmation, contrasts=(found,)))


def _sweep_metrics(true: tuple[float, float, float]) -> dict[str, float]:
    accuracy, robust, auc = true
    metrics = {"accuracy": accuracy, "robust_accuracy": robust, "mia_auc": 0.5 + (auc - 0.5) / 2, "mia_auc_chance": 0.545}
    metrics |= {f"mia_auc/{name}": metrics["mia_auc"] for name in THRESHOLDS}
    metrics |= {f"robust_accuracy/{name}": robust for name in ("fgsm", "pgd")}
    return metrics | {"seconds/train": 30.0, "flag/few_non_members": 1.0}


def _replicate(number: int, replicate: int, true: tuple[float, float, float]) -> Replicate:
    """A replicate whose threshold audits see half of the leak that the audit by siblings sees."""
    accuracy, robust, auc = true
    seed = 100 * number + replicate
    arrays = evidence(seed, accuracy, robust, np.sqrt(2) * norm.ppf(0.5 + (auc - 0.5) / 2), members_seed=replicate)
    rows, member = arrays["own/rows"], arrays["own/member"]
    score = np.random.default_rng([seed, 3]).normal(size=len(rows)) + np.sqrt(2) * norm.ppf(auc) * member
    arrays |= {"auditor/rows": rows, "auditor/member": member, "auditor/lira": score}
    return Replicate.of(NetworkResult(metrics={}, seconds=60.0), arrays)
