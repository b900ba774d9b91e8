"""The JSON data of the page's script: everything that a click on a trial shows."""

import json
import math
from typing import Any

from trainables.study.mlflow_pages import run_page, trials_page
from trainables.study.outcome import Confirmed, Outcome
from trainables.study.text import columns, knee, label
from trainables.study.tracking_uri import ui_command
from trainables.study.trial import Trial
from trainables.study.trial_names import described
from trainables.study.trial_state import TrialState


def page_data(outcome: Outcome) -> str:
    """The data for a script element; the text cannot end the element."""
    front, balanced = {t.number for t in outcome.front()}, knee(outcome)
    differing = list(dict.fromkeys([*columns(outcome), *sorted(outcome.columns(), key=lambda name: name == "seed")]))
    first = outcome.trials[0].params if outcome.trials else {}
    shared = {name: value for name, value in first.items() if name not in differing}
    confirmed = {c.number: c for c in outcome.confirmed}
    runs = outcome.mlflow.runs
    data = {
        "objectives": [{"metric": o.metric, "label": label(o)} for o in outcome.objectives],
        "columns": differing,
        "shared": shared,
        "mlflow": mlflow_links(outcome),
        "trials": {
            t.number: {
                "name": described(t, outcome),
                "status": status(t, front),
                "knee": balanced is not None and t.number == balanced.number,
                "error": t.error, "flags": t.flags, "metrics": t.metrics,
                "params": {name: value for name, value in t.params.items() if name not in shared},
                "run": runs.get(t.number, ""),
                "link": run_page(outcome.mlflow, runs[t.number]) if t.number in runs else "",
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


def mlflow_links(outcome: Outcome) -> dict[str, str]:
    """The pages of the trials in MLflow, and for a database the command that shows them, without passwords; empty if unknown."""
    refs = outcome.mlflow
    if not refs.uri or not refs.experiment:
        return {}
    command = "" if refs.uri.startswith("http") else ui_command(refs.uri)
    pages = {"table": trials_page(refs, outcome.name), "charts": trials_page(refs, outcome.name, charts=True)}
    return pages | {"command": command}
