"""A search space in which two components are searched."""

from core.space import Choice, IntRange, LogUniform, Switch, Uniform

LOSS = Switch({
    "cross_entropy": {},
    "relaxloss": {"loss.alpha": LogUniform(0.05, 3.0), "loss.upper": Uniform(0.5, 1.0)},
    "crl": {"loss.lambda": LogUniform(1e-3, 10.0), "loss.upper": Choice((0.25, 1.0))},
})  # fmt: skip
PERTURBATION = Switch({
    "none": {}, "pgd": {"perturbation.epsilon": Uniform(0.0, 0.1), "perturbation.steps": IntRange(1, 5)},
})  # fmt: skip
SPACE = {"loss": LOSS, "perturbation": PERTURBATION, "optimizer.lr": LogUniform(1e-3, 0.3)}
