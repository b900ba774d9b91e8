"""Typed results of trainings, audits and networks."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import mean, stdev
from typing import Any

from trainables.study.trial_state import TrialState

LATEST_WINS = (
    "flag/more_steps_help", "flag/audit_is_blind", "flag/audit_is_biased", "flag/audit_lacks_models", "flag/auc_below_half",
    "flag/leak_not_resolved",
)  # fmt: skip
"""Flags about the evaluation rather than the network: a later evaluation replaces the earlier verdict."""


def merged(known: Mapping[str, float], update: Mapping[str, float]) -> dict[str, float]:
    """Metrics of a network after a further evaluation.

    New values replace old ones. Flags accumulate, because a stronger attack that shows no sign of gradient masking does not refute
    the sign that a weaker attack has found on the same network. Flags in `LATEST_WINS` concern the evaluation itself (an attack
    had not converged, an audit was unsound, an AUC was below half or at its chance level), so their latest value counts.
    """
    flags = {name for name in update if name.startswith("flag/") and name not in LATEST_WINS}
    return {**known, **update, **{name: max(known.get(name, 0.0), update[name]) for name in flags}}


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """Result of training and evaluating one network, or the mean over several seeds."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    """Metrics by name; empty if the training failed or was stopped early."""
    curve: Sequence[Mapping[str, float]] = field(default_factory=list)
    """One row per epoch, `epoch` and `epoch/...`."""
    error: str = ""
    """Reason of a failure, one line; empty if there was none."""
    seconds: float = 0.0
    """Wall-clock time of training and evaluation."""
    reused_from: str = ""
    """Folder of the training that the result was copied from; empty if the network was trained for this result."""
    stopped_epoch: int = 0
    """Epoch after which the training was stopped early; 0 if it was not."""
    key: str = ""
    """Key of training and evaluation in the cache; empty for a mean over seeds, and for a trial that could not write its result."""
    outputs_key: str = ""
    """Key of the outputs for the pool in the cache; empty if there are none."""

    @property
    def state(self) -> TrialState:
        """Final state of a trial with this result."""
        return TrialState.of_result(self.error, self.stopped_epoch)

    def to_json(self) -> dict[str, Any]:
        """Convert the result to plain data."""
        return asdict(self)

    @classmethod
    def of_json(cls, plain: Mapping[str, Any]) -> "TrainingResult":
        """Restore a result from `to_json`."""
        return cls(**plain)


@dataclass(frozen=True, kw_only=True)
class StoredTraining:
    """Record of a trained network, whatever it is evaluated with."""

    key: str
    """Key of the training in the cache."""
    curve: Sequence[Mapping[str, float]]
    """One row per epoch, `epoch` and `epoch/...`; at the rungs of its own study also `rung/...`."""
    seconds: float
    """Wall-clock time of the training."""
    reused_from: str = ""
    """Folder that the network was copied from; empty if it was trained here."""
    outputs_key: str = ""
    """Key of the outputs that were copied with it; empty if there are none."""

    def reused(self, folder: str, outputs_key: str) -> "StoredTraining":
        """The record of a copy of the network; interim evaluations, which depend on the settings of the evaluation, are removed."""
        curve = [{name: value for name, value in row.items() if not name.startswith("rung/")} for row in self.curve]
        return replace(self, curve=curve, reused_from=folder, outputs_key=outputs_key)

    def to_json(self) -> dict[str, Any]:
        """Convert the record to plain data."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class AuditResult:
    """Result of auditing or re-evaluating one stored network."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    """New metrics by name; empty if the evaluation failed."""
    error: str = ""
    """Reason of a failure, one line; empty if there was none."""
    seconds: float = 0.0
    """Wall-clock time of the evaluation."""
    curves: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    """ROC curves of audits: true-positive rates at `trainables.study.verdicts.ROC_GRID`, None where they are not resolved."""
    histogram: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Counts of `members` and `non_members` by confidence, in equal parts of [0, 1]."""
    fingerprint: str = ""
    """Identity of the audited network, of the networks that audited it, and of the code."""
    incomplete: bool = False
    """Whether some networks that the evaluation needs were missing, so that it is to be repeated."""

    @property
    def complete(self) -> bool:
        """Whether the evaluation succeeded and needs no repetition."""
        return not self.error and not self.incomplete

    def to_json(self) -> dict[str, Any]:
        """Convert the result to plain data."""
        return asdict(self)

    @classmethod
    def of_json(cls, plain: Mapping[str, Any]) -> "AuditResult":
        """Restore a result from `to_json`."""
        return cls(**plain)


