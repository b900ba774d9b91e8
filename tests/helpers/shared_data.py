"""Real images for tests, where this machine has them."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("TRILEMMA_TEST_DATA") or ROOT.parent / "shared" / "data")


def real(name: str) -> str:
    """The data set's name for `--dataset`; skips the test where it is absent."""
    if not (SHARED / name / "train.parquet").exists():
        pytest.skip(f"no {SHARED / name}/train.parquet; set TRILEMMA_TEST_DATA to the folder that holds {name}")
    return f"parquet:{SHARED / name}"
