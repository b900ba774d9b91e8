"""The JSON data of the page's script: everything that a click on a trial shows."""

import json
import math
from typing import Any

from trainables.reporting.front_charts import DARK, FAINT, OUTLINE
from trainables.reporting.recommendation import recommended
from trainables.reporting.style import INK
from trainables.study.mlflow_pages import run_page, trials_page
from trainables.study.outcome import Confirmed, Outcome
from trainables.study.text import columns, is_known, label
from trainables.study.tracking_uri import ui_command
from trainables.study.trial import Trial
from trainables.study.trial_names import described
from trainables.study.trial_state import TrialState


def page_data(outcome: Outcome) -> str:
    """The data for a script element; the text cannot end the element."""
    front, chosen = {t.number for t in outcome.front()}, recommended(outcome)
    mark = "the point to ship" if outcome.confirmed else "knee of the sweep"
    differing = list(dict.fromkeys([*columns(outcome), *sorted(outcome.columns(), key=lambda name: name == "seed")]))
    first = outcome.trials[0].params if outcome.trials else {}
    shared = {name: value for name, value in first.items() if name not in differing}
    confirmed = {c.number: c for c in outcome.confirmed}
    runs = outcome.mlflow.runs
    data = {
        "objectives": [{"metric": o.metric, "label": label(o)} for o in outcome.objectives],
        "dark": DARK, "ink": INK, "outline": OUTLINE, "faint": FAINT,
        "columns": differing,
        "shared": shared,
        "mlflow": mlflow_links(outcome),
        "trials": {
            t.number: {
                "name": described(t, outcome),
                "status": status(t, front),
                "mark": mark if t.number == chosen else "",
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
    intervals = {name: list(interval) if is_known(interval) else None for name, interval in point.intervals.items()}
    notes = {}
    if math.isfinite(point.chance):
        notes["mia_auc"] = f", chance level {point.chance:.3f}" + ("" if point.resolved else ", not resolved")
    return {"means": point.means, "intervals": intervals, "notes": notes, "replicates": point.replicates,
            "verdict": str(point.verdict), "probability": point.probability}  # fmt: skip


def mlflow_links(outcome: Outcome) -> dict[str, str]:
    """The pages of the trials in MLflow, and for a database the command that shows them, without passwords; empty if unknown."""
    refs = outcome.mlflow
    if not refs.uri or not refs.experiment:
        return {}
    command = "" if refs.uri.startswith("http") else ui_command(refs.uri)
    pages = {"table": trials_page(refs, outcome.name), "charts": trials_page(refs, outcome.name, charts=True)}
    return pages | {"command": command, "study": run_page(refs, refs.parent) if refs.parent else ""}
