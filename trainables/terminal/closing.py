"""The end of a command's output: the front, flags, revisions, and the summary as text and as JSON."""

import math
import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from rich.table import Table

from core import pareto
from core.flags import FLAGS
from core.redaction import redacted
from core.space import searched_names
from trainables.study.conclusions import (
    called,
    certainty,
    choice,
    contrast_line,
    cost,
    front_caveat,
    pick_command,
    undecided,
    undefended,
    why_chosen,
)  # fmt: skip
from trainables.study.mlflow_pages import trials_page
from trainables.study.outcome import Confirmed, Outcome, Verdict
from trainables.study.site import Site
from trainables.study.tables import confirmed_rows, contrast_rows, front_rows, point_to_ship
from trainables.study.text import (
    capital,
    counted,
    counted_verdicts,
    decimal,
    directed,
    flags_on_all,
    is_known,
    numbered_trials,
    plural,
    short,
)
from trainables.study.tracking_uri import shown, ui_command
from trainables.terminal.console import Terminal

SAME = "the same network, with the same images, settings, seed and code, is stored from an earlier training"
"""The reason why a trial is not trained."""
MARK = " ?"
"""Mark of an AUC that does not exceed its chance level."""


def front_table(outcome: Outcome) -> Table:
    """The front with the searched knobs: in the sweep, or by confirmed means with verdicts if points are confirmed.

    Trials with a flag that not every trial raises are marked. Confirmed points that are not on the front of the sweep follow.
    """
    confirmed, front, common = {point.number: point for point in outcome.confirmed}, outcome.front(), flags_on_all(outcome)
    searched, metrics = searched_names(outcome.space), [o.metric for o in outcome.objectives]
    marked = {trial.number for trial in outcome.completed if set(trial.flags) - set(common)}
    others = [t for t in outcome.completed if t.number in confirmed and t not in front]
    title = f"Front of {outcome.name}" + (f", version {outcome.version}" if outcome.revisions else "")
    captions = ["verdict with the probability of being on the front; means \u00b1 half of the 95 % interval"] * bool(confirmed)
    means = {n: _confirmed_cells(confirmed.get(n), outcome) for n in (t.number for t in (*front, *others))}
    captions += ["? not resolved: does not exceed the chance level"] * any(c.endswith(MARK) for own in means.values() for c in own)
    captions += ["! flagged in the sweep, see below"] * any(trial.number in marked for trial in (*front, *others))
    table = Table(title=title, title_justify="left", caption="; ".join(captions) or None, caption_justify="left")
    table.add_column("trial", justify="right", min_width=5)
    if confirmed:
        table.add_column("verdict", no_wrap=True)
    for heading in metrics:
        table.add_column(heading, justify="right", no_wrap=bool(confirmed))
    for heading in searched:
        table.add_column(heading, justify="right")
    for trial in (*front, *others):
        cells = means[trial.number] if confirmed else [decimal(trial.metrics[m]) for m in metrics]
        table.add_row(
            f"{trial.number} {trial.baseline}".strip() + " !" * (trial.number in marked), *cells,
            *(short(trial.params[name]) if name in trial.params else "-" for name in searched),
            end_section=bool(others and front) and trial is front[-1],
        )  # fmt: skip
    return table


def _confirmed_cells(point: Confirmed | None, outcome: Outcome) -> list[str]:
    """The verdict with its probability, and the confirmed mean of each objective with half of its interval."""
    if point is None:
        return ["not confirmed" if outcome.revisions else "failed", *["-"] * len(outcome.objectives)]
    cells = []
    for metric in (o.metric for o in outcome.objectives):
        low, high = point.intervals[metric]
        width = f"\u00b1{(high - low) / 2:.3f}" if is_known(point.intervals[metric]) else ""
        cells.append(f"{decimal(point.means[metric])}{width}" + MARK * (metric == "mia_auc" and not point.resolved))
    flags = f" ({', '.join(point.flags)})" if point.flags else ""
    return [f"{point.verdict}{flags} {point.probability:.2f}", *cells]


