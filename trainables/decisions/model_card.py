"""The model card of a chosen network: its numbers with intervals, its caveats and its origin."""

from collections.abc import Iterable, Mapping

import numpy as np

from core.config import TrialConfig
from core.data import Images
from core.flags import FLAGS, raised
from core.space import Value
from trainables.decisions.choice import BOOKKEEPING, Pick
from trainables.study.outcome import Outcome
from trainables.study.plan import Plan
from trainables.study.text import interval_text, named, show

MAX_DESCRIPTION = 5000
"""Number of characters that every database of MLflow accepts as a description."""
NOT_RECIPE = ("dataset", "pool", "split", "replicate", "seed", "judge.")
"""Beginnings of the settings that appear in other sections of the card than the recipe."""


def card(
    picked: Pick, outcome: Outcome, plan: Plan, known: Mapping[str, np.ndarray], images: Images, fingerprint: str,
    facts: Mapping[str, str],
) -> str:  # fmt: skip
    """The model card in Markdown; the most important sections come first, because a description is cut at `MAX_DESCRIPTION`.

    Args:
        picked: the chosen network.
        outcome: the outcome of its study.
        plan: the plan of its study.
        known: per-image evidence about the network.
        images: the pool.
        fingerprint: fingerprint of the pool.
        facts: facts of the command that chose the network.
    """
    params, defaults = picked.network.params, TrialConfig().params()
    constraints = [constraint.metric for constraint in picked.preference.constraints]
    main = [o.metric for o in plan.objectives] + constraints + [picked.preference.metric]
    recipe = {k: v for k, v in params.items() if defaults.get(k) != v and not k.startswith(NOT_RECIPE)}
    judge = {k.removeprefix("judge."): v for k, v in params.items() if k.startswith("judge.")}
    sizes = {k: v for k, v in params.items() if k.startswith("split.")}
    other = [n for n in picked.network.metrics if n not in main and not n.startswith(BOOKKEEPING)]
    other = [n for n in other if all(n in network.metrics for network in picked.candidate.networks)]
    source = f"{len(picked.candidate.networks)} replicates with new seeds and members" if picked.confirmed else "the sweep"
    if picked.preference.constraints:
        among = f"{picked.feasible} of {picked.among} points meet the constraints."
    else:
        among = f"There were {picked.among} points to choose from."
    flags = [f"`{name}`" + (f": {FLAGS[name].means}" if name in FLAGS else "") for name in raised_flags(picked)]
    sections = [
        f"# {plan.study}: {named(picked.candidate.trial)}", plan.question,
        f"Chosen for {picked.preference}. {among} The network is {picked.which} by {plan.objectives[0].metric}. "
        f"The numbers are from {source}, on the part `{judge['part']}`.",
        _table(picked, list(dict.fromkeys(main))),
        "## Caveats", _list([*picked.caveats, *_general_caveats(picked)]),
        "## Flags", _list(flags) or "None.",
        "## Recipe", f"Settings that differ from the defaults: {_settings(recipe)}; seed {params['seed']}, "
        f"replicate {params['replicate']}.",
        "## Data", f"`{params['dataset']}`, fingerprint `{fingerprint}`, split `{params['split']}`"
        f"{f' ({_settings(sizes)})' if sizes else ''}; trained on "
        f"{len(known['member_rows'])} members, evaluated on {len(known['rows'])} other images.",
        "## Evaluation", _settings(judge),
        "## Use", f"Input: float32 [-1, {', '.join(map(str, images.shape))}], pixels in [0, 1], not normalised. "
        f"Output: logits, float32 [-1, {images.classes}]. The model runs on the CPU.",
        "## Origin", _list(f"{name}: {text}" for name, text in _origin(picked, outcome, facts).items()),
        "## Other metrics", _table(picked, other),
    ]  # fmt: skip
    return "\n\n".join(sections) + "\n"


def _table(picked: Pick, metrics: list[str]) -> str:
    rows = ["| metric | mean | 95 % interval | this network |", "| --- | --- | --- | --- |"]
    for metric in metrics:
        mean, interval = picked.candidate.estimate(metric)
        rows.append(f"| {metric} | {mean:.4f} | {interval_text(interval)} | {picked.network.metrics[metric]:.4f} |")
    return "\n".join(rows)


def _list(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _settings(params: Mapping[str, Value]) -> str:
    return ", ".join(f"`{name}={show(value)}`" for name, value in params.items()) or "none"


def _general_caveats(picked: Pick) -> list[str]:
    """Caveats that hold for every chosen network."""
    first = (
        "The numbers are means over replicates. This network is one of them; another one trained in the same way may be worse."
        if picked.confirmed
        else "Not confirmed: the numbers are those of noisy trials that were selected by these numbers, so they are biased upward."
    )
    params = picked.network.params
    return [
        first,
        "Attacks give an upper bound on robust accuracy and audits a lower bound on leakage: stronger ones may find more. "
        f"Robustness is claimed within {params['judge.norm']} radius {show(params['judge.epsilon'])} "
        "(units of [0, 1] images) and for the attacks under Evaluation only.",
        "Intervals are Student's over few replicates: they cover seeds and the draw of members, not another data set.",
        "The model leaks some training data: protect it like the training data itself.",
    ]


def _origin(picked: Pick, outcome: Outcome, facts: Mapping[str, str]) -> dict[str, str]:
    """The commands that trained and chose the network, and their environments."""
    names = ("command", "commit", "versions", "hardware", "started")
    study = {name: text for name, text in outcome.facts.items() if name in names or name.startswith("version ")}
    place = f"{picked.network.folder} of {outcome.name}, version {outcome.version} of its front"
    return {"network": place, **study, "chosen by": facts["command"], "at commit": facts["commit"], "chosen at": facts["started"]}


def short(text: str) -> str:
    """A card as a description, cut at a line break if it is too long."""
    more = "\n\n(shortened; the complete card is model_card.md beside the model)"
    return text if len(text) <= MAX_DESCRIPTION else text[: MAX_DESCRIPTION - len(more)].rsplit("\n", 1)[0] + more


def raised_flags(picked: Pick) -> list[str]:
    """Flags that are raised on the trial or any of its networks."""
    metrics = [picked.candidate.trial.metrics, *(network.metrics for network in picked.candidate.networks)]
    return sorted({flag for own in metrics for flag in raised(own)})
