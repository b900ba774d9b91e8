"""The words and tables of the HTML report. Whatever a user could have written goes through `escape`."""

import math
from collections.abc import Iterable, Sequence
from html import escape
from string import Template

from core import pareto, space
from core.audits.roc import unresolved
from core.audits.threshold import FPRS
from core.config import Objective
from core.flags import FLAGS
from core.space import Value
from trainables.outcome import Change, Confirmed, Outcome, Trial

LABELS = {"mia_auc": "membership-inference AUC"}
"""Names for people, where the metric's own name does not read well."""


def label(objective: Objective) -> str:
    """The objective's name for people."""
    return LABELS.get(objective.metric, objective.metric.replace("_", " "))


def knee(outcome: Outcome) -> Trial | None:
    """The balanced compromise of the sweep's front, if there is a front."""
    front = outcome.front()
    return front[pareto.knee(pareto.losses([t.metrics for t in front], outcome.objectives))] if front else None


def show(value: Value) -> str:
    """A value as a table shows it: four digits of a number, words as they are. Not escaped."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def named(trial: Trial) -> str:
    """`trial 3`, with its baseline's name if it has one. Not escaped."""
    return f"trial {trial.number}" + (f" ({trial.baseline})" if trial.baseline else "")


def render(outcome: Outcome, charts: str, audits: str, seen: str) -> str:
    """The whole page around pictures of the front, of the audits and of what the networks show, which are HTML already."""
    return PAGE.substitute(
        style=STYLE,
        script=SCRIPT,
        title=escape(f"{outcome.study}: {outcome.name}"),
        study=escape(outcome.study),
        name=escape(outcome.name),
        question=escape(outcome.question),
        answer="".join(f"<li>{sentence}</li>" for sentence in _answer(outcome)),
        charts=charts,
        front=_front_table(outcome),
        flags=_flags_table(outcome),
        confirmed=_confirmed_table(outcome),
        audits=_audits(outcome) + audits,
        seen=seen or "<p>None. <code>judge.inversion=ascent</code> and <code>judge.attribution=50</code> make some.</p>",
        trials=_trials_table(outcome),
        failed=_failed_table(outcome),
        facts="".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in _facts(outcome).items()),
    )


def _facts(outcome: Outcome) -> dict[str, str]:
    """What the run says of itself, and what was asked of it."""
    objectives = (f"{o.metric} {o.direction}, ideal {o.ideal:g}, reference {o.reference:g}" for o in outcome.objectives)
    searched = (f"{name} {space.text(span)}" for name, span in outcome.space.items())
    return outcome.facts | {"objectives": "; ".join(objectives), "space": "; ".join(searched)}


def _answer(outcome: Outcome) -> Iterable[str]:
    """The outcome in sentences, most important first; HTML."""
    front, done, failed = outcome.front(), outcome.done, outcome.failed
    yield (
        f"<b>{len(done)} of {outcome.planned} planned trials are done, {len(failed)} failed.</b> "
        f"{len(front)} {'is' if len(front) == 1 else 'are'} on the front, "
        f"which dominates {outcome.hypervolume():.3f} of the box between the ideal and the reference (hypervolume)."
    )
    for objective in outcome.objectives if front else ():
        best = min(front, key=lambda t: objective.loss(t.metrics[objective.metric]))
        yield f"Best {escape(label(objective))}: {_numbers(best, [objective])}, {escape(named(best))}."
    if balanced := knee(outcome):
        yield (
            f"The knee, the balanced compromise, is <b>{escape(named(balanced))}</b>: "
            f"{_numbers(balanced, outcome.objectives, names=True)}."
        )
    if baselines := [t for t in done if t.baseline]:
        parts = [f"{escape(t.baseline)} {'is' if t in front else 'is not'}" for t in baselines]
        yield f"Baselines on the front: {', '.join(parts)}."
    yield from _confirm_changed(outcome)
    for change in outcome.changes:
        yield _changed(change, outcome)
    if flagged := [t for t in front if t.flags]:
        parts = [f"{escape(named(t))}: {escape(', '.join(t.flags))}" for t in flagged]
        yield f"On the front but flagged, to be read with care: {'; '.join(parts)}."
    if kept_off := outcome.kept_off():
        parts = [f"{escape(named(t))}: {escape(', '.join(t.flags))}" for t in kept_off]
        yield f"Kept off the front by their flags: {'; '.join(parts)}."


def _changed(change: Change, outcome: Outcome) -> str:
    """What a later look did to the front; HTML."""
    trials = {t.number: t for t in outcome.trials}
    names = lambda numbers: ", ".join(escape(named(trials[n])) for n in numbers) or "none"  # noqa: E731
    moves = [
        f"{escape(label(o))} moved by {_signed(move.mean)} on average, at most by {_signed(move.largest)} ({names([move.trial])})"
        for o in outcome.objectives
        if (move := change.moves.get(o.metric))
    ]
    return (
        f"<b>Version {change.version} of the front</b>, from the stored networks {escape(change.how)}: "
        f"{'; '.join(moves) or 'no objective moved'}. Left the front: {names(change.left)}; entered it: {names(change.entered)}."
    )


