"""The layout of trainables: the imports that are allowed between its packages, their docstrings, and the length of files."""

import ast
import graphlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TRAINABLES = ROOT / "trainables"
ALLOWED: dict[str, set[str]] = {
    # data
    "study": set(),
    "storage": {"study"},
    # what a study would cost
    "cost": {"storage", "study"},
    # results for people and programs
    "reporting": {"study"},
    "terminal": {"study"},
    "tracking": {"storage", "study"},
    # running a study
    "search": {"storage", "study"},
    "execution": {"search", "storage", "study", "terminal"},
    "runs": {"reporting", "storage", "study", "terminal", "tracking"},
    # finished studies
    "revisions": {"execution", "runs", "storage", "study", "terminal", "tracking"},
    "decisions": {"reporting", "storage", "study", "tracking"},
    # tables and figures of papers
    "papers": {"cost", "execution", "reporting", "storage", "study", "tracking"},
    # command lines
    "commands": {
        "cost", "decisions", "execution", "papers", "revisions", "runs", "search", "storage", "study", "terminal", "tracking",
    },
}
"""The packages of trainables, lower ones first, and the other packages that each may import."""
MAX_LINES = 350


def imported_modules(code: str) -> set[str]:
    """Names of modules, or of names in them, that some code imports, at any place and in any form of the import statement."""
    names: list[str] = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not followed"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return set(names)


def imported_packages(code: str) -> set[str]:
    """The packages of trainables that some code imports."""
    return {name.split(".")[1] for name in imported_modules(code) if name.startswith("trainables.")}


def packages() -> list[str]:
    """The packages of trainables."""
    return sorted(path.parent.name for path in TRAINABLES.glob("*/__init__.py"))


def imports_between_packages() -> dict[str, set[str]]:
    """The other packages that each package imports."""
    return {
        package: {name for file in (TRAINABLES / package).rglob("*.py") for name in imported_packages(file.read_text())} - {package}
        for package in packages()
    }


def test_every_form_of_import_is_found():
    code = """
        import trainables.study.plan, os
        import trainables.storage.store as store
        from trainables import terminal, runs as executions
        from trainables.tracking.client import connect
        from core import study
        def local():
            from trainables import search
            if True:
                import trainables.decisions.choice
    """
    expected = {"study", "storage", "terminal", "runs", "tracking", "search", "decisions"}
    assert imported_packages("if True:\n" + code) == expected


def test_every_import_between_packages_is_allowed():
    assert imported_packages((TRAINABLES / "__init__.py").read_text()) == set()
    used = imports_between_packages()
    assert {package: extra for package, names in used.items() if (extra := names - ALLOWED.get(package, set()))} == {}


def test_every_allowed_import_is_used():
    used = imports_between_packages()
    assert ALLOWED.keys() == used.keys()
    assert {package: extra for package, allowed in ALLOWED.items() if (extra := allowed - used[package])} == {}


def test_the_allowed_imports_have_no_cycle():
    graphlib.TopologicalSorter(ALLOWED).prepare()  # raises CycleError


def test_core_and_the_lower_packages_do_not_know_the_scripts():
    """Scripts import trainables and core, trainables imports core, and nothing is imported in the other direction."""
    for folder, above in (("core", ("trainables.", "studies.")), ("trainables", ("studies.",))):
        for file in (ROOT / folder).rglob("*.py"):
            assert not [name for name in imported_modules(file.read_text()) if f"{name}.".startswith(above)], file


def test_trainables_itself_contains_only_packages():
    entries = [path for path in TRAINABLES.iterdir() if path.name not in ("__init__.py", "__pycache__")]
    assert [path.name for path in entries if not (path / "__init__.py").is_file()] == []


@pytest.mark.parametrize(
    "file", sorted([*TRAINABLES.rglob("__init__.py"), *(ROOT / "core").rglob("__init__.py")]),
    ids=lambda file: str(file.parent.relative_to(ROOT)),
)  # fmt: skip
def test_the_docstring_of_a_package_has_at_least_two_sentences(file):
    """One for what the package contains, and one for what belongs elsewhere."""
    text = ast.get_docstring(ast.parse(file.read_text())) or ""
    assert len(re.findall(r"[.!?](?=\s|$)", text)) >= 2, text


def test_no_file_is_too_long():
    files = [file for folder in ("core", "trainables", "studies", "tests") for file in (ROOT / folder).rglob("*.py")]
    assert not [str(file.relative_to(ROOT)) for file in files if len(file.read_text().splitlines()) > MAX_LINES]
