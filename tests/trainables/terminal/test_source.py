"""The recorded commit is that of this project's own code, in real repositories and installations."""

import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from trainables.study.site import REPOSITORY
from trainables.terminal import source
from trainables.terminal.source import NAME, TRACKED, own_commit, own_version

PROJECT = f'[project]\nname = "{NAME}"\nversion = "9.8"\n'


def git(folder: Path, *words: str) -> str:
    """Run git in a folder as a user with a name."""
    who = ["-c", "user.name=x", "-c", "user.email=x@y.example", "-c", "init.defaultBranch=main", "-c", "protocol.file.allow=always"]
    return subprocess.run(["git", "-C", str(folder), *who, *words], capture_output=True, text=True, check=True).stdout.strip()


def write_tree(folder: Path) -> Path:
    """Write the files of a source tree that every commit has."""
    for name in TRACKED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(PROJECT if name == "pyproject.toml" else "")
    return folder


def commit_all(folder: Path) -> str:
    """Make a repository of a folder with one commit, and return the commit."""
    git(folder, "init")
    git(folder, "add", "-A")
    git(folder, "commit", "-m", "x", "--allow-empty")
    return git(folder, "rev-parse", "--short=12", "HEAD")


@pytest.fixture
def ours(tmp_path) -> Path:
    """A repository of this project."""
    commit_all(write_tree(tmp_path / "ours"))
    return tmp_path / "ours"


@pytest.fixture
def host(tmp_path) -> Path:
    """A repository of another project."""
    (tmp_path / "host").mkdir()
    (tmp_path / "host/main.py").write_text("")
    commit_all(tmp_path / "host")
    return tmp_path / "host"


def head(folder: Path) -> str:
    return git(folder, "rev-parse", "--short=12", "HEAD")


def test_a_checkout_has_its_own_commit_and_says_whether_files_differ_from_it(ours):
    assert own_commit(ours) == head(ours) and own_version(ours) == "9.8"
    (ours / "notes.txt").write_text("not under control")
    assert own_commit(ours) == head(ours)
    (ours / "core/__init__.py").write_text("x = 1")
    assert own_commit(ours) == f"{head(ours)} with local changes"


def test_a_source_tree_without_a_repository_inside_another_project_has_no_commit(host):
    for place in (host, host / "vendor/trilemma"):
        write_tree(place)
        assert own_commit(place) == "unknown" and own_version(place) == "9.8"
    git(host, "add", "-A")
    git(host, "commit", "-m", "vendored")
    assert own_commit(host / "vendor/trilemma") == "unknown"


def test_submodules_worktrees_and_clones_inside_another_project_have_the_commit_of_this_one(ours, host):
    git(host, "submodule", "add", str(ours), "sub")
    git(ours, "worktree", "add", str(host / "tree"))
    git(host, "clone", str(ours), "clone")
    for name in ("sub", "tree", "clone"):
        assert own_commit(host / name) == head(ours) != head(host)


def test_packages_in_a_virtual_environment_inside_another_project_do_not_have_its_commit(host):
    site = host / ".venv/lib/site-packages"
    for name in TRACKED[1:]:
        (site / name).parent.mkdir(parents=True)
        (site / name).write_text("")
    git(host, "add", "-A", "-f")
    git(host, "commit", "-m", "with its environment")
    assert own_commit(site) == own_version(site) == "unknown"


@pytest.mark.parametrize("origin, commit", [
    (None, "unknown"),
    ('{"url": "file:///x", "dir_info": {}}', "unknown"),
    ('{"url": "https://x", "vcs_info": {"vcs": "git", "commit_id": "0123456789abcdef0123456789abcdef01234567"}}', "0123456789ab"),
    ('{"url": "https://x", "subdirectory": "vendor", "vcs_info": {"vcs": "git", "commit_id": "0123456789abcdef"}}', "unknown"),
    ("{", "unknown"), ("[]", "unknown"), ('{"vcs_info": null}', "unknown"),
])  # fmt: skip
def test_an_installed_package_has_the_commit_that_pip_recorded(host, origin, commit):
    """PEP 610: direct_url.json; with a subdirectory, the repository is another project's."""
    info = host / "site/trilemma-9.8.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 9.8\n")
    if origin:
        (info / "direct_url.json").write_text(origin)
    assert own_commit(host / "site") == commit and own_version(host / "site") == "9.8"


def test_variables_of_hooks_and_ci_systems_are_ignored(ours, host, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(host / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(ours))
    monkeypatch.setenv("GIT_INDEX_FILE", str(host / ".git/index"))
    recorded = own_commit(ours)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name)
    assert recorded == head(ours)


def test_without_git_without_a_commit_and_in_a_broken_repository_the_commit_is_unknown(tmp_path, ours, monkeypatch):
    git(write_tree(tmp_path / "new"), "init")
    assert own_commit(tmp_path / "new") == "unknown"
    (write_tree(tmp_path / "copied") / ".git").write_text("gitdir: /nowhere/worktrees/copied\n")
    assert own_commit(tmp_path / "copied") == "unknown"
    git(tmp_path, "clone", "--bare", str(ours), "bare.git")
    assert own_commit(tmp_path / "bare.git") == "unknown"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert own_commit(ours) == "unknown"


def test_files_beside_a_foreign_repository_that_does_not_contain_them_have_no_commit(host):
    (host / ".gitignore").write_text("*")
    assert own_commit(write_tree(host)) == "unknown"


def test_a_repository_of_another_user_has_its_commit(ours):
    """git refuses to read it ("dubious ownership") unless it is told that the folder is safe, as in a container."""
    if shutil.which("chown") is None or subprocess.run(["chown", "-R", "65534", str(ours)], capture_output=True).returncode:
        pytest.skip("needs the right to change the owner of files")
    refused = subprocess.run(["git", "-C", str(ours), "rev-parse", "HEAD"], capture_output=True, text=True)
    assert "dubious ownership" in refused.stderr
    assert own_commit(ours) not in ("unknown", "")


def test_a_wheel_installed_inside_another_project_records_its_version_and_no_commit(host):
    """pip itself installs the package; its files are those of a real wheel."""
    wheel = host / f"{NAME}-9.8-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in TRACKED[1:]:
            archive.writestr(name, "")
        info = f"{NAME}-9.8.dist-info"
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 9.8\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    target = host / "packages"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    assert own_version(target) == "9.8" and own_commit(target) == "unknown"


def test_this_code_has_the_version_of_its_project():
    assert own_version(REPOSITORY) == version(NAME)


def test_a_status_that_cannot_be_read_is_not_reported_as_clean(ours, monkeypatch):
    real = source._git
    monkeypatch.setattr(source, "_git", lambda root, *words: None if words[0] == "status" else real(root, *words))
    assert own_commit(ours) == f"{head(ours)}, local changes unknown"
