"""One cluster and one tracking server for all tests of faults: each heals what it breaks."""

import pytest
from machines import Machines, Server


@pytest.fixture(scope="session")
def machines():
    """A head and two nodes, which tests kill and replace."""
    made = Machines(nodes=2)
    yield made
    made.close()


@pytest.fixture(scope="session")
def running_server(tmp_path_factory):
    """A tracking server; see `server`."""
    made = Server(tmp_path_factory.mktemp("tracking"))
    yield made
    made.kill()


@pytest.fixture
def server(running_server: Server):
    """A tracking server that is up when a test begins."""
    if not running_server.answers():
        running_server.kill()
        running_server.start()
    return running_server


@pytest.fixture
def two_nodes(machines: Machines):
    """The cluster with as many nodes as it had in the beginning."""
    while len(machines.nodes) < 2:
        machines.nodes.append(machines.add())
    for node in machines.nodes[2:]:
        machines.kill_node(node)
    return machines
