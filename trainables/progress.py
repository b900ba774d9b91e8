"""What the terminal shows while a study runs: one live table, or on anything but a terminal a line per ended trial."""

import time
from collections.abc import Mapping

from rich.console import Console
from rich.live import Live
from rich.table import Table

from core import space
from core.space import Value
from trainables.outcome import Outcome, Trial


def terminal() -> Console:
    """Standard output; as wide as need be where it is not a terminal, so that a log holds whole tables."""
    console = Console(highlight=False, soft_wrap=True)
    return console if console.is_terminal else Console(highlight=False, soft_wrap=True, width=200)


class Progress:
    """A context manager; the sweep and confirm tell it what happens."""

    def __init__(self, outcome: Outcome, console: Console | None = None):
        """Shows `outcome`, which others fill."""
        self.outcome = outcome
        self.console = console or terminal()
        self.running: set[int] = set()
        self.began = time.monotonic()
        self.before = len(outcome.trials)
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
        if self.console.is_terminal and not trial.error:
            return
        count = f"[{len(self.outcome.trials)}/{self.outcome.planned}]"
        name = f"trial {trial.number}" + (f" ({trial.baseline})" if trial.baseline else "")
        if trial.error:
            self.say(f"{count} {name} failed: {trial.error}")
        else:
            numbers = "  ".join(f"{o.metric} {trial.metrics[o.metric]:.3f}" for o in self.outcome.objectives)
            self.say(f"{count} {name}  {numbers}  hypervolume {self.outcome.hypervolume():.3f}")

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
        for heading in ("done", "running", "failed", *(f"best {o.metric}" for o in self.outcome.objectives), "hypervolume", "ETA"):
            table.add_column(heading, justify="right")
        best = []
        for o in self.outcome.objectives:
            values = [t.metrics[o.metric] for t in done]
            best.append(f"{(max if o.direction == 'max' else min)(values):.3f}" if values else "-")
        table.add_row(
            f"{len(done)}/{self.outcome.planned}", str(len(self.running)), str(len(failed)), *best,
            f"{self.outcome.hypervolume():.3f}", self.eta(),
        )  # fmt: skip
        return table


def front_table(outcome: Outcome) -> Table:
    """The front with the knobs that were swept; the confirmed means where there are some."""
    confirmed = {point.number: point for point in outcome.confirmed}
    searched = space.names(outcome.space)
    table = Table(title=f"Front of {outcome.name}", title_justify="left")
    for heading in ("trial", *(o.metric for o in outcome.objectives), *searched):
        table.add_column(heading, justify="right")
    if confirmed:
        table.add_column("confirmed")
    for trial in outcome.front():
        knobs = [_short(trial.params.get(name)) for name in searched]
        cells = [
            f"{trial.number} {trial.baseline}".strip(),
            *(f"{trial.metrics[o.metric]:.3f}" for o in outcome.objectives),
            *knobs,
        ]
        if confirmed:
            point = confirmed.get(trial.number)
            cells.append(_verdict(point, outcome) if point else "failed")
        table.add_row(*cells)
    return table


def _verdict(point, outcome: Outcome) -> str:
    numbers = " / ".join(f"{point.means[o.metric]:.3f}" for o in outcome.objectives)
    verdict = "stays" if point.on_front else f"LEFT ({', '.join(point.flags)})" if point.flags else "LEFT"
    return f"{numbers}  {verdict}  p={point.probability:.2f}"


def _short(value: Value | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
