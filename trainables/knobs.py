"""What the knobs do: which matter for which objective, and what turning one costs and buys; words and a table with pictures."""

import functools
from collections.abc import Mapping
from html import escape

from core.config import Objective
from core.flags import FLAGS
from trainables.effects import FEWEST, Effect, Response, Step, responses
from trainables.outcome import Outcome
from trainables.words import capital, label, listed, moved, show, signed

HONEST = ("at_chance",)
"""Flags that keep a trial off the front and yet say nothing against its numbers."""


def told(outcome: Outcome) -> dict[str, Response]:
    """By objective. Baselines are left out, which were not drawn from the space, and so are numbers that a flag disbelieves."""
    trials = [t for t in outcome.done if not t.baseline and {f for f in t.flags if f in FLAGS and FLAGS[f].bars} <= set(HONEST)]
    trials = [t for t in trials if all(o.metric in t.metrics for o in outcome.objectives)]
    trials.sort(key=lambda t: t.number)
    values = {o.metric: [t.metrics[o.metric] for t in trials] for o in outcome.objectives}
    return responses([t.params for t in trials], values, outcome.space)


def section(outcome: Outcome) -> str:
    """HTML."""
    found = told(outcome)
    trials = next(iter(found.values())).trials
    if trials < FEWEST:
        return f"<p>No effect can be told from {trials} trials; {FEWEST} are the fewest.</p>"
    steps = list(dict.fromkeys(step for response in found.values() for step in response.effects))
    silent = [o for o in outcome.objectives if not found[o.metric].effects]
    lines = (
        [f"{len(outcome.stopped)} trials that were given up early are missing here, which may mislead."] if outcome.stopped else []
    )
    lines += [_matters(o, found[o.metric]) for o in outcome.objectives if o not in silent]
    if silent:
        lines.append(f"{escape(capital(listed([label(o) for o in silent])))}: no effect can be told from {trials} trials.")
    speaking = [s for s in steps if any(s in r.effects and r.effects[s].told for r in found.values())]
    lines += [_does(step, outcome, found) for step in speaking]
    if mute := list(dict.fromkeys(f"<code>{escape(s.knob)}</code>" for s in steps if s not in speaking)):
        lines.append(f"What {listed(mute)} {'does' if len(mute) == 1 else 'do'} cannot be told from {trials} trials.")
    words = "".join(f"<li>{line}</li>" for line in lines)
    return f"<ul>{words}</ul>" + (_table(steps, outcome, found) + _method(trials) if steps else "")


def _method(trials: int) -> str:
    return (
        f"<p>A random forest over the {trials} sampled trials, baselines left out. Effects go from the 10th to the 90th "
        "percentile of the values that were tried, the other knobs as they were; intervals hold 95 % of 40 bootstraps of the "
        "trials, and one in twenty misses by chance. With few trials they are rough; a forest makes effects smaller than they "
        "are, and it knows only where the search has looked. Importance is the share of what shuffling a knob costs the "
        "prediction of left-out trials.</p>"
    )


def _matters(objective: Objective, response: Response) -> str:
    """Which knobs an objective hangs on."""
    shares = sorted(response.importance.items(), key=lambda pair: -pair[1])
    parts = [f"<code>{escape(knob)}</code> ({share:.0%})" for knob, share in shares if share >= 0.05]
    sure = f"The forest predicts {response.predicted:.0%} of the differences between left-out trials"
    return f"<b>{escape(capital(label(objective)))}</b> hangs on {listed(parts) or 'no knob alone'}. {sure}."


def _does(step: Step, outcome: Outcome, found: Mapping[str, Response]) -> str:
    """What one knob costs and buys, of which something can be told."""
    told, unclear = [], []
    for o in outcome.objectives:
        effect = found[o.metric].effects.get(step)
        if effect and effect.told:
            sizes = sorted((abs(effect.interval.low), abs(effect.interval.high)))
            told.append(f"{escape(moved(o, effect.mean))} ({sizes[0]:.3f} to {sizes[1]:.3f})")
        else:
            unclear.append(escape(label(o)))
    rest = f"what it does to {listed(unclear)} cannot be told" if unclear else ""
    return f"{_turned(step)} {listed(told)}{'; ' if rest else ''}{rest}."


def _turned(step: Step) -> str:
    knob, low, high = (escape(show(part)) for part in step)
    if isinstance(step.low, str | bool):
        return f"<code>{knob}={high}</code> instead of <code>{low}</code>"
    return f"Raising <code>{knob}</code> from {low} to {high}"


def _table(steps: list[Step], outcome: Outcome, found: Mapping[str, Response]) -> str:
    """A row per step with an effect and its interval for each objective, drawn and written."""
    heads = "".join(
        f'<th scope="col">{escape(label(o))}, {"more" if o.direction == "max" else "less"} is better</th>'
        for o in outcome.objectives
    )
    reach = {o.metric: _reach(found[o.metric]) for o in outcome.objectives}
    rows = "".join(
        f'<tr><th scope="row"><code>{escape(step.knob)}</code><br><span class="soft">{escape(show(step.low))} \N{RIGHTWARDS ARROW} '
        f"{escape(show(step.high))}</span></th>"
        + "".join(_cell(step, found[o.metric], reach[o.metric]) for o in outcome.objectives)
        + "</tr>"
        for step in steps
    )
    caption = "Effect of each knob with its 95 % interval, and its importance"
    return (
        f'<div class="scroll" role="region" aria-label="{caption}" tabindex="0"><table class="effects">'
        f'<caption><span>{caption}</span></caption><thead><tr><th scope="col">knob</th>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _reach(response: Response) -> float:
    ends = [abs(end) for effect in response.effects.values() for end in effect.interval]
    return max(ends, default=0.0) or 1.0


def _cell(step: Step, response: Response, reach: float) -> str:
    effect = response.effects.get(step)
    if effect is None:
        return '<td class="soft">cannot be told</td>'
    low, high = effect.interval
    span = f"{signed(low)} to {signed(high)}"
    return (
        f"<td>{_whisker(effect, reach)}<br>{'<b>' if effect.told else ''}{signed(effect.mean)}{'</b>' if effect.told else ''} "
        f'<span class="soft">({span})<br>importance {response.importance.get(step.knob, 0.0):.0%}</span></td>'
    )


def _whisker(effect: Effect, reach: float) -> str:
    """The interval around the effect, zero in the middle; the dot is full where the direction can be told."""
    at = functools.partial(_at, reach=reach)
    low, high = effect.interval
    return (
        '<svg class="whisker" viewBox="0 0 120 14" aria-hidden="true"><path class="zero" d="M60 0v14"/>'
        f'<path d="M{at(low):.1f} 7H{at(high):.1f}"/>'
        f'<circle cx="{at(effect.mean):.1f}" cy="7" r="3.5" class="{"" if effect.told else "open"}"/></svg>'
    )


def _at(value: float, reach: float) -> float:
    return 60 + 55 * value / reach
