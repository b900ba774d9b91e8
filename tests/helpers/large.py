"""An outcome written by hand with everything that a report can contain: a switch, flags, failures, confirmed points, and so on."""

import numpy as np
from confirming import confirmation, point

from core.space import LogUniform, Switch, Uniform
from core.stats import Interval
from core.study import trilemma
from trainables.reporting import gallery
from trainables.study.outcome import Confirmed, Leak, MLflowRefs, Outcome
from trainables.study.trial import Trial

EPSILON_MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Multiples of epsilon at which robust accuracy is given."""
SPACE = {
    "loss": Switch({"crl": {"loss.lambda": LogUniform(1e-3, 10)}, "relaxloss": {"loss.alpha": Uniform(0, 2)}}),
    "perturbation.epsilon": Uniform(0, 0.1),
    "optimizer.lr": LogUniform(1e-3, 1),
}


def outcome(count: int = 40) -> Outcome:
    """An outcome with `count` trials.

    Accuracy falls and robust accuracy rises with the radius of the perturbation; the AUC falls with CRL's lambda.
    """
    stream = np.random.default_rng(0)
    trials = [Trial(0, {"loss": "cross_entropy", "epochs": 30}, _metrics(0.95, 0.1, 0.75), baseline="undefended")]
    for number in range(1, count):
        radius, strength = float(stream.uniform(0, 0.1)), float(10 ** stream.uniform(-3, 1))
        crl = number % 3 > 0
        own = {"loss": "crl", "loss.lambda": strength} if crl else {"loss": "relaxloss", "loss.alpha": float(stream.uniform(0, 2))}
        params = {**own, "perturbation.epsilon": radius, "optimizer.lr": float(10 ** stream.uniform(-3, 0)), "epochs": 30}
        if number % 13 == 7:
            trials.append(Trial(number, params, error="TrialError: the loss is not finite"))
            continue
        noise = stream.normal(0, 0.01, 3)
        leak = 0.72 - (0.03 * (np.log10(strength) + 3) if crl else 0.02)
        metrics = _metrics(0.95 - 1.5 * radius + noise[0], 0.1 + 5 * radius + noise[1], leak + noise[2])
        if number % 11 == 5:
            metrics |= {"flag/zero_gradients": 1.0, "robust_accuracy": 0.9}
        if number % 9 == 4:
            metrics["flag/more_steps_help"] = 1.0
        trials.append(Trial(number, params, metrics))
    made = Outcome("made-1", "made", "Does a report hold all of this?", trilemma(10), SPACE, count, _facts(), trials)
    front = made.front()
    made.confirmation = confirmation([_confirmed(t, i % 4 != 3, stream) for i, t in enumerate(front)])
    made.pictures = {t.number: pictures(8) for t in front[:2]}
    runs = {t.number: f"{t.number:032x}" for t in trials}
    made.mlflow = MLflowRefs("https://someone:secret@mlflow.example/", "3", "p" * 32, runs)
    return made


def _metrics(accuracy: float, robust: float, auc: float) -> dict[str, float]:
    return {"accuracy": float(accuracy), "robust_accuracy": float(robust), "mia_auc": float(auc), "flag/few_non_members": 1.0}


def _facts() -> dict[str, str]:
    return {"command": "python studies/made.py", "commit": "0123456789ab", "versions": "torch 2.13", "hardware": "2 CPU cores"}


def _confirmed(trial: Trial, on_front: bool, stream: np.random.Generator) -> Confirmed:
    means = {name: trial.metrics[name] - 0.01 for name in ("accuracy", "robust_accuracy", "mia_auc")}
    grid = np.logspace(-3, 0, 30)
    leaks = {
        name: Leak(0.7 - 0.03 * i, Interval(0.66 - 0.03 * i, 0.74 - 0.03 * i)) for i, name in enumerate(("lira", "rmia", "loss"))
    }
    curves = {name: [(float(x), float(x ** (0.6 + 0.1 * i))) for x in grid] for i, name in enumerate(leaks)}
    over = {multiple: means["robust_accuracy"] / multiple**0.5 * 0.5 for multiple in EPSILON_MULTIPLES}
    return point(
        trial.number, means,
        probability=0.9 if on_front else 0.2, on_front=on_front, leaks=leaks, curves=curves,
        histogram={group: stream.integers(0, 50, 50).tolist() for group in ("members", "non_members")},
        over_epsilon={multiple: (v, Interval(v - 0.02, v + 0.02)) for multiple, v in over.items()},
    )  # fmt: skip


def pictures(count: int, channels: int = 3, side: int = 16) -> dict[str, np.ndarray]:
    """Arrays in the format of `core.evaluation.inspection`: reconstructions with their nearest members, and attribution maps."""
    stream = np.random.default_rng(count)
    shape = (count, channels, side, side)
    arrays: dict[str, np.ndarray] = {
        f"inversion/ascent/{key}": stream.integers(0, 255, shape, np.uint8) for key in ("images", "nearest")
    }
    arrays |= {f"inversion/ascent/{key}": stream.random(count) for key in ("cosine", "l2")}
    arrays["inversion/ascent/classes"] = np.arange(count) * 10 // count
    arrays |= {"attribution/images": stream.integers(0, 255, (3, *shape[1:]), np.uint8), "attribution/classes": np.arange(3)}
    return arrays | {f"attribution/maps/{name}": stream.random((3, side, side), np.float32) for name, _ in gallery.MAPS}
