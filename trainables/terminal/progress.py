"""Progress of a running study: a live table on a terminal, otherwise one line per ended trial."""

import time
from collections.abc import Mapping, Sequence
from itertools import compress

from rich.console import Console
from rich.live import Live
from rich.table import Table

from core import pareto
from core.space import Value
from trainables.study.outcome import Outcome
from trainables.study.text import decimal, named
from trainables.study.trial import Trial
from trainables.study.trial_state import TrialState
from trainables.terminal.console import Terminal


class Progress:
    """Shows the progress of an outcome while the sweep fills it; a context manager, and a listener of the sweep."""

    def __init__(self, outcome: Outcome, console: Console | None = None):
        self.outcome = outcome
        self.console = console or Terminal().console
        self.running: set[int] = set()
        self.start = time.monotonic()
        self.ended_before = len(outcome.trials)
        self.front = [trial.metrics for trial in outcome.front()]
        """Metrics of the current front, updated with each trial so that the cost of an update does not grow with the study."""
        self.live = Live(get_renderable=self.table, console=self.console, refresh_per_second=2, transient=True)

    def __enter__(self) -> "Progress":
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.live.stop()

    def info(self, text: str) -> None:
        """Print a line above the live table."""
        self.console.print(text, markup=False)

    def started(self, number: int, params: Mapping[str, Value], baseline: str) -> None:
        """Record that a trial started."""
        del params, baseline
        self.running.add(number)

    def rows(self, number: int, rows: Sequence[Mapping[str, float]]) -> None:
        """Ignore epochs of a running trial; the table does not show them."""

    def ended(self, trial: Trial) -> None:
        """Record that a trial ended, and print its line; `outcome` contains it already."""
        self.running.discard(trial.number)
        self._update_front(trial)
        if self.console.is_terminal and trial.state is not TrialState.FAILED:
            return
        count = f"[{len(self.outcome.trials)}/{self.outcome.planned}]"
        match trial.state:
            case TrialState.FAILED:
                self.info(f"{count} {named(trial)} failed: {trial.error}")
            case TrialState.EARLY_STOPPED:
                epochs = f"epoch {trial.stopped_epoch} of {trial.params['epochs']}"
                self.info(f"{count} {named(trial)} stopped early after {epochs}: dominated at this rung")
            case _:
                numbers = "  ".join(f"{o.metric} {decimal(trial.metrics[o.metric])}" for o in self.outcome.objectives)
                self.info(f"{count} {named(trial)}  {numbers}  hypervolume {self.hypervolume:.3f}")

    @property
    def hypervolume(self) -> float:
        """Hypervolume of the current front."""
        return pareto.hypervolume(pareto.losses(self.front, self.outcome.objectives))

    def _update_front(self, trial: Trial) -> None:
        objectives = self.outcome.objectives
        if trial.state is TrialState.COMPLETED and pareto.eligible([trial.metrics], objectives, self.outcome.require)[0]:
            rows = [*self.front, trial.metrics]
            self.front = list(compress(rows, pareto.non_dominated(pareto.losses(rows, objectives))))

    def eta(self) -> str:
        """Estimated remaining time as minutes and seconds, from the trials that have ended under this driver."""
        ended = len(self.outcome.trials) - self.ended_before
        if not ended:
            return "-"
        seconds = (time.monotonic() - self.start) / ended * (self.outcome.planned - len(self.outcome.trials))
        return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"

    def table(self) -> Table:
        """The live table."""
        completed = self.outcome.completed
        table = Table(title=self.outcome.name, title_justify="left")
        best_columns = [f"best {o.metric}" for o in self.outcome.objectives]
        for heading in ("completed", "running", "stopped early", "failed", *best_columns, "hypervolume", "ETA"):
            table.add_column(heading, justify="right")
        best = []
        for o in self.outcome.objectives:
            values = [t.metrics[o.metric] for t in completed]
            best.append(decimal((max if o.direction == "max" else min)(values)) if values else "-")
        table.add_row(
            f"{len(completed)}/{self.outcome.planned}", str(len(self.running)), str(len(self.outcome.early_stopped)),
            str(len(self.outcome.failed)), *best, f"{self.hypervolume:.3f}", self.eta(),
        )  # fmt: skip
        return table