def confirmation_lines(outcome: Outcome) -> list[str]:
    """Lines about the confirmation step: verdicts, chance level, contrasts, the point to ship, and what is undecided.

    Without confirmed points, there is only the chance level of the sweep.
    """
    chance = [line] if (line := _chance_line(outcome)) else []
    if outcome.confirmation is None:
        return chance
    groups = {verdict: [c.number for c in outcome.confirmed if c.verdict is verdict] for verdict in Verdict}
    words = [counted_verdicts(verdict, len(own)) + f" ({numbered_trials(own)})" * bool(own) for verdict, own in groups.items()]
    lines = [f"confirmation of {counted(len(outcome.confirmed), 'point')}: {'; '.join(words)}", *chance]
    lines += [f"contrast: {contrast_line(answer, outcome)}" for answer in outcome.confirmation.contrasts]
    lines += [f"contrast: {question} no answer: {why}" for question, why in outcome.confirmation.unanswered.items()]
    chosen, baseline = choice(outcome), undefended(outcome)
    if isinstance(chosen, str):
        lines.append(f"point to ship: none, {chosen}")
    else:
        lines.append(f"point to ship: {called(chosen.point.number, outcome)}, {why_chosen(chosen, outcome)}")
        lines += [f"{capital(caveat)}."] if (caveat := front_caveat(chosen.point)) else []
        lines += [cost(chosen, baseline, outcome)] if baseline not in (None, chosen.point.number) else []
        lines += [certainty(chosen, outcome), "To register its model:", f"  {pick_command(chosen, outcome)}"]
    left = undecided(outcome)
    return [*lines, *left.lines, *([f"  {left.command}"] if left.command else [])]


def _chance_line(outcome: Outcome) -> str:
    """The chance levels of the AUCs of confirmed points, or of the front, and those that do not exceed theirs; empty if unknown."""
    levels, below = [point.chance for point in outcome.confirmed if math.isfinite(point.chance)], []
    if outcome.confirmed:
        below = [point.number for point in outcome.confirmed if not point.resolved]
    else:
        having = [trial for trial in outcome.front() if "mia_auc_chance" in trial.metrics]
        levels = [trial.metrics["mia_auc_chance"] for trial in having]
        below = [trial.number for trial in having if trial.metrics["mia_auc"] <= trial.metrics["mia_auc_chance"]]
    if not levels:
        return ""
    span = f"{min(levels):.3f}" + (f" to {max(levels):.3f}" if f"{min(levels):.3f}" != f"{max(levels):.3f}" else "")
    return f"chance level of mia_auc: {span}" + (f"; not resolved: {numbered_trials(below)}" if below else "")


def flag_lines(outcome: Outcome) -> list[str]:
    """One line for each flag that is on the front or excludes a trial from it: whose numbers raise it, trials, meaning, advice."""
    front, excluded = ({t.number for t in trials} for trials in (outcome.front(), outcome.excluded()))
    lines, common = [], flags_on_all(outcome)
    for name, trials in outcome.flags().items():
        raised = {t.number for t in trials}
        where = [
            f"{place}: {numbered_trials(raised & group)}"
            for place, group in (("on its front", front), ("excluded from its front", excluded))
            if raised & group
        ]
        if name in common and not (name in FLAGS and FLAGS[name].excludes):
            where = ["every trial"]
        if where:
            lines.append(_flag_line(name, "the sweep's numbers", "; ".join(where)))
    for name in sorted({flag for point in outcome.confirmed for flag in point.flags}):
        points = [point.number for point in outcome.confirmed if name in point.flags]
        lines.append(_flag_line(name, "the confirmed numbers", f"excluded from their front: {numbered_trials(points)}"))
    return lines


def _flag_line(name: str, numbers: str, where: str) -> str:
    """The line about a flag that is raised by the numbers of the sweep or of the confirmation step."""
    text = f": {FLAGS[name].means}; {FLAGS[name].advice}" if name in FLAGS else ""
    return f"flag {name}, raised by {numbers} ({where}){text}"


def revision_lines(outcome: Outcome) -> list[str]:
    """Lines that describe the effect of the newest re-evaluation on the front."""
    revision, trials = outcome.revisions[-1], {t.number: t for t in outcome.trials}

    def names(numbers: Iterable[int]) -> str:
        return ", ".join(f"{n} {trials[n].baseline}".strip() for n in numbers) or "none"

    lines = [
        f"{metric}: on average {directed(shift.mean)} over {counted(len(outcome.completed), 'trial')}; "
        f"largest change {directed(shift.largest)} (trial {shift.trial})"
        for metric, shift in revision.shifts.items()
    ]
    lines += [] if lines else ["no objective changed"]
    lines.append(f"left the front: {names(revision.left)}; entered it: {names(revision.entered)}")
    for flag in sorted({flag for flags in revision.raised.values() for flag in flags}):
        raised = [number for number, flags in revision.raised.items() if flag in flags]
        lines.append(f"new flag {flag}: {plural(len(raised), 'trial')} {names(raised)}")
    return lines


