"""The Ray cluster of a study: joining or starting it, its resources, and the executor of the study's jobs."""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import ray

from core.data import Images
from core.errors import InputError
from trainables.execution import session
from trainables.execution.resources import Share, Workspace, to_shared
from trainables.execution.tasks import Executor, ignore
from trainables.storage.store import Store
from trainables.study.site import Site
from trainables.terminal import signals


@contextlib.contextmanager
def joined(site: Site) -> Iterator[Mapping[str, float]]:
    """Join a cluster, or start Ray on this machine, for the code inside; yield the cluster's resources.

    If Ray is initialised already, it is used and left running.

    Raises:
        InputError: the cluster cannot be joined, or a trial would never fit.
    """
    started_here = not ray.is_initialized()
    if started_here:
        session.start(site.address)
    try:
        signals.renew()
        capacity = ray.cluster_resources()
        share = share_of(site, capacity)
        for needed in (share, shadow_share(site, share)):
            _check_nodes(needed)
        yield capacity
    finally:
        if started_here:
            session.stop()


def _check_nodes(share: Share) -> None:
    """Check that a worker fits on one machine; Ray would wait for ever for a larger one."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(node.get("CPU", 0.0) >= share.cpus and node.get("GPU", 0.0) >= share.gpus for node in nodes):
        raise InputError(f"no machine of the cluster has {share.cpus:g} CPUs and {share.gpus:g} GPUs for a worker")


def share_of(site: Site, capacity: Mapping[str, float]) -> Share:
    """The resources of one trial.

    Raises:
        InputError: the cluster does not have them.
    """
    workers = max(1, site.workers_per_trial)
    gpus = min(1.0, capacity.get("GPU", 0.0) / workers) if site.gpus_per_worker is None else site.gpus_per_worker
    for name, amount, flag in (("CPU", site.cpus_per_worker, "--cpus-per-worker"), ("GPU", gpus, "--gpus-per-worker")):
        available = capacity.get(name, 0.0)
        if amount * workers > available:
            raise InputError(f"{workers} x {flag} {amount:g} is more than the {available:g} {name}s of the cluster")
    return Share(site.workers_per_trial, site.cpus_per_worker, gpus)


def shadow_share(site: Site, share: Share) -> Share:
    """The resources of one shadow model, which is trained in one process."""
    gpus = share.gpus if site.gpus_per_shadow is None else site.gpus_per_shadow
    return replace(share, workers=0, gpus=gpus)


def concurrency(share: Share, capacity: Mapping[str, float], most: int = 0) -> int:
    """Number of trials at a time: as many as fit, but not more than `most` unless it is 0."""
    workers = max(1, share.workers)
    fits = [capacity.get("CPU", 0.0) / (share.cpus * workers)]
    if share.gpus:
        fits.append(capacity.get("GPU", 0.0) / (share.gpus * workers))
    fitting = max(1, math.floor(min(fits) + 1e-9))
    return min(fitting, most) if most else fitting


class ConcurrencyLimit:
    """Number of trials at a time, evaluated repeatedly because machines come and go."""

    def __init__(self, share: Share, site: Site):
        self.share, self.most = share, site.concurrency
        self.can_grow = bool(site.address) and not share.workers  # Ray Train fails if its workers wait too long

    def __call__(self) -> int:
        """The current limit."""
        fitting = concurrency(self.share, ray.cluster_resources(), self.most)
        # An autoscaler adds machines for waiting trials. Each waiting trial was suggested without the results of running ones.
        return (self.most or fitting + 1) if self.can_grow else fitting


def executor(
    site: Site, capacity: Mapping[str, float], images: Images, store: Store, report: Callable[[str], None] = ignore,
    warn: Callable[[str], None] | None = None,
) -> Executor:  # fmt: skip
    """The executor of a study's jobs on the joined cluster.

    Args:
        site: resources and limits.
        capacity: resources of the cluster.
        images: the pool.
        store: the study's folder; cached trainings and shadow models are in the folder above it.
        report: prints one line of progress.
        warn: prints one line about a problem; by default `report`.
    """
    share = share_of(site, capacity)
    small = shadow_share(site, share)
    return Executor(
        images=to_shared(images), workspace=Workspace(share, store, store.above), limit=ConcurrencyLimit(share, site),
        shadow_share=small, shadow_limit=ConcurrencyLimit(small, site), report=report,
        warn=warn or report,
    )  # fmt: skip
