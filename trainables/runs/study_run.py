"""One execution of a command on a study, shared by start, resume and revisions."""

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

from core.errors import first_line, redacted
from trainables.storage.results import stored_facts
from trainables.storage.store import Store
from trainables.storage.takeover import study_store
from trainables.storage.versions import Version, outcomes, versions
from trainables.study.outcome import Outcome
from trainables.study.plan import Plan
from trainables.study.site import Site
from trainables.terminal.closing import summary_json
from trainables.terminal.console import Terminal
from trainables.terminal.provenance import resume_command

EXIT_PARTIAL, EXIT_STOPPED, EXIT_INTERRUPTED = 1, 3, 130
"""Exit codes: some trials failed or something is missing; the driver could not continue; it was interrupted."""


@dataclass(frozen=True)
class StudyRun:
    """The plan, site, folder and terminal of one execution of a command on a study."""

    plan: Plan
    site: Site
    store: Store
    """The study's folder; with a lease once this driver has taken it."""
    terminal: Terminal
    command: list[str]
    """The command that was typed, script first."""
    resume: str
    """The command that continues it."""

    @classmethod
    def open(cls, plan: Plan, site: Site, command: list[str], resume: str = "") -> "StudyRun":
        """Open the folder and the terminal of a study; `resume` is by default the study's `--resume` command."""
        script = command[0] if command else ""
        resume = resume or resume_command(plan, site, script)
        return cls(plan, site, study_store(site, plan.name), Terminal(site.output), command, resume)

    def with_store(self, store: Store) -> "StudyRun":
        """The same execution with another handle of the study's folder."""
        return replace(self, store=store)

    def facts(self) -> dict[str, str]:
        """The stored facts of the study."""
        return stored_facts(self.store) or {}

    def finished_versions(self) -> list[Version]:
        """The finished versions of the front after the first."""
        return [version for version in versions(self.store) if version.finished]

    def outcomes(self, later: Sequence[Version]) -> list[Outcome]:
        """The outcome as the study ended, then after each of the versions `later`."""
        return outcomes(self.plan, self.store, self.facts(), later)

    def summary(self, outcome: Outcome, mlflow_run: str, code: int) -> dict[str, Any]:
        """The end of the execution for programs."""
        return summary_json(outcome, self.store.root, self.site, mlflow_run, code)

    def stopped(self, reason: BaseException | str, finish: Callable[[int], Mapping[str, Any]] = lambda code: {}) -> int:
        """Print why the execution stopped and the command that continues it.

        Args:
            reason: the error, or a message.
            finish: called with the exit code after the text is printed, since it may wait for MLflow; returns the summary for
                programs.

        Returns:
            The exit code.
        """
        interrupted = isinstance(reason, KeyboardInterrupt)
        code = EXIT_INTERRUPTED if interrupted else EXIT_STOPPED
        if isinstance(reason, BaseException):
            reason = "interrupted" if interrupted else redacted(f"error: {first_line(reason)}")
        self.terminal.error(f"{reason}; continue with\n  {self.resume}")
        end = {"name": self.plan.name, "exit_code": code, "error": reason, "resume": self.resume}
        self.terminal.print_json({**finish(code), **end})
        return code


def interrupt_on_terminate() -> None:
    """Treat SIGTERM like Ctrl-C: a scheduler's request to stop ends the study so that it can be resumed.

    Ray installs its own handler when it starts, so this must be called afterwards.
    """

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
