"""The version and commit of this project's own code, wherever it is installed.

Another repository that happens to contain the code, such as the project in whose environment it is installed, is never recorded.
"""

import json
import os
import subprocess
import tomllib
from importlib.metadata import Distribution, distributions
from pathlib import Path

NAME = "trilemma"
"""Name of the project in pyproject.toml and of the installed package."""
TRACKED = ("pyproject.toml", "core/__init__.py", "trainables/__init__.py")
"""Files that are in every commit of this project."""
UNKNOWN = "unknown"
DIGITS = 12
"""Number of digits of a commit."""
TIMEOUT_SECONDS = 5.0
"""Time that git may take."""


def own_version(root: Path) -> str:
    """The version of the code in a folder; `unknown` if neither a source tree nor an installed package of this project is there."""
    if (project := _project(root)) is not None:
        return str(project.get("version", UNKNOWN))
    package = _package(root)
    return package.version if package else UNKNOWN


def own_commit(root: Path) -> str:
    """The commit of the code in a folder, with a note of local changes; `unknown` if it is in no repository of its own.

    The commit of a source tree is that of its repository, if the tree is the repository's top level and under its control. The
    commit of an installed package is the one that pip recorded when it installed the package from a repository.
    """
    if _project(root) is not None:
        return _tree_commit(root)
    package = _package(root)
    try:
        origin = json.loads((package and package.read_text("direct_url.json")) or "{}")
        return UNKNOWN if "subdirectory" in origin else origin["vcs_info"]["commit_id"][:DIGITS]
    except (ValueError, KeyError, TypeError):
        return UNKNOWN


def _project(root: Path) -> dict | None:
    """The project table of this project's source tree; None if the folder is not one."""
    try:
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        return project if project["name"] == NAME else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _package(root: Path) -> Distribution | None:
    """The installed package in a folder such as site-packages."""
    return next(iter(distributions(name=NAME, path=[str(root)])), None)


def _tree_commit(root: Path) -> str:
    top = _git(root, "rev-parse", "--show-toplevel")
    if not top or Path(top).resolve() != root.resolve() or _git(root, "ls-files", "--error-unmatch", "--", *TRACKED) is None:
        return UNKNOWN
    commit = _git(root, "rev-parse", "--verify", f"--short={DIGITS}", "HEAD")
    if not commit:
        return UNKNOWN
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    if changes is None:
        return f"{commit}, local changes unknown"
    return f"{commit} with local changes" if changes else commit


def _git(root: Path, *words: str) -> str | None:
    """The output of git in a folder; None if git is missing or fails.

    Variables such as GIT_DIR, which hooks and CI systems set, would name another repository. The folder may belong to another user,
    as in a container: its code is running already.
    """
    command = ["git", "--no-optional-locks", "-C", str(root), "-c", f"safe.directory={root.resolve()}", *words]
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        run = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_SECONDS, env=env)
    except (OSError, subprocess.SubprocessError):
        return None
    return None if run.returncode else run.stdout.strip()
