"""Joining a Ray cluster, or starting one on this machine, and what it has."""

import contextlib
import logging
import math
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import ray

from core.errors import InputError
from trainables.plan import Site
from trainables.store import Store
from trainables.trial import Share

ROOT = Path(__file__).resolve().parent.parent


@contextlib.contextmanager
def joined(site: Site) -> Iterator[Mapping[str, float]]:
    """The cluster's resources, while it is joined.

    Raises:
        InputError: it cannot be joined, or a trial would never fit.
    """
    ours = not ray.is_initialized()
    if ours:
        _init(site.address)
    try:
        capacity = ray.cluster_resources()
        share = share_of(site, capacity)
        for one in (share, shadow_share(site, share)):
            _check_nodes(one)
        yield capacity
    finally:
        if ours:
            ray.shutdown()


def _init(address: str) -> None:
    quiet = {"include_dashboard": False, "logging_level": logging.ERROR, "log_to_driver": False}
    _keep_token_private(create=not address)
    try:
        if address:  # the workers of a cluster need our code; those of this machine have it installed
            del quiet["include_dashboard"]
            ray.init(
                address=address, runtime_env={"working_dir": str(ROOT), "excludes": ["/runs", "/data", ".git", ".venv"]}, **quiet
            )
        else:
            ray.init(address="local", **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise InputError(f"cannot join the Ray cluster at --address {address or 'local'}: {reason}") from None


def _keep_token_private(create: bool) -> None:
    """See to it that only its user can read Ray's token, before anything listens; Ray would write it for everybody."""
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    token = Path(named or Path.home() / ".ray" / "auth_token")
    wanted = os.environ.get("RAY_AUTH_MODE", "token") == "token" and not os.environ.get("RAY_AUTH_TOKEN")
    with contextlib.suppress(OSError):  # not ours to change, or another study was faster
        if token.is_file():
            token.chmod(0o600)
        elif create and wanted and not named:
            token.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=token.parent) as file:  # of mode 0600
                file.write(secrets.token_hex(32))
                file.flush()
                os.link(file.name, token)  # nobody sees half a token


def _check_nodes(share: Share) -> None:
    """A worker must fit on one machine; Ray would wait for a larger one for ever."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(node.get("CPU", 0.0) >= share.cpus and node.get("GPU", 0.0) >= share.gpus for node in nodes):
        raise InputError(f"no machine of the cluster has {share.cpus:g} CPUs and {share.gpus:g} GPUs for a worker")


def share_of(site: Site, capacity: Mapping[str, float]) -> Share:
    """What one trial gets of a cluster.

    Raises:
        InputError: it would never fit.
    """
    workers = max(1, site.workers)
    gpus = min(1.0, capacity.get("GPU", 0.0) / workers) if site.gpus is None else site.gpus
    for name, amount, switch in (("CPU", site.cpus, "--cpus-per-worker"), ("GPU", gpus, "--gpus-per-worker")):
        have = capacity.get(name, 0.0)
        if amount * workers > have:
            raise InputError(f"{workers} x {switch} {amount:g} is more than the {have:g} {name}s of the cluster")
    return Share(site.workers, site.cpus, gpus, Store.at(site.storage))


def shadow_share(site: Site, share: Share) -> Share:
    """What one shadow model gets: a process of its own, and on a GPU the part that --gpus-per-shadow says."""
    gpus = share.gpus if site.shadow_gpus is None else site.shadow_gpus
    return replace(share, workers=0, gpus=gpus)


def concurrency(share: Share, capacity: Mapping[str, float], most: int = 0) -> int:
    """How many trials to run at a time: as many as fit, or fewer if the user says so (`most` above 0)."""
    workers = max(1, share.workers)
    fits = [capacity.get("CPU", 0.0) / (share.cpus * workers)]
    if share.gpus:
        fits.append(capacity.get("GPU", 0.0) / (share.gpus * workers))
    fitting = max(1, math.floor(min(fits) + 1e-9))
    return min(fitting, most) if most else fitting


@dataclass(frozen=True)
class Room:
    """How many trials to run at a time, asked again and again: machines come and go."""

    share: Share
    site: Site

    def __call__(self) -> int:
        """At this moment."""
        fitting = concurrency(self.share, ray.cluster_resources(), self.site.concurrency)
        if not self.site.address or self.share.workers:  # Ray Train gives up on workers that wait too long
            return fitting
        # What waits for its turn is what an autoscaler goes by; each one was suggested before it could learn from those that run.
        return self.site.concurrency or fitting + 1
