"""Fixtures that tests share, and how tests are distributed over the two processes that run them."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from study_runs import QUICK, Finished, InProcess, folder_of, run_process

from trainables.terminal import signals

os.environ.setdefault("RAY_worker_niceness", "0")  # with Ray's own 15, its workers would wait for the other half of the tests


USES_RAY = {"local_ray", "run_study", "crl_study"}
"""Fixtures that use the shared Ray."""


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group tests by file, so that they share its fixtures; those on the shared Ray, and those that start servers, by kind.

    More Rays at a time would compete for the cores.
    """
    for item in items:
        group = item.nodeid.split("::")[0]
        if item.get_closest_marker("browser") or USES_RAY.intersection(getattr(item, "fixturenames", ())):
            group = "ray"
        elif item.get_closest_marker("faults"):
            group = str(Path(group).parent)
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(autouse=True)
def signal_handlers() -> Iterator[None]:
    """Restore the handlers of signals that a command in this process has installed."""
    before = {number: signal.getsignal(number) for number in signals.TERMINATIONS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def one_thread():
    """One thread for PyTorch, as in a driver; with more, small sums are slower and not always the same."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """A Ray on this machine that all tests of a process share."""
    from trainables.execution import cluster
    from trainables.study.site import Site

    with cluster.joined(Site()):
        yield


@pytest.fixture(scope="session")
def run_study(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> InProcess:
    """Run commands in this process on the shared Ray."""
    from trainables.tracking.client import connect

    template: Path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    connect(f"sqlite:///{template}").search_experiments()
    return InProcess(template)


@pytest.fixture(scope="session")
def crl_study(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A finished study of seven trials with confirmation, run as a user runs it; tests that read it must not change it.

    Tests may run other studies in its directory, which then reuse its trainings.
    """
    cwd = tmp_path_factory.mktemp("crl_study")
    done = run_process(cwd, *QUICK, "7", "--concurrency", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    return Finished(cwd, folder_of(done.stdout, cwd), done.stdout, done.stderr)
