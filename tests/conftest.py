"""How tests are shared out over the two processes that run them: file by file, and what starts Ray or servers in two groups."""

import pytest
import torch


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """More clusters at once would fight for the cores; a file's fixtures are made once."""
    for item in items:
        file = item.nodeid.split("::")[0]
        starts_ray = item.get_closest_marker("ray") or item.get_closest_marker("browser")
        group = ("servers" if file.startswith(("tests/cluster/", "tests/infra/")) else "ray") if starts_ray else file
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture
def one_thread():
    """As a driver has it; with more, small sums are slower and not always the same."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
