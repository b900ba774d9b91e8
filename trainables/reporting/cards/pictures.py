"""The card of the front in interactive charts, with a still figure for paper and for browsers without JavaScript."""

from typing import Any

from trainables.reporting.card import Card, ReportContext
from trainables.reporting.front_charts import charts, key

TEMPLATE = """
<noscript><p>These figures are still because JavaScript is off; the tables contain the same numbers.</p></noscript>
<p class="live">Point at a mark for its numbers; click on it for everything about the trial.</p>
<ul class="key live">{% for color, mark, text in key %}<li>
<span class="of-{{ color }}" aria-hidden="true">{{ mark }}</span> {{ text }}</li>
{% endfor %}</ul>
<div class="charts live">
{% for chart in charts %}
<figure><div class="chart" role="group" aria-label="{{ chart.description }}">{{ chart.div }}</div>
<figcaption>{{ chart.caption }}</figcaption></figure>
{% endfor %}
</div>
<div class="paper">{{ m.figures(still) }}</div>
"""


def data(context: ReportContext) -> dict[str, Any]:
    """Values for the template."""
    return {"charts": charts(context.outcome), "key": key(context.outcome), "still": context.figures_of("front")}


CARD = Card("pictures", "The front in figures", data, TEMPLATE, link="Front")
