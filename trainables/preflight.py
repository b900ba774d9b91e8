"""Everything that can be refused before a study starts is refused here, in seconds, with nothing created."""

import http.client
import itertools
import os
import socket
import sqlite3
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import torch

from core import data, nets, train, trial
from core.config import TrialConfig, fillings
from core.data import Images, Parts
from core.errors import InputError, unknown
from core.trial import GLANCED
from trainables.plan import Plan, Site
from trainables.store import Store

SECONDS = 3.0  # how long a server may take to answer
DATABASES = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
"""Of MLflow, with their usual ports."""


def check(plan: Plan, site: Site) -> Images:
    """Refuse a plan that cannot work here.

    Returns:
        The images; they come last, so that nothing is downloaded for a plan that is refused.

    Raises:
        InputError: with what to change.
    """
    if plan.trials < len(plan.baselines) + 1:
        raise InputError(
            f"--trials {plan.trials} is too few: {len(plan.baselines)} baselines come first, so at least {len(plan.baselines) + 1}"
        )
    if plan.rungs and site.workers:
        raise InputError("--early-stopping cannot stop a trial of several Ray Train workers; use --workers-per-trial 0")
    check_hardware(site)
    check_address(site.address)
    check_tracking(site.tracking_uri, plan.study)
    Store.at(site.storage).check_writable()
    images = data.load(plan.config.dataset, site.data_dir, plan.config.pool)
    named = (plan.configured(changes) for changes in ({}, *plan.baselines.values()))
    for config in itertools.chain(named, fillings(plan.config, plan.space)):
        check_config(config, images, site)
    return images


def check_required(plan: Plan, images: Images) -> None:
    """Refuse a requirement on something that no trial will measure; what is not an objective is looked for by a small judgement.

    Raises:
        InputError: with what is measured.
    """
    known = {o.metric for o in plan.objectives} | set(GLANCED)
    asked = [limit.metric for limit in plan.require if limit.metric not in known]
    for config in itertools.chain([plan.config], fillings(plan.config, plan.space)) if asked else ():
        known |= _measured(config, images)
    for name in asked:
        if name not in known:
            raise unknown("metric of --require", name, sorted(name for name in known if not name.startswith("flag/")))


def _measured(config: TrialConfig, images: Images) -> set[str]:
    """Names of what an untrained network's judgement says, on few images."""
    few = config.set(
        {
            "judge.steps": 1,
            "judge.images": 8,
            "judge.inversion_iterations": 1,
            "judge.attribution": min(2, config.judge.attribution),
        }
    )
    parts = data.split(images, config.split, config.replicate)
    parts = Parts(parts.members[:64], parts.val[:64], parts.test[:64], parts.shadow[:64])
    bound = train.bind(few, images.at(parts.members), torch.device("cpu"))
    radii = () if few.judge.suite == "quick" else ("adversarial_radius", "deepfool_l2", "deepfool_fooling_rate")
    return {*trial.judge(few, bound, images, parts).metrics.values, *radii}  # which are measured where an image is right


def check_config(config: TrialConfig, images: Images, site: Site) -> None:
    """Bind every slot to the real images once.

    Raises:
        InputError: a slot does not fit.
    """
    members = data.split(images, config.split, config.replicate).members
    bound = train.bind(config, images.at(members[:64]), torch.device("cpu"))
    on_cpus = site.gpus == 0 or (not site.address and not torch.cuda.is_available())
    if site.workers > 1 and on_cpus and nets.has_batch_norm(bound.net):
        raise InputError(train.NO_SYNC)


def check_hardware(site: Site) -> None:
    """Refuse what this machine does not have; what a cluster has is known only when it is joined.

    Raises:
        InputError: with what there is.
    """
    if site.address:
        return
    workers = max(1, site.workers)
    gpus, cpus = torch.cuda.device_count(), os.cpu_count() or 1
    if site.gpus and site.gpus * workers > gpus:
        raise InputError(f"{workers} x --gpus-per-worker {site.gpus:g} is more than the {gpus} GPUs of this machine")
    if site.shadow_gpus and site.shadow_gpus > gpus:
        raise InputError(f"--gpus-per-shadow {site.shadow_gpus:g} is more than the {gpus} GPUs of this machine")
    if site.cpus * workers > cpus:
        raise InputError(f"{workers} x --cpus-per-worker {site.cpus:g} is more than the {cpus} CPU cores of this machine")


