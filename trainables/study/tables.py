"""Rows of front.csv, confirmed.csv and contrasts.csv, the point to ship, and their conversion to CSV and JSON."""

import io
import math
from collections.abc import Mapping, Sequence
from csv import DictWriter
from typing import Any

from core.space import Value
from trainables.study.conclusions import choice, pick_command, why_chosen
from trainables.study.outcome import Outcome


def front_rows(outcome: Outcome) -> list[dict[str, Value]]:
    """Rows of front.csv, sorted by the first objective, best first; a row contains only the parameters that its trial has."""
    columns = outcome.columns()
    return [
        {"trial": t.number, "baseline": t.baseline}
        | {o.metric: t.metrics[o.metric] for o in outcome.objectives}
        | {"flags": " ".join(t.flags)}
        | {name: t.params[name] for name in columns if name in t.params}
        for t in outcome.front()
    ]


def confirmed_rows(outcome: Outcome) -> list[dict[str, Value]]:
    """Rows of confirmed.csv; the interval of a metric is infinite if no point has two replicates."""
    trials = {t.number: t for t in outcome.trials}
    rows = []
    for c in outcome.confirmed:
        row: dict[str, Value] = {"trial": c.number, "baseline": trials[c.number].baseline, "replicates": c.replicates}
        for name in (o.metric for o in outcome.objectives):
            low, high = c.intervals[name]
            row |= {name: c.means[name], f"{name}_low": low, f"{name}_high": high}
            row[f"sweep_{name}"] = trials[c.number].metrics[name]
        if math.isfinite(c.chance):
            row |= {"mia_auc_chance": c.chance, "mia_auc_resolved": c.resolved, "mia_audits": " ".join(c.audits)}
        row |= {"failed": c.failed, "flags": " ".join(c.flags), "from_front": c.from_front}
        rows.append(row | {"probability_non_dominated": c.probability, "verdict": c.verdict.value, "on_front": c.on_front})
    return rows


def contrast_rows(outcome: Outcome) -> list[dict[str, Value]]:
    """Rows of contrasts.csv: the question, the answer, and the paired difference of each objective with its 95 % interval.

    If the treatment was matched to the control, there are also the means of both in that metric.
    """
    rows: list[dict[str, Value]] = []
    confirmation = outcome.confirmation
    for a in confirmation.contrasts if confirmation else ():
        row: dict[str, Value] = {
            "question": a.contrast.question, "answer": a.answer, "objective": a.contrast.objective, "matched": a.contrast.matched,
            "treatment": a.treatment, "control": a.control,
        }  # fmt: skip
        for name, (value, (low, high)) in a.differences.items():
            row |= {f"{name}_difference": value, f"{name}_difference_low": low, f"{name}_difference_high": high}
        if confirmation and (name := a.contrast.matched):
            treatment, control = (confirmation.estimates.mean(number, name) for number in (a.treatment, a.control))
            row |= {"matched_treatment": treatment, "matched_control": control}
        rows.append(row | {"replicates_needed": a.replicates_needed, "reason": ""})
    for question, reason in confirmation.unanswered.items() if confirmation else ():
        rows.append({"question": question, "answer": "none", "reason": reason})
    return rows


def point_to_ship(outcome: Outcome) -> dict[str, Any] | None:
    """The point to ship for programs: its trial, its probabilities, its runners-up, and the command that registers its model.

    None if no point is confirmed; without `trial` if none can be shipped, which `reason` explains.
    """
    if outcome.confirmation is None:
        return None
    chosen = choice(outcome)
    if isinstance(chosen, str):
        return {"trial": None, "reason": chosen}
    return {
        "trial": chosen.point.number, "reason": why_chosen(chosen, outcome), "verdict": chosen.point.verdict.value,
        "probability_non_dominated": chosen.point.probability, "probability_best": chosen.probability,
        "runners_up": [{"trial": r.point.number, "probability_best": r.probability} for r in chosen.runners_up],
        "command": pick_command(chosen, outcome),
    }  # fmt: skip


def csv(rows: Sequence[Mapping[str, Value]]) -> str:
    """Format rows as CSV; floats can be read back exactly, and missing cells are empty."""
    text = io.StringIO()
    writer = DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    if rows:
        writer.writeheader()
        writer.writerows({k: repr(float(v)) if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    return text.getvalue()


def json_safe(value: Any) -> Any:
    """Convert to plain data for JSON; numbers that are not finite become null."""
    match value:
        case Mapping():
            return {str(name): json_safe(inner) for name, inner in value.items()}
        case list() | tuple():
            return [json_safe(inner) for inner in value]
        case float() if not math.isfinite(value):
            return None
    return value