def location_lines(folder: str, site: Site, outcome: Outcome) -> list[str]:
    """The location of the report in a study's folder, the command that opens MLflow, and the page of the trials there."""
    mlflow = site.tracking_uri if site.tracking_uri.startswith("http") else ui_command(site.tracking_uri, sys.executable)
    place, question, options = folder.partition("?") if "://" in folder else (folder, "", "")
    lines = [f"report: {redacted(f'{place}/report.html{question}{options}')}", f"MLflow: {redacted(mlflow)}"]
    return lines + ([f"trials: {trials_page(outcome.mlflow, outcome.name)}"] if outcome.mlflow.experiment else [])


def summary_json(outcome: Outcome, folder: str, site: Site, mlflow_run: str, code: int) -> dict[str, Any]:
    """The summary of a study that `--json` prints."""
    counts = {"planned": outcome.planned, "completed": len(outcome.completed)}
    counts |= {"failed": len(outcome.failed), "stopped": len(outcome.early_stopped)}
    return {
        "name": outcome.name, "study": outcome.study, "exit_code": code, "version": outcome.version, "trials": counts,
        "hypervolume": outcome.hypervolume(), "front": front_rows(outcome), "confirmed": confirmed_rows(outcome),
        "contrasts": contrast_rows(outcome), "point_to_ship": point_to_ship(outcome),
        "folder": redacted(folder), "tracking_uri": shown(site.tracking_uri), "mlflow_run": mlflow_run,
    }  # fmt: skip


def print_summary(outcome: Outcome, folder: str, site: Site, terminal: Terminal, undelivered: int, last_error: str) -> int:
    """Print the last lines of a study.

    Args:
        outcome: the study.
        folder: its folder.
        site: where it ran.
        terminal: where to print.
        undelivered: number of writes that did not reach MLflow.
        last_error: reason of the last of them.

    Returns:
        The exit code: 0 if everything succeeded, otherwise 1.
    """
    info, error = terminal.info, terminal.error
    for line in confirmation_lines(outcome):
        info(line)
    points = {point.number for point in outcome.confirmed}
    unconfirmed = {trial.number for trial in outcome.front()} - points if points else set()
    lost = set() if outcome.revisions else unconfirmed
    for point in outcome.confirmed:
        if point.failed:
            error(f"confirmation: {counted(point.failed, 'replicate')} of trial {point.number} failed")
    if lost:
        error(f"confirmation: every replicate failed of {numbered_trials(lost)}")
    elif unconfirmed:
        are, they = plural(len(unconfirmed), "is", "are"), plural(len(unconfirmed), "it", "they")
        info(f"confirmation: {numbered_trials(unconfirmed)} {are} not confirmed, because {they} entered the front later")
    if reused := sum(bool(trial.reused_from) for trial in outcome.trials):
        info(f"{reused} of {counted(len(outcome.trials), 'trial')} {plural(reused, 'was', 'were')} not trained again: {SAME}")
    for line in (*flag_lines(outcome), *location_lines(folder, site, outcome)):
        info(line)
    if undelivered:
        error(undelivered_line(undelivered, last_error, f"--resume {outcome.name}"))
    for trial in outcome.failed:
        error(f"trial {trial.number} failed: {trial.error}")
    if missing := outcome.planned - len(outcome.trials):
        error(f"{counted(missing, 'trial')} {plural(missing, 'was', 'were')} not run; resume with --resume {outcome.name}")
    if not outcome.front():
        error(_why_empty(outcome))
    incomplete = outcome.failed or undelivered or missing or lost or not outcome.front()
    return 1 if incomplete or any(point.failed for point in outcome.confirmed) else 0


def undelivered_line(count: int, error: str, command: str) -> str:
    """The line about writes that did not reach MLflow, and what delivers them."""
    is_full = any(text in error for text in ("temporary folder", "No space left", "disk is full", "Read-only", "readonly"))
    when = "when it can be written again" if is_full else "when it is up again"
    return f"{counted(count, 'write')} did not reach MLflow ({error}); {when}: {command}"


def _why_empty(outcome: Outcome) -> str:
    """The reason why the front is empty, and what to change."""
    feasible = replace(outcome, require=()).front()
    if not feasible:
        return "the front is empty: no trial is better than chance and free of excluding flags; train longer"
    wanted = " and ".join(map(str, outcome.require))
    nearest = min(feasible, key=lambda trial: sum(pareto.violations(trial.metrics, outcome.require)))
    values = ", ".join(f"{c.metric} {decimal(nearest.metrics.get(c.metric, math.nan), 4)}" for c in outcome.require)
    return f"the front is empty: no trial has {wanted}; the nearest is trial {nearest.number} with {values}; relax the constraints"
