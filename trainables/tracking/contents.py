"""The contents of runs in MLflow: parameters, metrics, tags and descriptions."""

import json
from collections.abc import Mapping

from core.space import Value, flat, range_text, searched_names
from trainables.study.mlflow_pages import trials_path
from trainables.study.outcome import Outcome
from trainables.study.plan import Plan
from trainables.study.text import show
from trainables.tracking.client import DATA, NAME

NOTE = "mlflow.note.content"
"""Tag that MLflow shows as the description of a run or experiment."""


def study_params(plan: Plan, facts: Mapping[str, str]) -> dict[str, Value]:
    """Parameters of a study's run."""
    return {
        **{f"space/{name}": range_text(span) for name, span in flat(plan.space).items()},
        **{f"config/{name}": value for name, value in plan.config.params().items()},
        **{f"fact/{name}": text for name, text in facts.items()},
        DATA: plan.data.fingerprint if plan.data else "",
        "recipe": plan.recipe,
        "objectives": json.dumps([vars(objective) for objective in plan.objectives]),
        "trials": plan.trials, "sampler": plan.sampler, "seed": plan.seed, "replicates": plan.replicates, "shadows": plan.shadows,
        "require": " and ".join(map(str, plan.require)), "seeds": plan.seeds_per_trial,
        "early_stopping": " ".join(map(str, plan.rungs)),
        **{f"confirm/{name}": value for name, value in plan.confirm.items()},
    }  # fmt: skip


def outcome_metrics(outcome: Outcome) -> dict[str, float]:
    """Metrics of a study's run."""
    return {
        "hypervolume": outcome.hypervolume(), "front_size": float(len(outcome.front())),
        "trials_completed": float(len(outcome.completed)), "trials_failed": float(len(outcome.failed)),
        "trials_stopped": float(len(outcome.early_stopped)),
    }  # fmt: skip


def source_tags(plan: Plan) -> dict[str, str]:
    """Tags that MLflow shows as the source of a run: the study's script."""
    return {"mlflow.source.name": f"{plan.study}.py", "mlflow.source.type": "LOCAL"}


def study_note(plan: Plan, facts: Mapping[str, str], experiment: str) -> str:
    """Description of a study's run, in Markdown, with a link that is valid on every server that has the experiment."""
    command = facts.get("command", "")
    lines = [plan.question, f"    {command}" if command else "", "The answer is in `report.html`, under Artifacts."]
    lines.append(f"[The trials with their objectives and searched knobs]({trials_path(experiment, plan.name)})")
    lines.append(f"The runs on its front: `tags.pareto = 'true' and tags.{NAME} = '{plan.name}'`")
    return "\n\n".join(line for line in lines if line)


def trial_note(plan: Plan, number: int, params: Mapping[str, Value], baseline: str) -> str:
    """Description of a trial's run, in Markdown: its baseline, or the knobs that were searched."""
    if baseline:
        return f"Trial {number} of {plan.name}, the baseline *{baseline}*."
    knobs = [f"- `{name}` {show(params[name])}" for name in searched_names(plan.space) if name in params]
    return "\n".join([f"Trial {number} of {plan.name}, with these searched knobs:", "", *knobs])
