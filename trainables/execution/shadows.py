"""Shadow training: the shadow models of recipes, as independent tasks.

Shadow models lie next to the studies in shadows/<key>/, so that all studies with the same recipe share them.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from core.space import Value
from trainables.execution.keyed import train_keyed
from trainables.execution.tasks import Executor
from trainables.storage.jobs import Job, shadow_job


class ExpectedModels(NamedTuple):
    """Number of networks that should audit a network; fewer raise `flag/audit_lacks_models`."""

    siblings: int
    shadows: int

    def flag(self, siblings: Sequence[Job], shadows: Sequence[Job]) -> dict[str, float]:
        """The flag, given the networks that exist."""
        return {"flag/audit_lacks_models": float(len(siblings) < self.siblings or len(shadows) < self.shadows)}


def train_shadows(recipes: Sequence[Mapping[str, Value]], count: int, executor: Executor) -> list[list[Job]]:
    """Train the missing ones of `count` shadow models for each recipe.

    Args:
        recipes: configurations in flat form, of which judge settings, seed and replicate do not count.
        count: number of shadow models per recipe.
        executor: executor of the study; it reports each model that ends.

    Returns:
        For each recipe, its shadow models that could be trained.
    """
    executor = executor.for_shadows()
    wanted = [[shadow_job(params, number, executor.images.content) for number in range(1, count + 1)] for params in recipes]
    trained = train_keyed({job.folder: (job, "shadow model") for own in wanted for job in own}, "shadow model", executor)
    return [[job for job in own if not trained[job.folder].error] for own in wanted]
