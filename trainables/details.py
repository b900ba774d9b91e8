"""What the page's script knows of every trial, as JSON: all that a click on a point shows."""

import json
import math
import re
from typing import Any

from core.errors import redacted
from trainables.outcome import Confirmed, Outcome, Tracked, Trial
from trainables.words import columns, knee, label

LOCAL = "http://127.0.0.1:5000"
"""Where `mlflow ui` listens unless it is told otherwise."""


def data(outcome: Outcome) -> str:
    """For a script element; nothing in it can end one."""
    front, balanced = {t.number for t in outcome.front()}, knee(outcome)
    differ = list(dict.fromkeys([*columns(outcome), *sorted(outcome.columns(), key=lambda name: name == "seed")]))
    every = [t.params for t in outcome.trials]
    shared = {name: value for name, value in (every[0] if every else {}).items() if name not in differ}
    confirmed = {c.number: c for c in outcome.confirmed}
    made = {
        "objectives": [{"metric": o.metric, "label": label(o)} for o in outcome.objectives],
        "columns": differ,
        "shared": shared,
        "mlflow": _mlflow(outcome.tracked),
        "trials": {
            t.number: {
                "name": t.baseline,
                "status": status(t, front),
                "knee": balanced is not None and t.number == balanced.number,
                "error": t.error, "flags": t.flags, "metrics": t.metrics,
                "params": {name: value for name, value in t.params.items() if name not in shared},
                "run": outcome.tracked.runs.get(t.number, ""),
                "confirmed": _confirmed(confirmed[t.number]) if t.number in confirmed else None,
            }
            for t in outcome.trials
        },
    }  # fmt: skip
    return json.dumps(made, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def status(trial: Trial, front: set[int]) -> str:
    """What became of it, in a word."""
    if trial.stopped:
        return "stopped"
    return "failed" if trial.error else "front" if trial.number in front else "barred" if trial.barred else "done"


def _confirmed(point: Confirmed) -> dict[str, Any]:
    ends = {name: list(interval) if math.isfinite(sum(interval)) else None for name, interval in point.intervals.items()}
    return {"means": point.means, "intervals": ends, "replicates": point.replicates, "stays": point.on_front,
            "probability": point.probability}  # fmt: skip


def _mlflow(tracked: Tracked) -> dict[str, str]:
    """Where runs are seen, and for a database the command that shows them. Passwords are left out."""
    if not tracked.uri or not tracked.experiment:
        return {}
    server = tracked.uri.startswith("http")
    home = re.sub(r"://[^/@\s]+@", "://", tracked.uri).rstrip("/") if server else LOCAL
    command = "" if server else redacted(f"python -m mlflow ui --backend-store-uri {tracked.uri}")
    runs = f"{home}/#/experiments/{tracked.experiment}/runs"
    return {"runs": runs, "command": command, "parent": tracked.parent}
