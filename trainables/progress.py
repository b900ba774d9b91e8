"""What the terminal shows while a study runs: one live table, or on anything but a terminal a line per ended trial."""

import shlex
import sys
import time
from collections.abc import Mapping

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.table import Table

from core import pareto, space
from core.errors import redacted
from core.flags import FLAGS
from core.space import Value
from trainables.outcome import Outcome, Trial
from trainables.plan import Site
from trainables.store import Store
from trainables.terminal import Terminal
from trainables.words import named


class Progress:
    """A context manager; the sweep and confirm tell it what happens."""

    def __init__(self, outcome: Outcome, console: Console | None = None):
        """Shows `outcome`, which others fill."""
        self.outcome = outcome
        self.console = console or Terminal().console
        self.running: set[int] = set()
        self.began = time.monotonic()
        self.before = len(outcome.trials)
        self.front = pareto.losses([t.metrics for t in outcome.front()], outcome.objectives)
        """Of the trials that have ended, kept up to date, so that the thousandth costs no more than the tenth."""
        self.live = Live(get_renderable=self.table, console=self.console, refresh_per_second=2, transient=True)

    def __enter__(self) -> "Progress":
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.live.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, markup=False)

    def started(self, number: int, params: Mapping[str, Value], baseline: str) -> None:
        """A trial begins."""
        del params, baseline
        self.running.add(number)

    def rows(self, number: int, rows: list[dict[str, float]]) -> None:
        """Epochs of a running trial; the table does not show them."""

    def ended(self, trial: Trial) -> None:
        """A trial ended; `outcome` holds it already."""
        self.running.discard(trial.number)
        self._grow(trial)
        if self.console.is_terminal and not trial.error:
            return
        count = f"[{len(self.outcome.trials)}/{self.outcome.planned}]"
        name = named(trial)
        if trial.error:
            self.say(f"{count} {name} failed: {trial.error}")
        elif trial.stopped:
            self.say(f"{count} {name} stopped after epoch {trial.stopped} of {trial.params['epochs']}: dominated there")
        else:
            numbers = "  ".join(f"{o.metric} {trial.metrics[o.metric]:.3f}" for o in self.outcome.objectives)
            self.say(f"{count} {name}  {numbers}  hypervolume {pareto.hypervolume(self.front):.3f}")

    def _grow(self, trial: Trial) -> None:
        made, objectives = [trial.metrics], self.outcome.objectives
        done = not trial.error and not trial.stopped
        if done and pareto.eligible(made, objectives, self.outcome.require)[0]:
            values = np.concatenate([self.front, pareto.losses(made, objectives)])
            self.front = values[pareto.non_dominated(values)]

    def eta(self) -> str:
        """Minutes and seconds to go, from the pace so far."""
        ended = len(self.outcome.trials) - self.before
        if not ended:
            return "-"
        left = (time.monotonic() - self.began) / ended * (self.outcome.planned - len(self.outcome.trials))
        return f"{int(left) // 60}:{int(left) % 60:02d}"

    def table(self) -> Table:
        """The live table."""
        done, failed = self.outcome.done, self.outcome.failed
        table = Table(title=self.outcome.name, title_justify="left")
        heads = [f"best {o.metric}" for o in self.outcome.objectives]
        for heading in ("done", "running", "stopped", "failed", *heads, "hypervolume", "ETA"):
            table.add_column(heading, justify="right")
        best = []
        for o in self.outcome.objectives:
            values = [t.metrics[o.metric] for t in done]
            best.append(f"{(max if o.direction == 'max' else min)(values):.3f}" if values else "-")
        table.add_row(
            f"{len(done)}/{self.outcome.planned}", str(len(self.running)), str(len(self.outcome.stopped)), str(len(failed)), *best,
            f"{pareto.hypervolume(self.front):.3f}", self.eta(),
        )  # fmt: skip
        return table


def front_table(outcome: Outcome) -> Table:
    """The front with the knobs that were swept; the confirmed means where there are some. Flagged trials have a mark."""
    confirmed = {point.number: point for point in outcome.confirmed}
    searched = space.names(outcome.space)
    caption = "! flagged, see below" if any(trial.flags for trial in outcome.front()) else None
    version = f", version {outcome.version}" if outcome.changes else ""
    table = Table(title=f"Front of {outcome.name}{version}", title_justify="left", caption=caption, caption_justify="left")
    for heading in ("trial", *(o.metric for o in outcome.objectives), *searched):
        table.add_column(heading, justify="right")
    if confirmed:
        table.add_column("confirmed")
    for trial in outcome.front():
        knobs = [_short(trial.params.get(name)) for name in searched]
        cells = [
            f"{trial.number} {trial.baseline}".strip() + (" !" if trial.flags else ""),
            *(f"{trial.metrics[o.metric]:.3f}" for o in outcome.objectives),
            *knobs,
        ]
        if confirmed:
            point = confirmed.get(trial.number)
            cells.append(_verdict(point, outcome) if point else "not trained again" if outcome.changes else "failed")
        table.add_row(*cells)
    return table


def flag_lines(outcome: Outcome) -> list[str]:
    """A line per flag on the front or that keeps a trial off it: whose it is, what it means, what to do."""
    front, kept_off = ({t.number for t in trials} for trials in (outcome.front(), outcome.kept_off()))
    lines = []
    for name, trials in outcome.flags().items():
        numbers = {t.number for t in trials}
        where = [
            f"{place} {', '.join(map(str, sorted(numbers & some)))}"
            for place, some in (("on the front: trials", front), ("kept off the front: trials", kept_off))
            if numbers & some
        ]
        if where:
            text = f": {FLAGS[name].means}; {FLAGS[name].advice}" if name in FLAGS else ""
            lines.append(f"flag {name} ({'; '.join(where)}){text}")
    return lines


def change_lines(outcome: Outcome) -> list[str]:
    """What the newest look at the stored networks did to the front."""
    made, trials = outcome.changes[-1], {t.number: t for t in outcome.trials}
    names = lambda numbers: ", ".join(f"{n} {trials[n].baseline}".strip() for n in numbers) or "none"  # noqa: E731
    lines = [
        f"{metric}: {move.mean:+.3f} on average over {len(outcome.done)} trials, at most {move.largest:+.3f} (trial {move.trial})"
        for metric, move in made.moves.items()
    ]
    lines += [] if lines else ["no objective moved"]
    lines.append(f"left the front: {names(made.left)}; entered it: {names(made.entered)}")
    raised = sorted({flag for flags in made.raised.values() for flag in flags})
    return lines + [f"new flag {flag}: trials {names(n for n, flags in made.raised.items() if flag in flags)}" for flag in raised]


def where_lines(store: Store, site: Site) -> list[str]:
    """Where the report is, and how to open MLflow."""
    if site.tracking_uri.startswith("http"):
        mlflow = site.tracking_uri
    else:
        mlflow = f"{shlex.quote(sys.executable)} -m mlflow ui --backend-store-uri {site.tracking_uri}"
    return [f"report: {redacted(store.below('report.html').root)}", f"MLflow: {redacted(mlflow)}"]


def _verdict(point, outcome: Outcome) -> str:
    numbers = " / ".join(f"{point.means[o.metric]:.3f}" for o in outcome.objectives)
    verdict = "stays" if point.on_front else f"LEFT ({', '.join(point.flags)})" if point.flags else "LEFT"
    return f"{numbers}  {verdict}  p={point.probability:.2f}"


def _short(value: Value | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