def _numbers(trial: Trial, objectives: Sequence[Objective], names: bool = False) -> str:
    parts = (f"{trial.metrics[o.metric]:.3f}" + (f" {escape(label(o))}" if names else "") for o in objectives)
    return ", ".join(parts)


def _confirm_changed(outcome: Outcome) -> Iterable[str]:
    """What the second look did to the first."""
    if not outcome.confirmed:
        yield "Nothing is confirmed: every number here is a first look, on <code>val</code>."
        return
    trials = {t.number: t for t in outcome.trials}
    gone = [escape(named(trials[c.number])) for c in outcome.confirmed if not c.on_front]
    kept = len(outcome.confirmed) - len(gone)
    yield (
        f"Confirm re-trained {len(outcome.confirmed)} front trials and judged them on <code>test</code>: "
        f"{kept} stayed on the front, {len(gone)} left it{': ' + ', '.join(gone) if gone else ''}."
    )
    shifts = []
    for o in outcome.objectives:
        moves = [c.means[o.metric] - trials[c.number].metrics[o.metric] for c in outcome.confirmed]
        shifts.append(f"{escape(label(o))} by {_signed(sum(moves) / len(moves))}")
    yield f"From sweep to confirm the means moved: {', '.join(shifts)}."


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def _table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[Value | None]], mark: int | None = None) -> str:
    """A table that a click on a header sorts. `mark` is the number of the trial whose row is set off."""
    if not rows:
        return "<p>None.</p>"
    head = "".join(f'<th scope="col" aria-sort="none"><button type="button">{escape(h)}</button></th>' for h in heads)
    body = "".join(f"<tr{' class=mark' if row[0] == mark else ''}>{''.join(_cell(value) for value in row)}</tr>" for row in rows)
    name = escape(caption, quote=True)
    return (
        f'<div class="scroll" role="region" aria-label="{name}" tabindex="0"><table><caption>{name}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(value: Value | None) -> str:
    if value is None or value == "":
        return "<td></td>"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f'<td class="n" data-value="{value!r}">{show(value)}</td>'
    return f"<td>{escape(show(value))}</td>"


def _objectives(trial: Trial, outcome: Outcome) -> list[Value | None]:
    return [f"{trial.metrics[o.metric]:.4f}" if o.metric in trial.metrics else None for o in outcome.objectives]


def _front_table(outcome: Outcome) -> str:
    front, balanced = outcome.front(), knee(outcome)
    columns = [c for c in outcome.columns() if any(c in t.params for t in front)]
    heads = ["trial", "baseline", *map(label, outcome.objectives), "flags", *columns]
    rows = [[t.number, t.baseline, *_objectives(t, outcome), ", ".join(t.flags), *map(t.params.get, columns)] for t in front]
    version = f", version {outcome.version}" if outcome.changes else ""
    caption = f"Front of the sweep{version}; {named(balanced)}, in bold, is the knee" if balanced else ""
    return _table(caption, heads, rows, mark=balanced.number if balanced else None)


def _flags_table(outcome: Outcome) -> str:
    """Every flag that is raised on a trial or in confirm: what it means, what to do, and what it did to the front."""
    raised = {flag: [t.number for t in trials] for flag, trials in outcome.flags().items()}
    again = {flag: [c.number for c in outcome.confirmed if flag in c.flags] for c in outcome.confirmed for flag in c.flags}
    kept_off = {t.number: t.flags for t in outcome.kept_off()}
    rows = []
    for name in dict.fromkeys([*raised, *again]):
        flag, on = FLAGS.get(name), raised.get(name, [])
        off = [number for number, flags in kept_off.items() if name in flags]
        bars = f"barred from the front; would be on it: {_numbered(off)}" if flag and flag.bars else "marked"
        rows.append([
            name, flag.means if flag else "not known to this version", flag.advice if flag else "",
            "every trial" if len(on) == len(outcome.done) > 1 else _numbered(on), _numbered(again.get(name, [])), bars,
        ])  # fmt: skip
    return _table("Why not to believe a number", ["flag", "it means", "what to do", "trials", "in confirm", "effect"], rows)


def _numbered(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers))) or "none"


