"""How tests are shared out over the two processes that run them: file by file, and all that starts Ray in one of them."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Two clusters at once would fight for the cores; a file's fixtures are made once."""
    for item in items:
        group = "ray" if item.get_closest_marker("ray") or item.get_closest_marker("browser") else item.nodeid.split("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))
