"""The HTML report and its tables. Whatever a user could have written goes through `escape`."""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

from core import space
from core.audits.roc import unresolved
from core.audits.threshold import FPRS
from core.config import Objective
from core.flags import FLAGS
from core.space import Value
from core.stats import Interval
from trainables import coordinates, details, knobs
from trainables.curves import over_epsilon
from trainables.outcome import Confirmed, Outcome, Trial
from trainables.words import answer, columns, knee, label, named, show

WEB = Path(__file__).parent / "web"
"""The page around the words: its frame, its style, and the script that sorts, filters and shows a trial's details."""


def render(outcome: Outcome, charts: str, pictures: Mapping[str, str]) -> str:
    """The whole page. The interactive pictures of the front, and still ones by section, are HTML already."""
    frame, style, script = ((WEB / f"report.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js"))
    return Template(frame).substitute(
        style=style,
        script=script,
        data=details.data(outcome),
        title=escape(f"{outcome.study}: {outcome.name}"),
        study=escape(outcome.study),
        name=escape(outcome.name),
        question=escape(outcome.question),
        answer="".join(f"<li>{sentence}</li>" for sentence in answer(outcome)),
        charts=charts,
        front=_front_table(outcome),
        flags=_flags_table(outcome),
        confirmed=_confirmed_table(outcome),
        growth=_growth(outcome) + pictures["growth"],
        knobs=knobs.section(outcome),
        coordinates=coordinates.section(outcome),
        radii=pictures["radii"] + _radii_table(outcome),
        audits=_audits(outcome) + pictures["audits"],
        seen=pictures["seen"]
        or "<p>None. <code>judge.inversion=ascent</code> and <code>judge.attribution=50</code> make some.</p>",
        trials=_trials_table(outcome),
        failed=_failed_table(outcome),
        facts="".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in _facts(outcome).items()),
    )


def _growth(outcome: Outcome) -> str:
    """Where the front last grew; HTML."""
    curve = outcome.hypervolume_curve()
    if not curve:
        return "<p>No trial has numbers yet.</p>"
    if not curve[-1]:
        return f"<p>After {len(curve)} trials the front is empty.</p>"
    last = 1 + next((i for i, value in enumerate(curve) if value == curve[-1]), 0)
    return f"<p>After {len(curve)} trials the front dominates {curve[-1]:.3f} of the box; it last grew with the {_th(last)}.</p>"


def _th(count: int) -> str:
    return f"{count}{'th' if count % 100 in (11, 12, 13) else {1: 'st', 2: 'nd', 3: 'rd'}.get(count % 10, 'th')}"


def _facts(outcome: Outcome) -> dict[str, str]:
    """What the run says of itself, and what was asked of it."""
    objectives = (f"{o.metric} {o.direction}, ideal {o.ideal:g}, reference {o.reference:g}" for o in outcome.objectives)
    searched = (f"{name} {space.text(span)}" for name, span in outcome.space.items())
    return outcome.facts | {"objectives": "; ".join(objectives), "space": "; ".join(searched)}


Cell = Value | tuple[float, str] | None
"""A value, or what it is sorted by and what is shown."""


def _table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[Cell]], mark: int | None = None) -> str:
    """A table that a click on a header sorts. `mark` is the number of the trial whose row is set off."""
    if not rows:
        return "<p>None.</p>"
    head = "".join(f'<th scope="col" aria-sort="none"><button type="button">{escape(h)}</button></th>' for h in heads)
    body = "".join(f"<tr{' class=mark' if row[0] == mark else ''}>{''.join(_cell(value) for value in row)}</tr>" for row in rows)
    name = escape(caption, quote=True)
    return (
        f'<div class="scroll" role="region" aria-label="{name}" tabindex="0"><table><caption><span>{name}</span></caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(value: Cell) -> str:
    if value is None or value == "":
        return "<td></td>"
    if isinstance(value, tuple):
        return f'<td data-value="{value[0]!r}">{escape(value[1])}</td>'
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f'<td class="n" data-value="{value!r}">{show(value)}</td>'
    return f"<td>{escape(show(value))}</td>"


def _objectives(trial: Trial, outcome: Outcome) -> list[Value | None]:
    return [f"{trial.metrics[o.metric]:.4f}" if o.metric in trial.metrics else None for o in outcome.objectives]


def _front_table(outcome: Outcome) -> str:
    front, balanced = outcome.front(), knee(outcome)
    shown = [c for c in columns(outcome) if any(c in t.params for t in front)]
    heads = ["trial", "baseline", *map(label, outcome.objectives), "flags", *shown]
    rows = [[t.number, t.baseline, *_objectives(t, outcome), ", ".join(t.flags), *map(t.params.get, shown)] for t in front]
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
    heads += [h for o in outcome.objectives for h in (f"{label(o)} (95 % interval)", "in the sweep")]
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


def _confirmed_cells(confirmed: Confirmed, trial: Trial, objective: Objective) -> list[Cell]:
    low, high = confirmed.intervals[objective.metric]
    interval = f"{low:.3f} to {high:.3f}" if math.isfinite(high - low) else "no interval"
    mean = confirmed.means[objective.metric]
    told = f"{mean:.4f} ({interval})".replace(" ", "\N{NO-BREAK SPACE}")
    return [(mean, told), f"{trial.metrics[objective.metric]:.4f}"]


def _radii_table(outcome: Outcome) -> str:
    """Robust accuracy in smaller and larger balls; the same as the picture."""
    shown = over_epsilon(outcome)
    if not shown:
        return "<p>Not measured: <code>judge.suite=standard</code> does, in confirm or by <code>studies/rejudge.py</code>.</p>"
    scales = sorted({scale for line in shown for scale in line.values})
    rows = [[line.number, line.name, *(_interval_text(line.values.get(scale)) for scale in scales)] for line in shown]
    heads = ["trial", "baseline", *(f"{scale:g} epsilon" for scale in scales)]
    return _table("Accuracy under PGD in balls of a multiple of epsilon, on at most 128 images; at 0 on all, unmoved", heads, rows)


def _interval_text(pair: tuple[float, Interval] | None) -> str | None:
    if pair is None:
        return None
    half = pair[1].high - pair[0]
    return (f"{pair[0]:.3f}" + (f" \u00b1 {half:.3f}" if math.isfinite(half) else "")).replace(" ", "\N{NO-BREAK SPACE}")


def _audits(outcome: Outcome) -> str:
    """What each audit found on the confirmed points, and why a true-positive rate is not given."""
    points = [c for c in outcome.confirmed if c.leaks]
    names = list(dict.fromkeys(name for c in points for name in c.leaks))
    rows = []
    for c in points:
        cells: list[Value | None] = []
        for name in names:
            leak = c.leaks.get(name)
            cells.append(_interval_text((leak.auc, leak.interval)) if leak else None)
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
    shown = columns(outcome)
    rows = [
        [
            t.number,
            details.status(t, front),
            t.baseline,
            *_objectives(t, outcome),
            ", ".join(t.flags),
            *map(t.params.get, shown),
        ]
        for t in outcome.trials
    ]
    heads = ["trial", "status", "baseline", *map(label, outcome.objectives), "flags", *shown]
    return _table("Every trial that ended; a click on a header sorts, one on a trial shows everything about it", heads, rows)


def _failed_table(outcome: Outcome) -> str:
    rows = [[t.number, t.baseline, t.error] for t in outcome.failed]
    rows += [[t.number, t.baseline, f"given up after epoch {t.stopped}: dominated there"] for t in outcome.stopped]
    return _table("Trials without numbers", ["trial", "baseline", "reason"], rows)
