"""The model card of a picked network: what it can do, how surely, and what nobody should believe of it."""

from collections.abc import Iterable, Mapping

import numpy as np

from core.config import TrialConfig
from core.data import Images
from core.flags import FLAGS, raised
from core.space import Value
from trainables.outcome import Outcome
from trainables.pick import BOOKKEEPING, Pick, interval_text
from trainables.plan import Plan
from trainables.words import named, show

LONGEST = 5000
"""Characters of a description that every database of MLflow takes."""
NOT_RECIPE = ("dataset", "pool", "split", "replicate", "seed")
"""Settings that stand elsewhere in a card."""


def card(
    picked: Pick, outcome: Outcome, plan: Plan, known: Mapping[str, np.ndarray], images: Images, fingerprint: str,
    facts: Mapping[str, str],
) -> str:  # fmt: skip
    """The model card, Markdown. What matters most comes first, since a description is cut at `LONGEST` characters.

    Args:
        picked, outcome, plan: which network of which study. known: its per-image evidence.
        images, fingerprint: of the data set. facts: of the command that picked it.
    """
    params, usual = picked.network.params, TrialConfig().params()
    asked = [o.metric for o in plan.objectives] + [limit.metric for limit in picked.wish.limits] + [picked.wish.metric]
    recipe = {k: v for k, v in params.items() if usual.get(k) != v and k not in NOT_RECIPE and not k.startswith("judge.")}
    judge = {k.removeprefix("judge."): v for k, v in params.items() if k.startswith("judge.")}
    rest = [n for n in picked.network.metrics if n not in asked and not n.startswith(BOOKKEEPING)]
    rest = [n for n in rest if all(n in network.metrics for network in picked.candidate.networks)]
    source = f"{len(picked.candidate.networks)} replicates with fresh seeds and members" if picked.confirmed else "the sweep"
    met = f" {picked.met} of {picked.among} points meet that." if picked.wish.limits else f" One of {picked.among} points."
    flags = [f"`{name}`" + (f": {FLAGS[name].means}" if name in FLAGS else "") for name in raised_flags(picked)]
    sections = [
        f"# {plan.study}: {named(picked.candidate.trial)}", plan.question,
        f"Picked for {picked.wish}.{met} The network is {picked.which} by {plan.objectives[0].metric}. "
        f"Numbers are of {source}, on the part `{judge['part']}`.",
        _table(picked, list(dict.fromkeys(asked))),
        "## Caveats", _list([*picked.doubts, *_caveats(picked)]),
        "## Flags", _list(flags) or "None.",
        "## Recipe", f"Other than the defaults: {_settings(recipe)}; seed {params['seed']}, replicate {params['replicate']}.",
        "## Data", f"`{params['dataset']}`, fingerprint `{fingerprint}`, split `{params['split']}`; trained on "
        f"{len(known['member_rows'])} members, judged on {len(known['rows'])} other images.",
        "## Judge", _settings(judge),
        "## Use", f"Input: float32 [-1, {', '.join(map(str, images.shape))}], pixels in [0, 1], not normalised. "
        f"Output: logits, float32 [-1, {images.classes}]. It runs on the CPU.",
        "## Origin", _list(f"{name}: {text}" for name, text in _origin(picked, outcome, facts).items()),
        "## Other numbers", _table(picked, rest),
    ]  # fmt: skip
    return "\n\n".join(sections) + "\n"


def _table(picked: Pick, metrics: list[str]) -> str:
    rows = ["| metric | mean | 95 % interval | this network |", "| --- | --- | --- | --- |"]
    for metric in metrics:
        mean, interval = picked.candidate.numbers(metric)
        rows.append(f"| {metric} | {mean:.4f} | {interval_text(interval)} | {picked.network.metrics[metric]:.4f} |")
    return "\n".join(rows)


def _list(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _settings(params: Mapping[str, Value]) -> str:
    return ", ".join(f"`{name}={show(value)}`" for name, value in params.items()) or "none"


def _caveats(picked: Pick) -> list[str]:
    first = (
        "The numbers are means over replicates; this network is one of them, and another one trained the same way may be worse."
        if picked.confirmed
        else "Not confirmed: picked from noisy trials by the numbers that it was picked by, which are therefore too good."
    )
    return [
        first,
        "An attack is an upper bound on robust accuracy and an audit a lower bound on leakage: stronger ones may find more. "
        f"Robustness is claimed within {picked.network.params['judge.norm']} radius {show(picked.network.params['judge.epsilon'])} "
        "(units of [0, 1] images) and for the attacks under Judge, nothing else.",
        "Intervals are Student's over few replicates: they cover seeds and the draw of members, not another data set.",
        "The network remembers something of its members: treat it as you would treat them.",
    ]


def _origin(picked: Pick, outcome: Outcome, facts: Mapping[str, str]) -> dict[str, str]:
    """Both commands, and with what they were run."""
    own = ("command", "commit", "versions", "hardware", "started")
    ran = {name: text for name, text in outcome.facts.items() if name in own or name.startswith("version ")}
    place = f"{picked.network.folder} of {outcome.name}, version {outcome.version} of its front"
    return {"network": place, **ran, "picked by": facts["command"], "at commit": facts["commit"], "picked": facts["started"]}


def short(text: str) -> str:
    """A card as a description; what does not fit is in the file only."""
    more = "\n\n(cut here; all of it is in model_card.md beside the model)"
    return text if len(text) <= LONGEST else text[: LONGEST - len(more)].rsplit("\n", 1)[0] + more


def raised_flags(picked: Pick) -> list[str]:
    """Raised on the network, its sisters, or the trial."""
    found = [picked.candidate.trial.metrics, *(network.metrics for network in picked.candidate.networks)]
    return sorted({flag for metrics in found for flag in raised(metrics)})