@dataclass(frozen=True, kw_only=True)
class MeasurementResult:
    """Result of a measurement on trained networks that a table or figure of a paper needs."""

    values: Mapping[str, float | Sequence[float]] = field(default_factory=dict)
    """Numbers and series by name; empty if the measurement failed."""
    error: str = ""
    """Reason of a failure, one line; empty if there was none."""
    seconds: float = 0.0
    """Wall-clock time of the measurement."""
    key: str = ""
    """Key of the measurement; see `trainables.storage.content.Content.measurement_key`."""

    def to_json(self) -> dict[str, Any]:
        """Convert the result to plain data."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class NetworkResult:
    """Metrics of one stored network after its training and all later audits and re-evaluations."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    """Metrics by name; empty if the network failed or could not be evaluated."""
    error: str = ""
    """Reason of a failure, one line; empty if there was none."""
    measured: tuple[str, ...] = ()
    """Names of the metrics that the latest re-evaluation measured."""
    curves: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    """ROC curves by audit; see `AuditResult.curves`."""
    histogram: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Histogram of confidence; see `AuditResult.histogram`."""
    seconds: float = 0.0
    """Wall-clock time of training, evaluation and the audit of the confirmation step."""

    @classmethod
    def of(cls, training: TrainingResult) -> "NetworkResult":
        """The result of a network before any audit."""
        return cls(metrics=training.metrics, error=training.error, seconds=training.seconds)

    def audited(self, audit: AuditResult | None) -> "NetworkResult":
        """Add the audit of the confirmation step. A network that could not be audited counts as failed: its AUC is not comparable.

        None means that no audit was requested.
        """
        if audit is None or self.error:
            return self
        if audit.error:
            return NetworkResult(error=f"audit: {audit.error}")
        metrics = merged(self.metrics, audit.metrics)
        seconds = self.seconds + audit.seconds
        return replace(self, metrics=metrics, curves=audit.curves, histogram=audit.histogram, seconds=seconds)

    def reevaluated(self, result: AuditResult | None, version: int) -> "NetworkResult":
        """Add the re-evaluation for a version of the front; None means that it is missing.

        Networks that failed before are not re-evaluated. A network that could not be re-evaluated counts as failed from this
        version on, since its metrics are not comparable with those of networks that met more attacks or audits.
        """
        if self.error:
            return replace(self, measured=())
        result = result or AuditResult(error="not re-evaluated")
        if result.error:
            return NetworkResult(error=f"in version {version}: {result.error}")
        return NetworkResult(
            metrics=merged(self.metrics, result.metrics), measured=tuple(result.metrics),
            curves={**self.curves, **result.curves}, histogram={**self.histogram, **result.histogram}, seconds=self.seconds,
        )  # fmt: skip


def mean_metrics(metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Metrics of a configuration from those of its seeds.

    The mean of every metric that all seeds have, the worst value of flags, and `sd/<metric>`, the standard deviation of metrics
    whose name has no prefix. The leak is not resolved if the mean AUC is not above the mean chance level. A single seed's metrics
    are unchanged.
    """
    if len(metrics) == 1:
        return dict(metrics[0])
    common = [name for name in metrics[0] if all(name in own for own in metrics)]
    values = {name: [own[name] for own in metrics] for name in common}
    means = {name: max(v) if name.startswith("flag/") else mean(v) for name, v in values.items()}
    if "mia_auc_chance" in means:
        means["flag/leak_not_resolved"] = float(means["mia_auc"] <= means["mia_auc_chance"])
    return means | {f"sd/{name}": stdev(v) for name, v in values.items() if "/" not in name}


def seed_errors(errors: Sequence[str]) -> str:
    """The error of a configuration from those of its seeds; empty if no seed failed.

    One failed seed fails the configuration, because a mean over the remaining seeds would measure something else.
    """
    if len(errors) == 1:
        return errors[0]
    return "; ".join(f"seed {i}: {error}" for i, error in enumerate(errors, 1) if error)


def averaged(results: Sequence[TrainingResult]) -> TrainingResult:
    """The result of a configuration from those of its seeds; its curve is that of the first seed."""
    if len(results) == 1:
        return results[0]
    error = seed_errors([result.error for result in results])
    return TrainingResult(
        metrics={} if error else mean_metrics([result.metrics for result in results]), curve=results[0].curve, error=error,
        seconds=sum(result.seconds for result in results),
        reused_from=results[0].reused_from if all(result.reused_from for result in results) else "",
    )  # fmt: skip
