"""What importing the core costs, and that the tests run against this checkout."""

import os
import subprocess
import sys
from pathlib import Path

import core

ROOT = Path(__file__).resolve().parents[2]
HEAVY = (
    "ray", "mlflow", "optuna", "torchattacks", "matplotlib", "plotly", "sklearn", "scipy", "pandas", "torchvision",
    "pyarrow", "PIL", "trainables", "studies", "infra",
)  # fmt: skip


def test_core_is_the_one_in_this_repository():
    assert Path(core.__file__).resolve() == ROOT / "core" / "__init__.py"


def test_importing_a_trial_loads_no_heavy_library(tmp_path):
    code = f"import sys, core.trial; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
