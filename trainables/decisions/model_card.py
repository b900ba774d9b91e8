"""The model card of a chosen network: its numbers with intervals, its caveats and its origin."""

import math
from collections.abc import Iterable, Mapping

import numpy as np

from core.config import TrialConfig
from core.data import Images
from core.flags import FLAGS, raised
from core.space import Value
from trainables.decisions.choice import BOOKKEEPING, Pick
from trainables.study.outcome import Outcome
from trainables.study.plan import Plan
from trainables.study.text import counted, decimal, interval_text, named, show
from trainables.study.verdicts import MIA_AUC

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
    recipe = {k: v for k, v in params.items() if defaults.get(k) != v and not k.startswith(NOT_RECIPE)}
    judge = {k.removeprefix("judge."): v for k, v in params.items() if k.startswith("judge.")}
    sizes = {k: v for k, v in params.items() if k.startswith("split.")}
    other = [n for n in picked.network.metrics if n not in picked.chosen.values and not n.startswith(BOOKKEEPING)]
    other = [n for n in other if all(n in network.metrics for network in picked.networks)]
    source = f"{counted(len(picked.networks), 'replicate')} with new seeds and members" if picked.confirmed else "the sweep"
    flags = [f"`{name}`" + (f": {FLAGS[name].means}" if name in FLAGS else "") for name in raised_flags(picked)]
    sections = [
        f"# {plan.study}: {named(picked.trial)}", plan.question,
        f"Chosen for {picked.request}, {picked.candidates}. The network is {picked.which}. "
        f"The numbers are from {source}, on the part `{judge['part']}`.",
        _table(picked),
        *(["## Runners-up", f"{picked.certainty}:", _list(picked.runners_up)] if picked.runners_up else []),
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
        "## Other metrics", _other_table(picked, other),
    ]  # fmt: skip
    return "\n\n".join(sections) + "\n"


def _table(picked: Pick) -> str:
    """The numbers of the choice."""
    rows = ["| metric | value | 95 % interval | mean as measured | chance level | this network |", "| --- " * 6 + "|"]
    for metric, value in picked.chosen.values.items():
        chance = f"{value.chance:.4f}" + ("" if value.resolved else " (not resolved)") if math.isfinite(value.chance) else ""
        cells = [decimal(value.shrunk, 4), interval_text(value.shrunk_interval), decimal(value.mean, 4), chance]
        rows.append(f"| {' | '.join([metric, *cells, decimal(picked.own(metric), 4)])} |")
    return "\n".join(rows)


def _other_table(picked: Pick, metrics: list[str]) -> str:
    """Means of further metrics, which played no part in the choice."""
    rows = ["| metric | mean | this network |", "| --- | --- | --- |"]
    for metric in metrics:
        mean = float(np.mean([network.metrics[metric] for network in picked.networks]))
        rows.append(f"| {metric} | {decimal(mean, 4)} | {decimal(picked.network.metrics[metric], 4)} |")
    return "\n".join(rows)


def _list(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _settings(params: Mapping[str, Value]) -> str:
    return ", ".join(f"`{name}={show(value)}`" for name, value in params.items()) or "none"


def _general_caveats(picked: Pick) -> list[str]:
    """Caveats that hold for every chosen network."""
    values = picked.chosen.values
    if picked.confirmed:
        first = (
            "The values are means over replicates, shrunken towards the other confirmed points, because the best of several means "
            "is better than its true value (winner's curse). This network is one of the replicates; another one trained in the "
            "same way may be worse."
        )
    else:
        first = "Not confirmed: the numbers are those of noisy trials that were selected by them, so they are biased upward."
    if not all(value.is_certain for value in values.values()):
        second = "There are no intervals, because a single network shows no variance."
    elif picked.confirmed:
        second = "Intervals include seeds, the draw of members and the judged images, but not another data set."
    else:
        second = "Intervals include seeds, but neither the draw of members nor the judged images nor another data set."
    leaks = "leaks some training data" if MIA_AUC not in values or values[MIA_AUC].resolved else "may leak training data"
    params = picked.network.params
    return [
        first,
        "Attacks give an upper bound on robust accuracy and audits a lower bound on leakage: stronger ones may find more. "
        f"Robustness is claimed within {params['judge.norm']} radius {show(params['judge.epsilon'])} "
        "(units of [0, 1] images) and for the attacks under Evaluation only.",
        second,
        f"The model {leaks}: protect it like the training data itself.",
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
    metrics = [picked.trial.metrics, *(network.metrics for network in picked.networks)]
    return sorted({flag for own in metrics for flag in raised(own)})
