"""Fingerprints of code: which changes of a package count for a definition."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from trainables.storage.code import Code, Definition, core_code
from trainables.storage.content import EVALUATION, REGISTRIES, TRAINING

PACKAGE = {
    "__init__.py": "",
    "train.py": (
        "from pkg import rng\nfrom pkg.losses import LOSSES\nfrom pkg.steps import step as take\n\nRATE = 0.1\n\n\n"
        "def train(name):\n    return take(LOSSES[name], RATE, rng.draw(3))\n"
    ),
    "steps.py": (
        "import math\n\n\ndef step(loss, rate, noise):\n    return math.exp(rate) * loss() + noise\n\n\n"
        "def unused():\n    return 1\n"
    ),
    "rng.py": "def draw(n):\n    return fold(n)\n\n\ndef fold(n):\n    return draw(n - 1) if n else 0\n",
    "losses/__init__.py": 'from pkg.losses.plain import plain\n\nLOSSES = {"plain": plain}\n',
    "losses/plain.py": "class plain:\n    def __call__(self):\n        return 7\n",
}
ROOT = Definition("pkg.train", "train")


def fingerprint(folder: Path, changes: Mapping[str, str | None] = MappingProxyType({}), opaque=()) -> str:
    """The fingerprint of `ROOT` in the package with some files replaced; None removes a file."""
    for name, text in {**PACKAGE, **changes}.items():
        if text is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    return Code("pkg", folder).fingerprint([ROOT], opaque)


def edited(name: str, before: str, after: str) -> dict[str, str | None]:
    assert before in PACKAGE[name]
    return {name: PACKAGE[name].replace(before, after)}


@pytest.mark.parametrize(("changes", "same"), [
    (edited("train.py", "RATE = 0.1", "# the rate\nRATE = 0.1"), True),
    (edited("rng.py", "def draw(n):\n", 'def draw(n):\n    """Draw."""\n'), True),
    (edited("steps.py", "return 1", "return 2"), True),  # not used
    (edited("train.py", "RATE = 0.1", "RATE = 0.2"), False),
    (edited("rng.py", "n - 1", "n - 2"), False),  # two references away
    (edited("steps.py", "math.exp", "math.log"), False),
    (edited("steps.py", "import math\n", "import math\n\nmath.seed = 1\n"), False),  # runs at import
    (edited("losses/plain.py", "return 7", "return 8"), False),
    (edited("losses/__init__.py", '"plain": plain', '"plain": plain, "other": plain'), False),
], ids=str)  # fmt: skip
def test_what_a_definition_uses_counts_and_nothing_else(tmp_path, changes, same):
    assert (fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b", changes)) is same


MOVES = {
    "a module is renamed": {
        "rng.py": None, "noise.py": PACKAGE["rng.py"],
        "train.py": PACKAGE["train.py"].replace("from pkg import rng", "from pkg import noise").replace("rng.draw", "noise.draw"),
    },
    "a module is moved into a package": {
        "steps.py": None, "optimizers/__init__.py": "", "optimizers/steps.py": PACKAGE["steps.py"],
        "train.py": PACKAGE["train.py"].replace("pkg.steps", "pkg.optimizers.steps"),
    },
    "a module is imported by another form": {
        "train.py": PACKAGE["train.py"].replace("from pkg import rng", "import pkg.rng").replace("rng.draw", "pkg.rng.draw"),
    },
    "a name is imported as another one": {
        "train.py": PACKAGE["train.py"].replace(" as take", "").replace("take(", "step("),
    },
    "a definition is moved to another module": {
        "rng.py": "from pkg.fold import fold\n\n\ndef draw(n):\n    return fold(n)\n",
        "fold.py": "from pkg import rng\n\n\ndef fold(n):\n    return rng.draw(n - 1) if n else 0\n",
    },
    "a package becomes a module": {
        "losses/__init__.py": None, "losses/plain.py": None,
        "losses.py": PACKAGE["losses/plain.py"] + '\n\nLOSSES = {"plain": plain}\n',
    },
}  # fmt: skip


@pytest.mark.parametrize("changes", MOVES.values(), ids=MOVES)
def test_moving_and_renaming_files_changes_nothing(tmp_path, changes):
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b", changes)


def test_a_reference_to_another_definition_of_the_same_name_counts(tmp_path):
    same_name = {**PACKAGE, "other.py": "def step(loss, rate, noise):\n    return 0\n"}
    moved = {"train.py": PACKAGE["train.py"].replace("pkg.steps", "pkg.other")}
    assert fingerprint(tmp_path / "a", same_name) != fingerprint(tmp_path / "b", {**same_name, **moved})


def test_an_opaque_definition_is_left_out_with_what_only_it_uses(tmp_path):
    changed = edited("losses/plain.py", "return 7", "return 8")
    assert fingerprint(tmp_path / "a", opaque=["LOSSES"]) == fingerprint(tmp_path / "b", changed, opaque=["LOSSES"])


def test_a_module_that_is_passed_on_counts_as_a_whole(tmp_path):
    passed = edited("train.py", "rng.draw(3)", "rng")
    changed = passed | {"rng.py": PACKAGE["rng.py"] + "\n\nSEED = 3\n"}
    assert fingerprint(tmp_path / "a", passed) != fingerprint(tmp_path / "b", changed)


def test_a_training_uses_its_loop_and_neither_evaluation_nor_components():
    used = core_code().closure(TRAINING, (*REGISTRIES, *EVALUATION))
    modules = {definition.module for definition in used}
    assert {"core.train", "core.rng", "core.data.splits", "core.slots", "core.workers", "core.nets.net"} <= modules
    for package in ("evaluation", "audits", "attacks", "inversion", "losses", "perturbations", "augmentations"):
        assert not [module for module in modules if module.startswith(f"core.{package}")], package
