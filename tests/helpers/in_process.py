"""An executor that needs no cluster: jobs run in this process, one after the other."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from core.data import Images
from trainables.execution.resources import Share, SharedImages, Workspace, to_shared
from trainables.execution.tasks import Executor, ignore
from trainables.storage.store import Store

SHARE = Share(workers=0, cpus=1, gpus=0)
"""One CPU core in the calling process."""


@dataclass(frozen=True)
class LocalExecutor(Executor):
    """Runs jobs in this process, in their order. An error of the storage is raised, as `Executor.map` does."""

    calls: list[tuple[str, object]] = field(default_factory=list)
    """Name of the function and name of the job, for each call."""

    def map(self, work, jobs, result_type, on_result=lambda name, result: None):
        """Call `work` for each job; see `Executor.map`."""
        results = {}
        for name, job in jobs.items():
            self.calls.append((work.__name__, name))
            results[name] = work(**job, images=self.images, workspace=self.workspace)
            on_result(name, results[name])
        return results


def workspace(root: Path, study: str = "") -> Workspace:
    """The workspace of a study below `root`; without a name, of `root` itself."""
    above = Store.at(str(root))
    return Workspace(SHARE, above.below(study) if study else above, above)


def local_executor(
    images: Images | SharedImages, root: Path, study: str = "", report: Callable[[str], None] = ignore,
    calls: list[tuple[str, object]] | None = None,
) -> LocalExecutor:  # fmt: skip
    """An executor of a study's jobs in this process.

    Args:
        images: the pool.
        root: folder above all studies.
        study: name of the study's run.
        report: receives lines of progress.
        calls: list that receives the calls; see `LocalExecutor.calls`.
    """
    shared = to_shared(images) if isinstance(images, Images) else images
    return LocalExecutor(
        images=shared, workspace=workspace(root, study), limit=lambda: 1, shadow_share=SHARE, shadow_limit=lambda: 1, report=report,
        calls=[] if calls is None else calls,
    )  # fmt: skip
