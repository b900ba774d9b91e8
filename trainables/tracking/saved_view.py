"""A saved view of a study's trials in MLflow: the objectives and the searched knobs as columns and charts.

MLflow keeps the views that its page of runs offers under "Views" in tags of the experiment. A view contains the state of that page
in an undocumented format, here that of MLflow 3.17. The page that "Compare" opens for selected runs has no such state: it always
begins with the first three parameters and the first metric by name.
"""

import base64
import json
import zlib
from itertools import combinations
from typing import Any

from core.space import searched_names
from trainables.study.mlflow_pages import view_key
from trainables.study.plan import Plan
from trainables.tracking.client import KIND, NAME

VIEW = "mlflow.sharedViewState."
"""Start of the tags of an experiment that contain saved views; the rest is the identifier."""
MAX_CHART_RUNS = 1000
"""Number of runs in a chart at most."""


def view_tag(plan: Plan) -> str:
    """Name of the experiment's tag that contains the view of a study."""
    return VIEW + view_key(plan.name)


def saved_view(plan: Plan, now: int) -> str:
    """The view of a study's trials, of which the front comes first.

    Args:
        plan: plan of the study.
        now: time in milliseconds since the epoch.
    """
    objectives = [objective.metric for objective in plan.objectives]
    confirmed = [f"confirmed/{name}" for name in objectives] if plan.replicates else []
    columns = [f"metrics.`{name}`" for name in (*objectives, *confirmed)] + ["tags.`pareto`"]
    columns += [f"params.`{name}`" for name in searched_names(plan.space)]
    state = {
        "searchFilter": f"tags.`{NAME}` = '{plan.name}' and tags.`{KIND}` = 'trial'",
        "orderByKey": "tags.`pareto`", "orderByAsc": False, "selectedColumns": columns, "columnOrder": columns,
        "columnWidths": {column: 7 * len(column) - 35 for column in columns},  # its heading lacks `metrics.` and the quotes
        "runsHiddenMode": "SHOW_ALL", "compareRunSections": [_section("objectives", 2), _section("searched knobs", 1)],
        "isAccordionReordered": True,  # keeps these sections above those that MLflow adds for all metrics
        "compareRunCharts": [
            *(_scatter(x, y) for x, y in combinations(objectives, 2)),
            _chart("PARALLEL", "knobs", "searched knobs") | {"selectedParams": list(plan.space), "selectedMetrics": objectives},
        ],
    }  # fmt: skip
    compressed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()  # a tag has 20,000 characters at most
    return json.dumps({"name": plan.name, "createdAt": now, "updatedAt": now, "state": f"deflate;{compressed}"})


def _section(name: str, columns: int) -> dict[str, Any]:
    return {"uuid": name, "name": name, "display": True, "isReordered": True, "columns": columns}


def _scatter(x: str, y: str) -> dict[str, Any]:
    axes = {name: {"key": metric, "type": "METRIC"} for name, metric in (("xaxis", x), ("yaxis", y))}
    return _chart("SCATTER", f"{x}-{y}", "objectives") | axes


def _chart(kind: str, identifier: str, section: str) -> dict[str, Any]:
    return {"type": kind, "uuid": identifier, "metricSectionId": section, "runsCountToCompare": MAX_CHART_RUNS, "deleted": False}