def check_address(address: str) -> None:
    """Refuse a cluster that does not answer.

    Raises:
        InputError: nothing listens there.
    """
    if not address or address == "auto":
        return
    if address.startswith("ray://"):
        raise InputError(f"--address {address}: a study cannot be driven from afar; run it on the head node with --address auto")
    _, host, port = _parts(f"ray://{address}")
    if "://" in address or not host or not port:
        raise InputError(f"--address {address!r} is not HOST:PORT or auto")
    _answers(host, port, f"no Ray cluster answers at --address {address}; is `ray start --head` running there?")


def check_tracking(uri: str, study: str) -> None:
    """Refuse a tracking server or database that cannot be used for a study of this name.

    Raises:
        InputError: with what can.
    """
    scheme, host, port = _parts(uri)
    database = scheme.split("+")[0]
    if uri.startswith("sqlite:///"):
        path = Path(uri.removeprefix("sqlite:///"))
        _check_sqlite(path, uri)
        if not path.exists() or not path.stat().st_size:
            return
    elif scheme in ("http", "https") and host:
        if "@" in urlsplit(uri).netloc:
            raise InputError(
                f"--tracking-uri {uri}: put the login into MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD; "
                "everybody on this machine can read a command line"
            )
        try:
            with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=SECONDS) as reply:
                if reply.read(8).strip() != b"OK":
                    raise InputError(f"what answers at --tracking-uri {uri} is not an MLflow server")
        except urllib.error.HTTPError as error:
            raise InputError(f"--tracking-uri {uri} answers {error.code} {error.reason}") from None
        except InputError:
            raise
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise InputError(f"no MLflow server answers at --tracking-uri {uri} ({getattr(error, 'reason', error)})") from None
    elif database in DATABASES and host:
        port = port or DATABASES[database]
        _answers(host, port, f"no database answers at --tracking-uri {scheme}://{host}:{port}")
    else:
        raise InputError(f"--tracking-uri {uri!r} is none of: sqlite:///FILE, http(s)://HOST:PORT, postgresql://...")
    from trainables.tracking import connect

    try:
        experiment = connect(uri).get_experiment_by_name(study)
    except Exception as error:  # a missing database driver, an old schema, a login that is refused ...
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"--tracking-uri {uri} cannot be read: {reason}") from None
    if experiment and experiment.lifecycle_stage != "active":
        raise InputError(f"--tracking-uri {uri}: the experiment {study} was deleted; restore it with `mlflow experiments restore`")


def _check_sqlite(path: Path, uri: str) -> None:
    if path.exists():
        try:
            with sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True) as database:
                tables = {row[0] for row in database.execute("select name from sqlite_master")}
        except sqlite3.Error as error:
            raise InputError(f"--tracking-uri {uri}: {path} is not a SQLite file that can be written ({error})") from None
        if tables and "experiments" not in tables:
            raise InputError(f"--tracking-uri {uri}: {path} is a database of something else than MLflow")
    elif not path.absolute().parent.is_dir() or not os.access(path.absolute().parent, os.W_OK):
        raise InputError(f"--tracking-uri {uri}: cannot make a file in {path.absolute().parent}")


def _answers(host: str, port: int, complaint: str) -> None:
    try:
        socket.create_connection((host, port), timeout=SECONDS).close()
    except (OSError, ValueError):  # ValueError: not a host's name
        raise InputError(complaint) from None


def _parts(uri: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port; empty where it cannot be read."""
    try:
        parts = urlsplit(uri)
        return parts.scheme, parts.hostname, parts.port
    except ValueError:
        return "", None, None
