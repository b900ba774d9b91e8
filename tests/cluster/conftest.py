"""One cluster and one tracking server for all tests of faults; fixtures replace what earlier tests killed."""

import pytest
from fault_targets import Cluster, ClusterStudy, TrackingServer


@pytest.fixture(scope="session")
def running_cluster():
    """The cluster that all tests share; see `cluster`."""
    cluster = Cluster(nodes=2)
    yield cluster
    cluster.close()


@pytest.fixture(scope="session")
def running_server(tmp_path_factory):
    """The tracking server that all tests share; see `server`."""
    server = TrackingServer(tmp_path_factory.mktemp("tracking"))
    yield server
    server.kill()


@pytest.fixture
def cluster(running_cluster: Cluster):
    """The cluster with a head and two nodes."""
    while len(running_cluster.nodes) < 2:
        running_cluster.add_node()
    for node in running_cluster.nodes[2:]:
        running_cluster.kill_node(node)
    return running_cluster


@pytest.fixture
def server(running_server: TrackingServer):
    """The tracking server, up and running."""
    if not running_server.is_up():
        running_server.kill()
        running_server.start()
    return running_server


@pytest.fixture
def study(tmp_path, cluster: Cluster, server: TrackingServer):
    """A study that has not been started."""
    return ClusterStudy(tmp_path, cluster, server)
