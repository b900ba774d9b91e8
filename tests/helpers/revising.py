"""A re-evaluation that needs no attack, and a tracker that only records its calls."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from core.errors import InputError
from core.metrics import Metrics
from core.space import Value
from trainables.revisions.reevaluation import Finding
from trainables.storage.results import evidence
from trainables.study.outcome import MLflowRefs, Outcome

evaluated: list[str] = []
"""Folders of the networks that `FakeAttack` has evaluated."""


@dataclass(frozen=True)
class FakeAttack:
    """A re-evaluation that fools every network on its first images."""

    fooled: int = 1
    """Number of images."""
    fails: tuple[str, ...] = ()
    """Folders of networks whose evaluation raises an error."""
    flags: dict[str, float] = field(default_factory=dict, hash=False)
    """Flags that every network raises."""
    error: type[Exception] = RuntimeError
    """Type of the error."""
    illegal: str = ""
    """Reason why the re-evaluation does not fit the study; empty if it does."""
    contained_in: int = 0
    """Version that contains the evaluation from the start."""

    how, shown_metric = "with a fake attack", "robust_accuracy"

    @property
    def settings(self) -> dict[str, Value]:
        return {"fooled": self.fooled}

    @property
    def command(self) -> tuple[str, list[str]]:
        return "studies/fake.py", ["--fooled", str(self.fooled)]

    def covered(self, plan, later) -> int:
        return next((v.number for v in later if v.settings == self.settings), self.contained_in)

    def check(self, networks) -> None:
        if self.illegal:
            raise InputError(self.illegal)

    def prepare(self, plan, later, networks, executor) -> "FakeAttack":
        return self

    def evaluate(self, network, images, workspace, later, device) -> Finding:
        if network.folder in self.fails:
            raise self.error("it broke\nbadly")
        evaluated.append(network.folder)
        known = evidence(workspace.store, network.folder, [version.folder for version in later])
        robust = np.all([verdicts for name, verdicts in known.items() if name.startswith("robust/")], axis=0)
        robust[: self.fooled] = False
        return Finding(Metrics({"robust_accuracy": robust.mean(), **self.flags}), {f"robust/fake_{self.fooled}": robust})


class RecordingTracker:
    """A tracker that records what it is given and contacts no server."""

    trackers: "list[RecordingTracker]" = []  # noqa: RUF012
    """All trackers that were made."""
    undelivered = 0
    """Number of writes that `close` reports as undelivered."""
    last_error, refs = "down", MLflowRefs(parent="run-1")

    def __init__(self, uri: str, plan, outcome: Outcome, home: str):
        self.outcomes = [outcome.version]
        """Versions of the outcomes in the order in which they were logged; 0 stands for the confirmation step."""
        self.published: list[tuple[int, bool]] = []
        """Versions whose files were published, and whether each was the newest."""
        self.closed = 0
        """Number of times that it was closed."""
        RecordingTracker.trackers.append(self)

    def confirmed(self) -> None:
        self.outcomes.append(0)

    def revised(self, outcomes: Sequence[Outcome]) -> None:
        self.outcomes += [outcome.version for outcome in outcomes]

    def publish(self, files: Mapping[str, bytes], version: int, newest: bool = True) -> None:
        assert "report.html" in files
        self.published.append((version, newest))

    def drain(self) -> bool:
        return True

    def close(self) -> int:
        self.closed += 1
        return RecordingTracker.undelivered
