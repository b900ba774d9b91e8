"""The artifact location of an experiment: below `--storage`, or where a tracking server keeps artifacts.

MLflow fixes the location of an experiment when the experiment is created. All studies of a script share one experiment, so the
location is beside the studies' folders, `mlartifacts/<study>` below `--storage`, and deleting a study's folder deletes no other
study's reports or models.
"""

import importlib.util
import os
import re
import tempfile
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from urllib.request import url2pathname

from core.errors import InputError
from core.redaction import redacted
from trainables.storage.store import Store
from trainables.study.tracking_uri import shown, sqlite_path
from trainables.tracking.client import connect

FOLDER = "mlartifacts"
"""Folder of all artifacts, below `--storage`."""
PACKAGES = {"s3": ("boto3", "boto3"), "gs": ("google.cloud.storage", "google-cloud-storage")}
"""Module with which MLflow accesses artifacts of a scheme, and the package to install."""


def new_location(uri: str, study: str, root: Store | None) -> str | None:
    """The artifact location of a new experiment; None if a server chooses it.

    Args:
        uri: MLflow tracking URI.
        study: name of the experiment.
        root: the folder above all studies; if it is not known, the folder of the SQLite file is used.
    """
    if uri.startswith("http"):
        return None
    if root is None:
        path = sqlite_path(uri)
        root = Store(str(path.absolute().parent if path else Path.cwd()))
    if root.path:
        return (root.path.absolute() / FOLDER / study).as_uri()
    place = root.root.partition("?")[0].rstrip("/")
    return f"{'gs' if place.startswith('gcs:') else place.partition(':')[0]}:{place.partition(':')[2]}/{FOLDER}/{study}"


def create_experiment(client, uri: str, study: str, root: Store | None) -> str:
    """Create the experiment of a study, and the local folder of its artifacts; returns the experiment's ID."""
    location = new_location(uri, study, root)
    if folder := _local(location or ""):
        folder.mkdir(parents=True, exist_ok=True)
    return client.create_experiment(study, location)


def check_artifacts(uri: str, study: str, root: Store) -> None:
    """Check that the artifacts of a study are stored, or will be, below `--storage` or where the tracking server keeps them.

    The S3 server that a storage URI names is made known to MLflow.

    Args:
        uri: MLflow tracking URI, which can be used.
        study: name of the experiment.
        root: the folder above all studies.

    Raises:
        InputError: they would be stored elsewhere, or cannot be stored; the message says what can be used.
    """
    _use_endpoint(root)
    path = sqlite_path(uri)
    experiment = None
    if path is None or (path.exists() and path.stat().st_size):
        experiment = connect(uri).get_experiment_by_name(study)
    location = experiment.artifact_location if experiment else new_location(uri, study, root)
    if location is None:
        return
    _check_package(location)
    folder = _local(location)
    if uri.startswith("http"):
        if folder and not _can_create(folder):
            raise InputError(
                f"the server at --tracking-uri {uri} stores artifacts in {folder} of its own machine, which this one cannot write; "
                "start it with --artifacts-destination"
            )
        return
    if experiment is None:
        return
    what = f"--tracking-uri {shown(uri)} keeps the artifacts of {study} in {folder or redacted(location)}"
    remedy = "log to a new store, such as --tracking-uri sqlite:///new.db, finished studies with --resume NAME"
    if not _is_within(location, root) and not (path and folder and _is_below(folder, path.absolute().parent / FOLDER)):
        raise InputError(f"{what}, not below --storage {root.root}; use that storage, or {remedy}")
    if folder and not folder.is_dir():
        raise InputError(f"{what}, which does not exist; restore that folder, or {remedy}")
    if folder and not _is_writable(folder):
        raise InputError(f"{what}, which cannot be written; change its permissions, or {remedy}")


def check_models(uri: str, root: Store) -> None:
    """Check that models can be loaded from below `--storage`: MLflow decodes a local path twice, so it finds none below `a%2Fb`.

    Raises:
        InputError: the path contains a percent-encoded character.
    """
    escape = re.search("%[0-9A-Fa-f]{2}", str(root.path or ""))
    if escape and not uri.startswith("http"):
        raise InputError(f"MLflow cannot load models from --storage {root.path}, because of the {escape[0]} in it; use another")


def _is_within(location: str, root: Store) -> bool:
    folder = _local(location)
    if root.path:
        return folder is not None and _is_below(folder, root.path)
    scheme, _, place = root.root.partition("?")[0].rstrip("/").partition(":")
    known = {scheme, "gs" if scheme == "gcs" else scheme}
    return any(location.startswith(f"{name}:{place}/") for name in known)


def _is_below(folder: Path, above: Path) -> bool:
    return folder.resolve().is_relative_to(above.resolve())


def _local(location: str) -> Path | None:
    """The folder of a local artifact location."""
    if location.startswith("file:"):
        return Path(url2pathname(urlsplit(location).path))
    return None if ":" in location.partition("/")[0] or not location else Path(location)


def _can_create(folder: Path) -> bool:
    """Whether a folder exists and can be written, or can be created."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and _is_writable(folder)


def _is_writable(folder: Path) -> bool:
    """Whether a file can be created in a folder, which permissions do not tell of a read-only file system or to root."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


def _check_package(location: str) -> None:
    module, package = PACKAGES.get(urlsplit(location).scheme, ("", ""))
    try:
        missing = bool(module) and importlib.util.find_spec(module) is None
    except ModuleNotFoundError:  # a package above it is missing
        missing = True
    if missing:
        raise InputError(f"MLflow needs the package {package} to store artifacts in {redacted(location)}: pip install {package}")


def _use_endpoint(root: Store) -> None:
    """Make MLflow use the S3 server of a storage URI, unless the environment names one."""
    if not root.root.startswith("s3:"):
        return
    options = {name: values[-1] for name, values in parse_qs(urlsplit(root.root).query).items()}
    if endpoint := options.get("endpoint_override"):
        url = endpoint if "://" in endpoint else f"{options.get('scheme', 'https')}://{endpoint}"
        os.environ.setdefault("MLFLOW_S3_ENDPOINT_URL", url)
    if region := options.get("region"):
        os.environ.setdefault("AWS_DEFAULT_REGION", region)
