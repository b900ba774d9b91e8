"""The JSON data of the page's script: everything that a click on a trial shows."""

import json
import math
from typing import Any

from core.redaction import HIDDEN, redacted
from trainables.reporting.front_charts import DARK, FAINT, OUTLINE
from trainables.reporting.recommendation import recommended
from trainables.reporting.style import INK
from trainables.study.outcome import Confirmed, MLflowRefs, Outcome
from trainables.study.text import columns, is_known, label
from trainables.study.tracking_uri import ui_command
from trainables.study.trial import Trial
from trainables.study.trial_state import TrialState

LOCAL = "http://127.0.0.1:5000"
"""Default address of `mlflow ui`."""


def page_data(outcome: Outcome) -> str:
    """The data for a script element; the text cannot end the element."""
    front, chosen = {t.number for t in outcome.front()}, recommended(outcome)
    mark = "the point to ship" if outcome.confirmed else "knee of the sweep"
    differing = list(dict.fromkeys([*columns(outcome), *sorted(outcome.columns(), key=lambda name: name == "seed")]))
    first = outcome.trials[0].params if outcome.trials else {}
    shared = {name: value for name, value in first.items() if name not in differing}
    confirmed = {c.number: c for c in outcome.confirmed}
    data = {
        "objectives": [{"metric": o.metric, "label": label(o)} for o in outcome.objectives],
        "dark": DARK, "ink": INK, "outline": OUTLINE, "faint": FAINT,
        "columns": differing,
        "shared": shared,
        "mlflow": _mlflow(outcome.mlflow),
        "trials": {
            t.number: {
                "name": t.baseline,
                "status": status(t, front),
                "mark": mark if t.number == chosen else "",
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
    intervals = {name: list(interval) if is_known(interval) else None for name, interval in point.intervals.items()}
    notes = {}
    if math.isfinite(point.chance):
        notes["mia_auc"] = f", chance level {point.chance:.3f}" + ("" if point.resolved else ", not resolved")
    return {"means": point.means, "intervals": intervals, "notes": notes, "replicates": point.replicates,
            "verdict": str(point.verdict), "probability": point.probability}  # fmt: skip


def _mlflow(refs: MLflowRefs) -> dict[str, str]:
    """The address of the runs, and for a database the command that shows them, without passwords."""
    if not refs.uri or not refs.experiment:
        return {}
    server = refs.uri.startswith("http")
    home = redacted(refs.uri).replace(f"://{HIDDEN}@", "://").rstrip("/") if server else LOCAL
    command = "" if server else ui_command(refs.uri)
    return {"runs": f"{home}/#/experiments/{refs.experiment}/runs", "command": command, "parent": refs.parent}
