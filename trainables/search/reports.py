"""The reports that a trial sends to Ray Tune: epochs while it runs, its result, or an error that ends the whole sweep."""

from collections.abc import Mapping, Sequence
from typing import Any

from trainables.study.results import TrainingResult

_EPOCHS, _ENDED, _FATAL = "epochs", "ended", "fatal_error"


def epochs_report(rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Report new epochs of a running trial."""
    return {_EPOCHS: list(rows)}


def result_report(result: TrainingResult) -> dict[str, Any]:
    """Report the result of a trial, in a list: Ray Tune flattens nested dicts for schedulers and searchers, but not lists."""
    return {_ENDED: [result.to_json()]}


def fatal_report(reason: str) -> dict[str, Any]:
    """Report an error that affects all trials, such as storage that cannot be used; it is no result of the trial."""
    return {_FATAL: reason}


def reported_epochs(report: Mapping[str, Any]) -> list[dict[str, float]]:
    """The epochs in a report; empty if it is of another kind."""
    return report.get(_EPOCHS) or []


def reported_result(report: Mapping[str, Any]) -> TrainingResult | None:
    """The result in a report, or None if it is of another kind."""
    ended = report.get(_ENDED)
    return TrainingResult.of_json(ended[0]) if ended else None


def reported_fatal_error(report: Mapping[str, Any]) -> str:
    """The reason in a report of a fatal error; empty if it is of another kind."""
    return report.get(_FATAL, "")