def _confirmed_table(outcome: Outcome) -> str:
    trials = {t.number: t for t in outcome.trials}
    heads = ["trial", "baseline", "replicates"]
    heads += [h for o in outcome.objectives for h in (label(o), "95% interval", "in the sweep")]
    rows = [
        [
            c.number,
            trials[c.number].baseline,
            f"{c.replicates} ({c.failed} failed)" if c.failed else c.replicates,
            *(cell for o in outcome.objectives for cell in _confirmed_cells(c, trials[c.number], o)),
            f"{c.probability:.3f}",
            "stays" if c.on_front else f"left: {', '.join(c.flags)}" if c.flags else "left",
        ]
        for c in outcome.confirmed
    ]
    return _table("Means over replicates, on test", [*heads, "probability non-dominated", "front"], rows)


def _confirmed_cells(confirmed: Confirmed, trial: Trial, objective: Objective) -> list[Value | None]:
    low, high = confirmed.intervals[objective.metric]
    interval = f"{low:.4f} to {high:.4f}".replace(" ", "\N{NO-BREAK SPACE}") if math.isfinite(high - low) else "none"
    return [f"{confirmed.means[objective.metric]:.4f}", interval, f"{trial.metrics[objective.metric]:.4f}"]


def _audits(outcome: Outcome) -> str:
    """What each audit found on the confirmed points, and why a true-positive rate is not given."""
    points = [c for c in outcome.confirmed if c.leaks]
    names = list(dict.fromkeys(name for c in points for name in c.leaks))
    rows = []
    for c in points:
        cells: list[Value | None] = []
        for name in names:
            leak = c.leaks.get(name)
            half = leak.interval.high - leak.auc if leak else math.inf
            shown = f"{leak.auc:.3f}" + (f" \u00b1 {half:.3f}" if math.isfinite(half) else "") if leak else None
            cells.append(shown and shown.replace(" ", "\N{NO-BREAK SPACE}"))
        rows.append([c.number, *cells])
    table = _table("AUC of each audit, mean over replicates and half of its 95% interval", ["trial", *names], rows)
    return table + "".join(f"<p>{line}</p>" for line in _rates(points))


