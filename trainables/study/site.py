"""The machines and addresses that a study uses; they may change when it is resumed."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from trainables.study.options import Option, integer, option, options, positive_share, share

REPOSITORY = Path(__file__).resolve().parents[2]
"""Root of the repository, which the workers of a cluster receive."""
Output = Literal["text", "quiet", "json"]
"""Kinds of output: text, errors only, or one JSON object."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """The machines that run a study, and the places of its data, results and MLflow runs."""

    data_dir: str = option(
        "data", "folder for downloaded data sets, or of a stored study's parquet files that were moved (default: {default})",
        metavar="DIR",
    )  # fmt: skip
    """Folder for downloaded data sets, or of the parquet files of a stored study if they were moved."""
    address: str = option(
        "", "Ray cluster to join, from its head node: auto or HOST:PORT (default: start Ray here)", metavar="ADDR"
    )  # fmt: skip
    """Address of a running Ray cluster; empty starts Ray on this machine."""
    workers_per_trial: int = option(
        0, "Ray Train workers per trial; 0 trains in the trial's own process (default: {default})", type=integer(0), metavar="N"
    )
    """Ray Train workers per trial; 0 trains in the trial's own process."""
    gpus_per_worker: float | None = option(
        None, "GPUs per worker; 0.25 packs four trials on one GPU (default: 1 if there are GPUs)", type=share, metavar="F"
    )
    """GPUs per worker; None is one GPU, or an equal share of those that exist."""
    gpus_per_shadow: float | None = option(
        None, "GPUs per shadow model; 0.125 packs eight on one GPU (default: as per worker)", type=share, metavar="F"
    )
    """GPUs per shadow model; None is the same as per worker."""
    cpus_per_worker: float = option(
        1.0, "CPU cores per worker (default: 1, which is fastest on CPUs)", type=positive_share, metavar="F"
    )
    """CPU cores per worker."""
    concurrency: int = option(
        0, "number of trials at a time (default: as many as fit; on a cluster, more can make it grow)", type=integer(1), metavar="N"
    )
    """Number of trials at a time; 0 is as many as fit."""
    storage: str = option("runs", "folder or s3://, gs:// ... URI for results (default: {default})", metavar="URI")
    """Folder or URI for results."""
    tracking_uri: str = option("sqlite:///mlflow.db", "MLflow tracking URI (default: {default})", metavar="URI")
    """MLflow tracking URI."""
    output: Output = field(default="text", metadata=options(
        Option("--quiet", "print errors only", "text", {"dest": "output", "action": "store_const", "const": "quiet"}),
        Option("--json", "print one JSON object to standard output at the end", "text",
               {"dest": "output", "action": "store_const", "const": "json"}),
    ))  # fmt: skip
    """Kind of output."""

    def __reduce__(self):
        raise TypeError("a Site may contain passwords, which stay in the driver's memory; pass only what is needed")
