"""The card of all trials: parallel coordinates that filter a table."""

from typing import Any

from trainables.reporting.card import Card, ReportContext
from trainables.reporting.cards.front import common_note, flag_cell, objective_cells, objective_heads
from trainables.reporting.page_data import mlflow_links, status
from trainables.reporting.parallel_coordinates import FOOT, HEIGHT, LEFT, STEP, TOP, axes_of, paths_of
from trainables.study.text import columns, counted, flags_on_all

TEMPLATE = """
{% macro line(path) %}
<path data-trial="{{ path.trial }}" class="{{ path.kinds }}" d="{{ path.data }}"><title>{{ path.name }}</title></path>
{% endmacro %}

{% macro scale(axis, index) %}
<g class="axis" data-axis="{{ index }}" transform="translate({{ left + step * index }} 0)">
<text class="soft" y="14">{{ axis.titles[0] }}</text>
<text class="name" y="30">{{ axis.titles[1] }}</text>
{% if axis.titles[2] %}<text class="soft" y="45">{{ axis.titles[2] }}</text>{% endif %}
<path d="M0 {{ top }}v{{ length }}"/>
{% for y, text in axis.ticks %}<text class="tick" x="6" y="{{ '%.1f' % y }}">{{ text }}</text>{% endfor %}
<rect class="brush" x="-9" width="18" y="{{ top }}" height="0"/>
<rect class="hit" x="-18" width="36" y="{{ top - 8 }}" height="{{ length + 16 }}"/>
</g>
{% endmacro %}

{% macro value_filter(axis, index) %}
<fieldset data-axis="{{ index }}" data-name="{{ axis.name }}" data-objective="{{ axis.objective | int }}"
{% if not axis.options %}
 data-low="{{ axis.low | repr }}" data-high="{{ axis.high | repr }}"
 data-log="{{ axis.log | int }}" data-flipped="{{ axis.flipped | int }}"
{% endif %}>
<legend>{{ axis.title }}</legend>
{% if axis.options %}
<label>is <select><option></option>
{% for option in axis.options %}<option>{{ option }}</option>{% endfor %}
</select></label>
{% else %}
{% for word in ("from", "to") %}<label>{{ word }} <input type="number" step="any"></label>{% endfor %}
{% endif %}
</fieldset>
{% endmacro %}

{% if paths %}
<p>Each line is a trial. <span class="live">Drag along an axis to keep the trials that pass there, click on the axis to release
them, or click on a line to see its trial. The table below shows the kept trials.</span></p>
<ul class="key">
{% for kind, text in [("front", "front"), ("baseline", "baseline"), ("excluded", "excluded by a flag"), ("", "other trial")] %}
<li><svg class="dash" aria-hidden="true"><path class="{{ kind }}" d="M0 6h28"/></svg> {{ text }}</li>
{% endfor %}
</ul>
<div class="scroll plain" role="region" aria-label="Parallel coordinates" tabindex="0">
<svg id="lines" viewBox="0 0 {{ width }} {{ height }}" style="min-width:{{ min_width }}px" role="img"
 aria-label="{{ description }}">
{% for path in paths %}{{ line(path) }}{% endfor %}
{% for axis in axes %}{{ scale(axis, loop.index0) }}{% endfor %}
</svg></div>
<details class="filters live"><summary>Filter by values</summary><div>
{% for axis in axes %}{{ value_filter(axis, loop.index0) }}{% endfor %}
</div></details>
<p class="live" id="kept" role="status"></p>
{% else %}
<p>There are too few trials for a figure.</p>
{% endif %}
{{ m.table(caption, heads, rows, knobs=knobs) }}
{% if mlflow %}
<p>MLflow shows the trials with their objectives and searched knobs, as
{% for kind in ("table", "charts") %}
<a href="{{ mlflow[kind] }}" target="_blank" rel="noreferrer">{{ kind }}</a>{{ " and as " if loop.first }}
{%- endfor %}
{% if mlflow.command %}, while this command runs where the study was started: <code>{{ mlflow.command }}</code>{% endif %}.
{% if mlflow.study %}The results of the study and its files are in
<a href="{{ mlflow.study }}" target="_blank" rel="noreferrer">its run</a>.{% endif %}</p>
{% endif %}
"""


def data(context: ReportContext) -> dict[str, Any]:
    """Values for the template."""
    outcome = context.outcome
    axes = axes_of(outcome)
    paths = paths_of(outcome, axes)
    if len(paths) < 2 or len(axes) < 2:
        paths = []
    front, shown, common = {t.number for t in outcome.front()}, columns(outcome), flags_on_all(outcome)
    width = LEFT + STEP * (len(axes) - 1) + LEFT
    return {
        "axes": axes, "paths": paths, "left": LEFT, "step": STEP, "top": TOP, "length": HEIGHT, "width": width,
        "height": TOP + HEIGHT + FOOT, "min_width": round(width * 0.72),
        "description": f"A line for each of {counted(len(paths), 'trial')} through {counted(len(axes), 'axis', 'axes')}: "
        f"{', '.join(a.title for a in axes)}.",
        "caption": "Every trial that ended; a click on a header sorts, a click on a trial shows everything about it"
        + common_note(common),
        "heads": ["trial", "status", "baseline", *objective_heads(outcome), "flags", *shown],
        "rows": [
            [
                t.number, status(t, front), t.baseline, *objective_cells(t, outcome), flag_cell(t, common),
                *map(t.params.get, shown),
            ]
            for t in outcome.trials
        ],
        "knobs": len(shown), "mlflow": mlflow_links(outcome),
    }  # fmt: skip


CARD = Card("trials", "All trials", data, TEMPLATE, link="All trials")
