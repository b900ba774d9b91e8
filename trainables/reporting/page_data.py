"""The JSON data of the page's script: everything that a click on a trial shows."""

import json
import math
from typing import Any

from core.redaction import HIDDEN, redacted
from trainables.study.outcome import Confirmed, MLflowRefs, Outcome
from trainables.study.text import columns, knee, label
from trainables.study.tracking_uri import ui_command
from trainables.study.trial import Trial
from trainables.study.trial_state import TrialState

LOCAL = "http://127.0.0.1:5000"
"""Default address of `mlflow ui`."""


def page_data(outcome: Outcome) -> str:
    """The data for a script element; the text cannot end the element."""
    front, balanced = {t.number for t in outcome.front()}, knee(outcome)
    differing = list(dict.fromkeys([*columns(outcome), *sorted(outcome.columns(), key=lambda name: name == "seed")]))
    first = outcome.trials[0].params if outcome.trials else {}
    shared = {name: value for name, value in first.items() if name not in differing}
    confirmed = {c.number: c for c in outcome.confirmed}
    data = {
        "objectives": [{"metric": o.metric, "label": label(o)} for o in outcome.objectives],
        "columns": differing,
        "shared": shared,
        "mlflow": _mlflow(outcome.mlflow),
        "trials": {
            t.number: {
                "name": t.baseline,
                "status": status(t, front),
                "knee": balanced is not None and t.number == balanced.number,
                "error": t.error, "flags": t.flags, "metrics": t.metrics,
                "params": {name: value for name, value in t.params.items() if name not in shared},
                "run": outcome.mlflow.runs.get(t.number, ""),
                "confirmed": _confirmed(confirmed[t.number]) if t.number in confirmed else None,
            }
            for t in outcome.trials
        },
    }  # fmt: skip
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def status(trial: Trial, front: set[int]) -> str:
    """The status of a trial in one word: `front`, `excluded`, or its state."""
    if trial.state is not TrialState.COMPLETED:
        return trial.state.value
    return "front" if trial.number in front else "excluded" if trial.excluded else "completed"


def _confirmed(point: Confirmed) -> dict[str, Any]:
    intervals = {name: list(interval) if math.isfinite(sum(interval)) else None for name, interval in point.intervals.items()}
    return {"means": point.means, "intervals": intervals, "replicates": point.replicates, "stays": point.on_front,
            "probability": point.probability}  # fmt: skip


def _mlflow(refs: MLflowRefs) -> dict[str, str]:
    """The address of the runs, and for a database the command that shows them, without passwords."""
    if not refs.uri or not refs.experiment:
        return {}
    server = refs.uri.startswith("http")
    home = redacted(refs.uri).replace(f"://{HIDDEN}@", "://").rstrip("/") if server else LOCAL
    command = "" if server else ui_command(refs.uri)
    return {"runs": f"{home}/#/experiments/{refs.experiment}/runs", "command": command, "parent": refs.parent}
