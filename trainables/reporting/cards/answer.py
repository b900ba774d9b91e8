"""The card of the answer: which point to ship, at what cost, how certain, compared with no defence; from confirmed numbers only."""

from typing import Any

from core.study import Objective
from trainables.reporting.card import Card, ReportContext
from trainables.study.choosing import CERTAIN, Chosen
from trainables.study.conclusions import (
    attacker,
    called,
    certainty,
    choice,
    contrast_numbers,
    contrast_points,
    cost,
    how_to_confirm,
    matched_text,
    pick_command,
    probability_text,
    side_word,
    undecided,
    undefended,
    why_chosen,
)  # fmt: skip
from trainables.study.contrasts import is_mismatched
from trainables.study.outcome import Confirmed, ContrastAnswer, Outcome, Verdict
from trainables.study.text import (
    capital,
    counted,
    decimal,
    difference_text,
    duration,
    estimate_text,
    is_known,
    label,
    unbroken,
)

TEMPLATE = """
{% if not confirmed %}
<p class="lead"><b>Nothing can be concluded.</b> {{ reason }}{{ ":" if command }}</p>
<code class="command">{{ command }}</code>
<p>The numbers below are those of the sweep: one training per trial, selected as the best of many, so they are too good.</p>
{% else %}
<div class="answer">
<div>
{% if not chosen %}
<p class="lead"><b>No point can be shipped:</b> {{ reason }}.</p>
{% else %}
<p class="lead"><b>Ship {{ name }}</b> ({{ what }}), {{ why }}. Its verdict: <span
 class="word {{ verdict }}">{{ verdict }}</span> (probability of being on the front {{ probability }}{{ doubt }}).
{%- if cost %} {{ cost }}{% endif %}</p>
<div class="scroll" role="region" aria-label="{{ caption }}" tabindex="0"><table class="comparison" role="table">
<caption><span>{{ caption }}</span></caption>
<thead><tr role="row">
{% for head in heads %}<th scope="col" role="columnheader" class="plain">{{ head }}</th>{% endfor %}
</tr></thead>
<tbody>
{% for row in rows %}
<tr role="row"><th scope="row" role="rowheader">{{ row.name }}</th>
<td role="cell" data-head="{{ heads[1] }}"><b class="n">{{ row.mean }}</b> <span class="n">{{ row.interval }}</span>
<br><span class="soft n">expected {{ row.expected }}</span>
{%- if row.chance %}<br><span class="soft n">{{ row.chance }}</span>{% endif %}</td>
{% if baseline %}
<td role="cell" data-head="{{ heads[2] }}"><span class="n">{{ row.baseline }}</span></td>
<td role="cell" data-head="{{ heads[3] }}"><span class="n">{{ row.difference }}</span>
<span class="word {{ row.word }}">{{ row.word }}</span></td>
{% endif %}
</tr>
{% endfor %}
</tbody></table></div>
<p>{{ certainty }}{% for line in caveats %} {{ line }}{% endfor %}</p>
{% if attacker %}<p>{{ attacker }}</p>{% endif %}
<p class="before">Register its model:</p>
<code class="command">{{ command }}</code>
{% endif %}
</div>
<div>
{% if contrasts or unanswered %}
<ul class="contrasts" aria-label="Contrasts, with the difference of two confirmed points and its 95 % interval">
{% for item in contrasts %}
<li class="{{ item.word }}"><span class="word {{ item.word }}">{{ item.word | capitalize }}.</span> {{ item.question }}
<p><b>{{ item.own[0] }} <span class="n">{{ item.own[1] }}</span></b>, {{ item.points }}</p>
{% if item.matched %}<p>{{ item.matched }}</p>{% endif %}
<p class="soft">
{%- for name, text in item.others %}{{ name }} <span class="n">{{ text }}</span>{{ ", " if not loop.last }}{% endfor %}
{{- item.needed }}</p>
</li>
{% endfor %}
{% for question, why in unanswered.items() %}
<li><span class="word">No answer.</span> {{ question }}
<p class="soft">{{ why }}</p></li>
{% endfor %}
</ul>
{% endif %}
<p>{{ undecided.lines | join(" ") }}</p>
{% if undecided.command %}<code class="command">{{ undecided.command }}</code>{% endif %}
</div>
</div>
{% endif %}
"""