def _rates(points: Sequence[Confirmed]) -> Iterable[str]:
    """True-positive rates at low false-positive rates, or the reason why there are none; HTML."""
    for rate in FPRS:
        best = {c.number: max(((leak.tprs[rate], name) for name, leak in c.leaks.items() if rate in leak.tprs), default=None)
                for c in points}  # fmt: skip
        if found := {number: pair for number, pair in best.items() if pair}:
            told = ", ".join(f"trial {number} {tpr:.4f} ({escape(name)})" for number, (tpr, name) in found.items())
            yield f"Largest true-positive rate at a false-positive rate of {100 * rate:g} %: {told}."
        elif counts := {sum(c.histogram["non_members"]) // c.replicates for c in points if c.histogram}:
            yield f"No true-positive rate at {100 * rate:g} %: {escape(unresolved(rate, max(counts)))}."


def _trials_table(outcome: Outcome) -> str:
    front = {t.number for t in outcome.front()}
    columns = outcome.columns()
    rows = [
        [
            t.number,
            "failed" if t.error else "front" if t.number in front else "barred" if t.barred else "done",
            t.baseline,
            *_objectives(t, outcome),
            ", ".join(t.flags),
            *map(t.params.get, columns),
        ]
        for t in outcome.trials
    ]
    heads = ["trial", "status", "baseline", *map(label, outcome.objectives), "flags", *columns]
    return _table("Every trial that ended; a click on a header sorts", heads, rows)


def _failed_table(outcome: Outcome) -> str:
    rows = [[t.number, t.baseline, t.error] for t in outcome.failed]
    return _table("Trials without numbers", ["trial", "baseline", "reason"], rows)


STYLE = """
:root { color-scheme: light; --ink: #1b1f24; --soft: #555d66; --line: #d5dae0; --blue: #0072b2 }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 76rem; padding: 2rem 1.25rem 4rem; color: var(--ink); background: #fff;
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; overflow-wrap: break-word }
h1 { margin: 0; font-size: 1.9rem; line-height: 1.2; letter-spacing: -.01em }
h2 { margin: 2.75rem 0 .75rem; font-size: 1.25rem; line-height: 1.3 }
p, ul { max-width: 46rem }
ul { padding-left: 1.2rem }
li { margin: .3rem 0 }
.name { margin: .25rem 0 1.25rem; color: var(--soft) }
.question { margin: 0; font-size: 1.2rem; line-height: 1.45 }
.key { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; max-width: none; margin: 0 0 .5rem; padding: 0;
  list-style: none; font-size: .9rem; color: var(--soft) }
.charts { display: grid; gap: 1.25rem 1.5rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)) }
figure img { max-width: 100%; height: auto }
figure { margin: 0; min-width: 0; max-width: 46rem; break-inside: avoid }
.chart { height: 24rem; overflow: hidden }
figcaption { font-size: .9rem; color: var(--soft) }
.scroll { overflow-x: auto; border-block: 1px solid var(--line) }
table { width: 100%; border-collapse: collapse; font-size: .875rem; line-height: 1.35;
  font-variant-numeric: tabular-nums }
caption { padding: .5rem .6rem; text-align: left; color: var(--soft) }
th { padding: 0; text-align: left; vertical-align: bottom; border-bottom: 1px solid var(--ink) }
th button { width: 100%; padding: .45rem .6rem; border: 0; background: none; color: inherit; font: inherit;
  font-weight: 600; text-align: inherit; cursor: pointer; overflow-wrap: normal }
th button:hover { background: #eef2f6 }
th[aria-sort=ascending] button::after { content: "\\00a0\\2191" }
th[aria-sort=descending] button::after { content: "\\00a0\\2193" }
td { padding: .35rem .6rem; border-top: 1px solid #eceff2; vertical-align: top }
td.n { white-space: nowrap }
tr.mark td { font-weight: 700 }
:focus-visible { outline: 2px solid var(--blue); outline-offset: -2px }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.25rem; font-size: .9rem }
dt { color: var(--soft) }
dd { margin: 0; min-width: 0; overflow-wrap: anywhere;
  font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; gap: 0 } dd { margin-bottom: .6rem } }
@media print { body { padding: 0; font-size: 10pt } .scroll { overflow: visible; border: 0 } .modebar { display: none }
  table { font-size: 7pt } th button { padding: .2rem } td { padding: .2rem; white-space: normal }
  figure:has(#cube) { display: none }  /* WebGL prints blank, and the pairs show the same points */
  .charts { display: block } .chart { overflow: visible } tr { break-inside: avoid } h2 { break-after: avoid } }
"""

SCRIPT = """
// A picture is drawn before the page has its width.
addEventListener("load", () => dispatchEvent(new Event("resize")));
for (const button of document.querySelectorAll("th button")) button.addEventListener("click", () => {
  const head = button.parentElement, column = head.cellIndex, body = head.closest("table").tBodies[0];
  const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const other of head.parentElement.cells) other.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
  const key = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const compare = (a, b) => {
    if (!a || !b) return (a ? 0 : 1) - (b ? 0 : 1);  // empty cells stay last either way
    return sign * (isNaN(a - b) ? a.localeCompare(b, "en", {numeric: true}) : a - b);
  };
  body.append(...[...body.rows].sort((a, b) => compare(key(a), key(b))));
});
"""

# The policy makes the browser itself refuse any request that this page could try.
PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:;
 form-action 'none'; base-uri 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style>
</head>
<body>
<header>
<h1>$study</h1>
<p class="name">$name</p>
<p class="question">$question</p>
</header>
<main>
<section aria-labelledby="answer"><h2 id="answer">Answer</h2><ul>$answer</ul></section>
<section aria-labelledby="pictures"><h2 id="pictures">Pictures</h2>$charts</section>
<section aria-labelledby="front"><h2 id="front">Front</h2>$front</section>
<section aria-labelledby="flags"><h2 id="flags">Flags</h2>$flags</section>
<section aria-labelledby="confirmed"><h2 id="confirmed">Confirmed</h2>$confirmed</section>
<section aria-labelledby="audits"><h2 id="audits">Audits of the confirmed points</h2>
<p>Without a suffix, <code>lira</code>, <code>calibrated</code> and <code>rmia</code> let a point's replicates audit each
other: their attacker knows networks that were trained on the very images in question, and others that were not. With
<code>_offline</code>, and in <code>nn</code>, the attacker has shadow models on other images of the same source. All others
see this one network only. All know the recipe and its knobs.</p>$audits</section>
<section aria-labelledby="seen"><h2 id="seen">What the networks show</h2>$seen</section>
<section aria-labelledby="trials"><h2 id="trials">All trials</h2>$trials</section>
<section aria-labelledby="failed"><h2 id="failed">Failed trials</h2>$failed</section>
<section aria-labelledby="caveats"><h2 id="caveats">Caveats</h2>
<ul>
<li>Numbers of the sweep are from <code>val</code>, and the front is picked from many noisy trials: they are biased
towards the good side. Quote the confirmed ones, which are from <code>test</code>, fresh seeds and fresh members.</li>
<li>An audit is a lower bound on leakage: another attacker may tell members from non-members better, and the threshold
audits of a sweep are the weakest. An attack is an upper bound on robust accuracy: a stronger one may fool more
images.</li>
<li>Intervals are Student's, over few replicates. They cover seeds and the draw of members, not another data set or
threat model. A single replicate has none.</li>
<li>The probability of being non-dominated compares confirmed points with each other only.</li>
<li>The knee depends on the extent of the front: it is a place to start, not a recommendation.</li>
</ul></section>
</main>
<footer><section aria-labelledby="facts"><h2 id="facts">Facts</h2><dl>$facts</dl></section></footer>
<script>$script</script>
</body>
</html>
""")
