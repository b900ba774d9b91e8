"""The imports of core: the cost of importing a trial, the imports that are allowed between its parts, and the tested checkout."""

import ast
import graphlib
import os
import subprocess
import sys
from pathlib import Path

import core

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "core"
HEAVY = (
    "ray", "mlflow", "optuna", "torchattacks", "matplotlib", "plotly", "sklearn", "scipy", "pandas", "torchvision",
    "pyarrow", "PIL", "trainables", "studies", "infra",
)  # fmt: skip
ALLOWED: dict[str, set[str]] = {
    # values, random streams, processes
    "errors": set(),
    "flags": set(),
    "memory": set(),
    "modes": set(),
    "redaction": set(),
    "rng": set(),
    "stats": set(),
    "workers": set(),
    "data": {"errors", "knobs", "memory", "rng"},
    "metrics": {"errors"},
    "space": {"errors"},
    "recipes": {"space"},
    "small_recipes": {"recipes"},
    "knobs": {"errors", "space"},
    # components of the slots
    "nets": {"errors", "knobs", "modes", "space"},
    "slots": {"data", "nets", "rng"},
    "losses": {"data", "errors", "inversion", "knobs", "rng", "slots", "space", "workers"},
    "augmentations": {"errors", "knobs", "losses", "rng", "slots", "space"},
    "perturbations": {"attacks", "data", "knobs", "modes", "nets", "rng", "slots", "space", "workers"},
    "regularizers": {"attacks", "errors", "knobs", "nets", "perturbations", "slots", "space", "workers"},
    "optimizers": {"errors", "knobs", "nets", "space", "workers"},
    # configurations and studies
    "judging": {"attacks", "errors", "knobs", "perturbations", "space"},
    "config": {
        "augmentations", "data", "errors", "judging", "knobs", "losses", "nets", "optimizers", "perturbations", "regularizers",
        "selection", "space",
    },
    "selection": {"attacks", "data", "errors", "knobs", "modes", "perturbations", "rng", "workers"},
    "search_space": {"config", "errors", "knobs", "space"},
    "study": {"config", "errors", "search_space", "space"},
    "pareto": {"flags", "study"},
    "estimates": {"replicate_errors", "stats"},
    "replicate_errors": {"stats"},
    "shrinkage": {"estimates", "stats"},
    "front_estimates": {"estimates", "pareto", "shrinkage", "stats", "study"},
    # training
    "bound": {"config", "data", "errors", "modes", "nets", "rng", "slots", "workers"},
    "train": {"bound", "config", "data", "errors", "memory", "modes", "optimizers", "rng", "selection", "slots", "workers"},
    # evaluation
    "attacks": {"errors", "knobs", "modes", "rng", "stats"},
    "attribution": {"errors", "modes", "nets", "regularizers", "rng"},
    "audits": {"attacks", "data", "estimates", "modes", "rng", "stats"},
    "inversion": {"data", "errors", "modes", "nets", "rng"},
    "evaluation": {
        "attacks", "attribution", "audits", "bound", "config", "data", "errors", "inversion", "judging", "knobs", "metrics",
        "modes", "nets", "perturbations", "regularizers", "rng", "selection", "space", "stats", "train", "workers",
    },
    "footprint": {"attacks", "bound", "config", "data"},
    "trial": {"audits", "bound", "config", "data", "evaluation", "metrics", "train"},
}  # fmt: skip
"""The parts of core, which are its modules and packages, and the other parts that each may import."""


def imported_parts(code: str) -> set[str]:
    """The parts of core that some code imports, at any place and in any form of the import statement."""
    names: list[str] = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not followed"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return {name.split(".")[1] for name in names if name.startswith("core.")}


def imports_between_parts() -> dict[str, set[str]]:
    """The other parts of core that each part imports."""
    imports: dict[str, set[str]] = {}
    for file in CORE.rglob("*.py"):
        part = file.relative_to(CORE).parts[0].removesuffix(".py")
        if part != "__init__":
            imports.setdefault(part, set()).update(imported_parts(file.read_text()) - {part})
    return imports


def test_core_is_the_one_in_this_repository():
    assert Path(core.__file__).resolve() == CORE / "__init__.py"


def test_importing_a_trial_loads_no_heavy_library(tmp_path):
    code = f"import sys, core.trial; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_every_form_of_import_is_found():
    code = """
        import core.data, os
        import core.losses.crl as crl
        from core import rng, nets as networks
        from core.attacks.ball import Norm
        from torch import nn
        def local():
            from core import train
            if True:
                import core.audits.lira
    """
    expected = {"data", "losses", "rng", "nets", "attacks", "train", "audits"}
    assert imported_parts("if True:\n" + code) == expected


def test_every_import_between_parts_is_allowed():
    assert imported_parts((CORE / "__init__.py").read_text()) == set()
    assert {part: extra for part, used in imports_between_parts().items() if (extra := used - ALLOWED.get(part, set()))} == {}


def test_every_allowed_import_is_used():
    used = imports_between_parts()
    assert ALLOWED.keys() == used.keys()
    assert {part: extra for part, allowed in ALLOWED.items() if (extra := allowed - used[part])} == {}


def test_the_allowed_imports_have_no_cycle():
    graphlib.TopologicalSorter(ALLOWED).prepare()  # raises CycleError
