"""The card of the effects of knobs."""

from typing import Any

from trainables.reporting.card import Card, Missing, ReportContext
from trainables.reporting.importance import MIN_TRIALS
from trainables.reporting.knob_effects import cells, knob_responses, sentences
from trainables.study.text import label

TEMPLATE = """
{% macro effect(cell) %}
{% if cell is none %}
<td class="soft">unknown</td>
{% else %}
<td>{{ whisker(cell) }}<br>
{% if cell.significant %}<b>{{ cell.effect }}</b>{% else %}{{ cell.effect }}{% endif %}
 <span class="soft">({{ cell.interval }})<br>importance {{ cell.importance }}</span></td>
{% endif %}
{% endmacro %}

{# The interval around the effect, with zero in the middle; the dot of a significant effect is filled. #}
{% macro whisker(cell) %}
<svg class="whisker" viewBox="0 0 120 14" aria-hidden="true">
<path class="zero" d="M60 0v14"/>
<path d="M{{ '%.1f' % cell.low }} 7H{{ '%.1f' % cell.high }}"/>
<circle cx="{{ '%.1f' % cell.mean }}" cy="7" r="3.5" class="{{ '' if cell.significant else 'open' }}"/>
</svg>
{%- endmacro %}

<ul>{% for line in lines %}<li>{{ line }}</li>{% endfor %}</ul>
{% if steps %}
<div class="scroll" role="region" aria-label="{{ caption }}" tabindex="0"><table class="effects">
<caption><span>{{ caption }}</span></caption>
<thead><tr>
<th scope="col">knob</th>
{% for head in heads %}
<th scope="col">{{ head }}</th>
{% endfor %}
</tr></thead>
<tbody>
{% for step, row in steps %}
<tr>
<th scope="row"><code>{{ step.knob }}</code><br>
<span class="soft">{{ step.low | show }} \N{RIGHTWARDS ARROW} {{ step.high | show }}</span></th>
{% for cell in row %}
{{ effect(cell) }}
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table></div>
<details><summary>How the effects are estimated</summary>
<p>These effects come from a random forest over the {{ trials }} sampled trials, without baselines. They are differences between
the 10th and the 90th percentile of the values that were tried, with the other knobs unchanged; intervals contain 95 % of 40
bootstraps of the trials. Effects in bold have an interval without zero, and a permutation test finds that the objective depends
on the knob, at 5 % for all knobs together (Holm's correction). With few trials they are rough, a forest makes effects smaller
than they are, and it knows only the region that the search has visited. The importance of a knob is its share in the prediction
error that shuffling knobs among left-out trials causes.</p></details>
{% endif %}
"""


def data(context: ReportContext) -> dict[str, Any] | Missing:
    """Values for the template, or why there are too few trials."""
    outcome = context.outcome
    by_metric = knob_responses(outcome)
    trials = next(iter(by_metric.values())).trials
    if trials < MIN_TRIALS:
        return Missing(f"Too few trials ({trials}) to detect an effect; at least {MIN_TRIALS} are needed.")
    shown = [o for o in outcome.objectives if by_metric[o.metric].effects]
    steps = list(dict.fromkeys(step for response in by_metric.values() for step in response.effects))
    return {
        "lines": sentences(outcome, by_metric, steps),
        "steps": [(step, cells(step, shown, by_metric)) for step in steps],
        "heads": [f"{label(o)}, {'more' if o.direction == 'max' else 'less'} is better" for o in shown],
        "caption": "Effect of each knob with its 95 % interval, and its importance",
        "trials": trials,
    }


CARD = Card("knobs", "Effects of knobs", data, TEMPLATE, link="Knobs")
