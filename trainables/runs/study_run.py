"""One execution of a command on a study, shared by start, resume and revisions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from core.errors import first_line
from core.redaction import redacted
from trainables.storage.results import stored_facts
from trainables.storage.store import Store, Superseded
from trainables.storage.takeover import study_store
from trainables.storage.versions import Version, outcomes, versions
from trainables.study.outcome import Outcome
from trainables.study.plan import Plan
from trainables.study.site import Site
from trainables.terminal import signals
from trainables.terminal.closing import summary_json
from trainables.terminal.console import Terminal
from trainables.terminal.provenance import resume_command
from trainables.terminal.signals import EXIT_INTERRUPTED

EXIT_PARTIAL, EXIT_STOPPED = 1, 3
"""Exit codes: some trials failed or something is missing; the driver could not continue."""


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

    def finished(self, outcome: Outcome, mlflow_run: str, code: int) -> int:
        """Print the summary for programs; returns the exit code, which is not 0 if the summary could not be written."""
        printed = self.terminal.print_json(self.summary(outcome, mlflow_run, code))
        return code if printed else code or EXIT_PARTIAL

    def interruptible(self, work: Callable[[], int]) -> int:
        """Call `work`, also in phases that have nothing to end; if it is interrupted, print how to continue."""
        try:
            return work()
        except KeyboardInterrupt as error:
            return self.stopped(error)

    def stopped(self, reason: BaseException | str, finish: Callable[[int], Mapping[str, Any]] = lambda code: {}) -> int:
        """Print why the execution stopped and what continues it.

        A study that another driver has resumed continues there, and one without a stored plan has not started.

        Args:
            reason: the error, or a message.
            finish: called with the exit code after the text is printed, since it may wait for MLflow; returns the summary for
                programs.

        Returns:
            The exit code.
        """
        signals.close()
        interrupted = isinstance(reason, KeyboardInterrupt)
        code = EXIT_INTERRUPTED if interrupted else EXIT_STOPPED
        if isinstance(reason, BaseException):
            reason = signals.description() if interrupted else redacted(f"error: {first_line(reason)}")
        resume, successor, is_stored = self.resume, "", True

        def look() -> None:  # at storage that may not answer
            nonlocal successor, is_stored
            successor, is_stored = self._successor(), self._is_stored()

        signals.unless_skipped(look)
        if successor:
            resume, advice = "", "it continues there; this driver changes nothing more"
            reason = redacted(f"error: {successor}")
        elif not is_stored:
            resume, advice = "", "nothing was started; repeat the command"
        else:
            advice = f"continue with\n  {resume}"
        self.terminal.error(f"{reason}; {advice}")
        end = {"name": self.plan.name, "exit_code": code, "error": reason, "resume": resume}
        self.terminal.print_json({**finish(code), **end})
        return code

    def _successor(self) -> str:
        """The message about another driver that has taken the study over; empty if there is none."""
        try:
            if self.store.lease:
                self.store.lease.check()
        except Superseded as error:
            return str(error)
        except (OSError, ValueError):  # storage that cannot be read does not mean that there is another driver
            pass
        return ""

    def _is_stored(self) -> bool:
        """Whether there is a study to continue; there may be one in storage that cannot be read."""
        try:
            return self.store.lease is not None or self.store.read("plan.json") is not None
        except (OSError, ValueError):
            return True
