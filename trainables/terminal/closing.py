"""The end of a command's output: the front, flags, revisions, and the summary as text and as JSON."""

import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from rich.table import Table

from core import pareto
from core.flags import FLAGS
from core.redaction import redacted
from core.space import Value, searched_names
from trainables.study.outcome import Confirmed, Outcome
from trainables.study.site import Site
from trainables.study.tables import confirmed_rows, front_rows
from trainables.study.text import numbers
from trainables.study.tracking_uri import shown, ui_command
from trainables.terminal.console import Terminal


def front_table(outcome: Outcome) -> Table:
    """The front with the searched knobs, and the confirmed means if there are any; flagged trials are marked."""
    confirmed = {point.number: point for point in outcome.confirmed}
    searched = searched_names(outcome.space)
    caption = "! flagged, see below" if any(trial.flags for trial in outcome.front()) else None
    version = f", version {outcome.version}" if outcome.revisions else ""
    table = Table(title=f"Front of {outcome.name}{version}", title_justify="left", caption=caption, caption_justify="left")
    for heading in ("trial", *(o.metric for o in outcome.objectives), *searched):
        table.add_column(heading, justify="right")
    if confirmed:
        table.add_column("confirmed")
    for trial in outcome.front():
        cells = [
            f"{trial.number} {trial.baseline}".strip() + (" !" if trial.flags else ""),
            *(f"{trial.metrics[o.metric]:.3f}" for o in outcome.objectives),
            *(_short(trial.params.get(name)) for name in searched),
        ]
        if confirmed:
            point = confirmed.get(trial.number)
            cells.append(_verdict(point, outcome) if point else "not confirmed" if outcome.revisions else "failed")
        table.add_row(*cells)
    return table


def _verdict(point: Confirmed, outcome: Outcome) -> str:
    means = " / ".join(f"{point.means[o.metric]:.3f}" for o in outcome.objectives)
    verdict = point.verdict + (f" ({', '.join(point.flags)})" if point.flags else "")
    return f"{means}  {verdict}  p={point.probability:.2f}"


def _short(value: Value | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def flag_lines(outcome: Outcome) -> list[str]:
    """One line for each flag that is on the front or excludes a trial from it: trials, meaning and advice."""
    front, excluded = ({t.number for t in trials} for trials in (outcome.front(), outcome.excluded()))
    lines = []
    for name, trials in outcome.flags().items():
        raised = {t.number for t in trials}
        where = [
            f"{place} {numbers(raised & group)}"
            for place, group in (("on the front: trials", front), ("excluded from the front: trials", excluded))
            if raised & group
        ]
        if where:
            text = f": {FLAGS[name].means}; {FLAGS[name].advice}" if name in FLAGS else ""
            lines.append(f"flag {name} ({'; '.join(where)}){text}")
    return lines


def revision_lines(outcome: Outcome) -> list[str]:
    """Lines that describe the effect of the newest re-evaluation on the front."""
    revision, trials = outcome.revisions[-1], {t.number: t for t in outcome.trials}

    def names(numbers: Iterable[int]) -> str:
        return ", ".join(f"{n} {trials[n].baseline}".strip() for n in numbers) or "none"

    lines = [
        f"{metric}: {shift.mean:+.3f} on average over {len(outcome.completed)} trials, "
        f"largest {shift.largest:+.3f} (trial {shift.trial})"
        for metric, shift in revision.shifts.items()
    ]
    lines += [] if lines else ["no objective changed"]
    lines.append(f"left the front: {names(revision.left)}; entered it: {names(revision.entered)}")
    for flag in sorted({flag for flags in revision.raised.values() for flag in flags}):
        lines.append(f"new flag {flag}: trials {names(n for n, flags in revision.raised.items() if flag in flags)}")
    return lines


def location_lines(folder: str, site: Site) -> list[str]:
    """The location of the report in a study's folder, and the command that opens MLflow."""
    mlflow = site.tracking_uri if site.tracking_uri.startswith("http") else ui_command(site.tracking_uri, sys.executable)
    place, question, options = folder.partition("?") if "://" in folder else (folder, "", "")
    return [f"report: {redacted(f'{place}/report.html{question}{options}')}", f"MLflow: {redacted(mlflow)}"]


def summary_json(outcome: Outcome, folder: str, site: Site, mlflow_run: str, code: int) -> dict[str, Any]:
    """The summary of a study that `--json` prints."""
    counts = {"planned": outcome.planned, "completed": len(outcome.completed)}
    counts |= {"failed": len(outcome.failed), "stopped": len(outcome.early_stopped)}
    return {
        "name": outcome.name, "study": outcome.study, "exit_code": code, "version": outcome.version, "trials": counts,
        "hypervolume": outcome.hypervolume(), "front": front_rows(outcome), "confirmed": confirmed_rows(outcome),
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
    left = [str(point.number) for point in outcome.confirmed if not point.on_front]
    if outcome.confirmed:
        info(f"confirmation: {len(outcome.confirmed) - len(left)} of {len(outcome.confirmed)} points stay on the front"
             + (f"; left it: {', '.join(left)}" if left else ""))  # fmt: skip
    points = {point.number for point in outcome.confirmed}
    unconfirmed = {trial.number for trial in outcome.front()} - points if points else set()
    lost = set() if outcome.revisions else unconfirmed
    for point in outcome.confirmed:
        if point.failed:
            error(f"confirmation: {point.failed} replicates of trial {point.number} failed")
    if lost:
        error(f"confirmation: every replicate failed of trials {numbers(lost)}")
    elif unconfirmed:
        info(f"confirmation: trials {numbers(unconfirmed)} are not confirmed, because they entered the front later")
    if reused := sum(bool(trial.reused_from) for trial in outcome.trials):
        info(f"{reused} of {len(outcome.trials)} trials reused cached results of the same content")
    for line in (*flag_lines(outcome), *location_lines(folder, site)):
        info(line)
    if undelivered:
        error(undelivered_line(undelivered, last_error, f"--resume {outcome.name}"))
    for trial in outcome.failed:
        error(f"trial {trial.number} failed: {trial.error}")
    if missing := outcome.planned - len(outcome.trials):
        error(f"{missing} trials were not run; resume with --resume {outcome.name}")
    if not outcome.front():
        error(_why_empty(outcome))
    incomplete = outcome.failed or undelivered or missing or lost or not outcome.front()
    return 1 if incomplete or any(point.failed for point in outcome.confirmed) else 0


def undelivered_line(count: int, error: str, command: str) -> str:
    """The line about writes that did not reach MLflow, and what delivers them."""
    is_full = any(text in error for text in ("temporary folder", "No space left", "disk is full", "Read-only", "readonly"))
    when = "when it can be written again" if is_full else "when it is up again"
    return f"{count} writes did not reach MLflow ({error}); {when}: {command}"


def _why_empty(outcome: Outcome) -> str:
    """The reason why the front is empty, and what to change."""
    feasible = replace(outcome, require=()).front()
    if not feasible:
        return "the front is empty: no trial is better than chance and free of excluding flags; train longer"
    wanted = " and ".join(map(str, outcome.require))
    nearest = min(feasible, key=lambda trial: sum(pareto.violations(trial.metrics, outcome.require)))
    values = ", ".join(f"{c.metric} {nearest.metrics.get(c.metric, float('nan')):.4f}" for c in outcome.require)
    return f"the front is empty: no trial has {wanted}; the nearest is trial {nearest.number} with {values}; relax the constraints"
