"""Sweeps without training: plans with search spaces, and results that are computed from the suggested parameters."""

from core.config import TrialConfig
from core.losses import CRL
from core.search_space import checked_space, ranges
from core.space import Choice, IntRange, LogUniform, Switch, Uniform
from core.study import trilemma
from trainables.search.reports import result_report
from trainables.search.samplers import SAMPLERS
from trainables.search.searcher import StudySearcher
from trainables.storage.store import Store
from trainables.study.plan import Plan
from trainables.study.results import TrainingResult

CONFIG = TrialConfig.of({"loss": "crl", "perturbation": "pgd"})
SPACE = ranges(CRL, "loss.", only=("alpha_rce", "lambda")) | {
    "perturbation.epsilon": Uniform(0.0, 0.1),
    "net.width": IntRange(4, 9),
    "perturbation.steps": Choice((3, 7)),
    "normalize": Choice((True, False)),
    "loss.upper": Choice((1, 0.5)),  # an integer among the options of a real knob
}
SIMPLE_SPACE = ranges(CRL, "loss.", only=("lambda",))
"""A space with one knob, for the Gaussian process, which otherwise takes seconds per suggestion."""
BASELINES = {"undefended": {"loss": "cross_entropy", "perturbation": "none"}, "CRL alone": {"perturbation": "none"}}
CONDITIONAL_SPACE = {
    "loss": Switch({
        "cross_entropy": {},
        "relaxloss": {"loss.alpha": LogUniform(0.05, 3.0), "loss.upper": Uniform(0.75, 1.0)},
        "crl": {"loss.lambda": LogUniform(1e-3, 10.0), "loss.upper": Choice((0.25, 0.5))},
    }),
    "perturbation": Switch({
        "none": {}, "fgsm": {"perturbation.epsilon": Uniform(0.0, 0.1)}, "pgd": {"perturbation.epsilon": Uniform(0.2, 0.3)},
    }),
    "regularizer": Switch({"none": {}, "rss": {}}),  # rss is legal with fgsm only: a third of all combinations are not
    "net.width": IntRange(4, 9),
}  # fmt: skip
CONDITIONAL_SAMPLERS = [name for name in SAMPLERS if name != "gp"]
"""Samplers that can search a conditional space."""
FIRST_LEARNED = {"tpe": 14, "gp": 16, "nsga2": 72, "random": 3}
"""The first trial whose suggestion depends on earlier trials, of which two in seven have no metrics."""


def plan(sampler: str = "random", trials: int = 10, seed: int = 0, **changes) -> Plan:
    """A plan with a space without switches and two baselines."""
    fields = {
        "name": "s-1", "study": "s", "question": "?", "config": CONFIG, "space": checked_space(CONFIG, SPACE),
        "objectives": trilemma(10), "baselines": BASELINES, "trials": trials, "sampler": sampler, "seed": seed, "confirm": {},
        "replicates": 0,
    }  # fmt: skip
    return Plan(**(fields | changes))


def conditional_plan(sampler: str = "random", trials: int = 10, seed: int = 0, **changes) -> Plan:
    """A plan with a conditional space, of which a third is illegal."""
    return plan(sampler, trials, seed, space=checked_space(CONFIG, CONDITIONAL_SPACE), **changes)


def is_illegal(params: dict) -> bool:
    """Whether a suggestion in `CONDITIONAL_SPACE` is an illegal combination of options."""
    return params["regularizer"] == "rss" and params["perturbation"] != "fgsm"


def metrics_of(params: dict) -> dict[str, float]:
    """Metrics that depend on the parameters; the three objectives conflict."""
    width = params["net.width"] / 10
    return {
        "accuracy": 0.2 + 0.7 * width - params.get("perturbation.epsilon", 0.0),
        "robust_accuracy": 0.1 + 3 * params.get("perturbation.epsilon", 0.0),
        "mia_auc": 0.5 + 0.1 * min(2, params.get("loss.lambda", 0.0)) + 0.1 * width,
    }


def result_of(suggestion: dict) -> TrainingResult:
    """The result of a suggestion: of seven consecutive trials, one fails and one is stopped early."""
    number = suggestion["number"]
    if number % 7 == 5:
        return TrainingResult(error="TrialError: not finite: train_loss")
    if number % 7 == 6:
        return TrainingResult(stopped_epoch=1)
    return TrainingResult(metrics=metrics_of(suggestion["params"]))


def measured(metrics: dict[str, float]) -> dict:
    """The report of a trial with these metrics."""
    return result_report(TrainingResult(metrics=metrics))


def end_trial(searcher: StudySearcher, store: Store, suggestion: dict, trial_id: str) -> None:
    """End a trial as a sweep does: store its result, then report it to the searcher."""
    result = result_of(suggestion)
    store.write_json(f"trials/{suggestion['number']:05d}/result.json", result.to_json())
    searcher.on_trial_complete(trial_id, result_report(result))


def sweep(searcher: StudySearcher, store: Store, count: int) -> list[dict]:
    """Run `count` trials, one after the other, and return their suggestions."""
    suggestions = []
    for _ in range(count):
        suggestion = searcher.suggest(trial_id := f"tune-{len(suggestions)}-{id(searcher)}")
        suggestions.append(suggestion)
        end_trial(searcher, store, suggestion, trial_id)
    return suggestions
