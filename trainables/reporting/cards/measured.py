"""The card of what was measured: data, members, network, threat model, attacks, audits, device and hours."""

from typing import Any

from trainables.reporting.card import Card, Missing, ReportContext
from trainables.study.outcome import Outcome
from trainables.study.text import counted, duration, show

NORMS = {"linf": "L\N{INFINITY}", "l2": "L2"}
"""Names of norms."""
TEMPLATE = """
<dl class="compact">{% for name, text in items.items() %}<div><dt>{{ name }}</dt><dd>{{ text }}</dd></div>{% endfor %}</dl>
"""


def data(context: ReportContext) -> dict[str, Any] | Missing:
    """Values for the template, or that no trial has ended."""
    outcome = context.outcome
    if not outcome.trials:
        return Missing("No trial has ended yet.")
    facts = outcome.facts
    items = {
        "data": f"{_common(outcome, 'dataset')}: {facts['data']}" if "data" in facts else _common(outcome, "dataset"),
        "parts": facts.get("parts", ""),
        "network": _component(outcome, "net"),
        "training": f"{_common(outcome, 'epochs')} epochs, {_component(outcome, 'optimizer')}",
        "threat model": _threat(outcome),
        "sweep attacks": _measured(outcome, "robust_accuracy/"),
        "confirmation attacks": facts.get("confirmation attacks", "") if outcome.confirmed else "",
        "sweep audits": _measured(outcome, "mia_auc/"),
        "confirmation audits": ", ".join(dict.fromkeys(name for c in outcome.confirmed for name in c.leaks)),
        "trials": _trials(outcome),
        "device": facts.get("hardware", ""),
        "computing time": _time(outcome),
    }
    return {"items": {name: text for name, text in items.items() if text}}


def _common(outcome: Outcome, name: str) -> str:
    """The value of a setting, or `varied`."""
    values = {show(t.params[name]) for t in outcome.trials if name in t.params}
    return values.pop() if len(values) == 1 else "varied" if values else ""


def _component(outcome: Outcome, slot: str) -> str:
    """The component of a slot with its settings that all trials share."""
    name = _common(outcome, slot)
    prefix = f"{slot}."
    knobs = dict.fromkeys(k for t in outcome.trials for k in t.params if k.startswith(prefix)) if name != "varied" else {}
    settings = ", ".join(f"{k.removeprefix(prefix)} {_common(outcome, k)}" for k in knobs)
    return f"{name} ({settings})" if settings else name


def _threat(outcome: Outcome) -> str:
    norm, epsilon = _common(outcome, "judge.norm"), _common(outcome, "judge.epsilon")
    if not epsilon:
        return ""
    as_levels = f" ({float(epsilon) * 255:.3g}/255)" if norm == "linf" and epsilon != "varied" else ""
    return f"{NORMS.get(norm, norm)}, epsilon {epsilon}{as_levels}"


def _measured(outcome: Outcome, prefix: str) -> str:
    """Names of the metrics with a prefix that some trial has."""
    return ", ".join(dict.fromkeys(n.removeprefix(prefix) for t in outcome.completed for n in t.metrics if n.startswith(prefix)))


def _trials(outcome: Outcome) -> str:
    replicates = sum(c.replicates for c in outcome.confirmed)
    points = counted(len(outcome.confirmed), "point")
    confirmed = f"; {points} confirmed with {counted(replicates, 'replicate')}" if outcome.confirmed else ""
    return f"{len(outcome.completed)} completed of {outcome.planned} planned{confirmed}"


def _time(outcome: Outcome) -> str:
    """Time of all networks, as if one ran after the other."""
    sweep = sum(value for t in outcome.completed for name, value in t.metrics.items() if name.startswith("seconds/"))
    parts = {"sweep": sweep}
    if outcome.confirmation:
        parts["confirmation"] = outcome.confirmation.seconds_per_replicate * sum(c.replicates for c in outcome.confirmed)
    known = {name: seconds for name, seconds in parts.items() if seconds}
    if not known:
        return ""
    each = ", ".join(f"{name} {duration(seconds)}" for name, seconds in known.items())
    return f"{sum(known.values()) / 3600:.2f} hours ({each})"


CARD = Card("measured", "What was measured", data, TEMPLATE, link="Measured")
