"""Data sets of real images, on machines that have them."""

import os
from pathlib import Path

import pytest
from study_runs import ROOT

DATA = Path(os.environ.get("TRILEMMA_TEST_DATA") or ROOT.parent / "shared" / "data")
"""Folder with one folder per data set."""


def real(name: str) -> str:
    """The value of `--dataset` for a data set; skips the test if this machine does not have it."""
    if not (DATA / name / "train.parquet").exists():
        pytest.skip(f"no {DATA / name}/train.parquet; set TRILEMMA_TEST_DATA to the folder that holds {name}")
    return f"parquet:{DATA / name}"