def data(context: ReportContext) -> dict[str, Any]:
    """Values for the template."""
    outcome = context.outcome
    if outcome.confirmation is None:
        reason, command = how_to_confirm(outcome)
        return {"confirmed": False, "reason": reason, "command": command}
    chosen = choice(outcome)
    values: dict[str, Any] = {
        "confirmed": True, "undecided": undecided(outcome), "unanswered": outcome.confirmation.unanswered,
        "contrasts": [_contrast(answer, outcome) for answer in outcome.confirmation.contrasts],
    }  # fmt: skip
    if isinstance(chosen, str):
        return values | {"chosen": False, "reason": chosen}
    return values | {"chosen": True} | _shipped(chosen, outcome)


def _contrast(answer: ContrastAnswer, outcome: Outcome) -> dict[str, Any]:
    needed = ""
    if answer.answer == "undecided":
        assert outcome.confirmation is not None
        count, seconds = answer.replicates_needed, outcome.confirmation.seconds_per_replicate
        needed = "; more judged images are needed to decide it"
        if is_mismatched(answer):
            needed = "; no replicates decide it"
        elif count < 1000:
            replicates = counted(round(count), "replicate")
            needed = f"; to decide it, roughly {replicates} of each of the two points in all ({duration(2 * count * seconds)})"
    own, *others = contrast_numbers(answer, outcome)
    return {
        "word": answer.answer, "question": answer.contrast.question, "own": own, "others": others, "needed": needed,
        "points": contrast_points(answer, outcome), "matched": capital(matched_text(answer, outcome)),
    }  # fmt: skip


def _shipped(chosen: Chosen, outcome: Outcome) -> dict[str, Any]:
    """The chosen point, its numbers and their certainty, and the comparison with no defence."""
    point, trials, baseline = chosen.point, {t.number: t for t in outcome.trials}, undefended(outcome)
    if point.number == baseline:
        baseline = None
    heads = ["", unbroken("confirmed (95 % interval)")]
    heads += [trials[baseline].baseline, f"paired difference {unbroken('(95 % interval)')}"] if baseline is not None else []
    return {
        "name": f"trial {point.number}", "what": called(point.number, outcome).partition(" (")[2].removesuffix(")"),
        "why": why_chosen(chosen, outcome),
        "cost": "" if baseline is None else cost(chosen, baseline, outcome), "verdict": point.verdict.value,
        "probability": probability_text(point.probability),
        "doubt": "" if point.verdict is Verdict.STAYS else ", so it may not belong there",
        "caption": f"Means over {counted(point.replicates, 'replicate')} on test; expected: corrected for the choice among noisy "
        "points",
        "heads": heads, "baseline": baseline is not None,
        "rows": [_row(o, chosen, outcome, baseline) for o in outcome.objectives],
        "certainty": certainty(chosen, outcome), "caveats": _caveats(chosen),
        "attacker": attacker(point) if "mia_auc" in point.means else "", "command": pick_command(chosen, outcome),
    }  # fmt: skip


def _row(objective: Objective, chosen: Chosen, outcome: Outcome, baseline: int | None) -> dict[str, str]:
    """One objective of the chosen point, compared with the baseline."""
    assert outcome.confirmation is not None
    own, point = chosen.values[objective.metric], chosen.point
    mean, interval = estimate_text(own.mean, own.interval).split(" ", 1)
    expected = estimate_text(own.shrunk, own.shrunk_interval)
    row = {"name": capital(label(objective)), "mean": mean, "interval": unbroken(interval), "expected": unbroken(expected)}
    row["chance"] = _chance(point) if objective.metric == "mia_auc" else ""
    if baseline is not None:
        estimates = outcome.confirmation.estimates
        difference = estimates.difference(point.number, baseline, objective.metric)
        row |= {
            "baseline": decimal(estimates.mean(baseline, objective.metric)),
            "difference": " (".join(map(unbroken, difference_text(difference).split(" ("))),
            "word": side_word(difference, objective),
        }  # fmt: skip
    return row


def _chance(point: Confirmed) -> str:
    if point.chance != point.chance:
        return ""
    return unbroken(f"chance level {point.chance:.3f}" + ("" if point.resolved else ": not resolved"))


def _caveats(chosen: Chosen) -> list[str]:
    """Constraints that the point may violate, and missing intervals."""
    lines = [
        f"It meets {constraint} with probability {probability:.2f}."
        for constraint, probability in chosen.meets.items() if probability < CERTAIN
    ]  # fmt: skip
    if not all(is_known(value.interval) for value in chosen.values.values()):
        lines.append("A single replicate has no interval, so nothing is certain.")
    return lines


CARD = Card("answer", "Answer", data, TEMPLATE, link="Answer")
