"""A Ray cluster of several nodes on this machine, one CPU core each, controlled by lines on standard input.

    add         start a node; prints the process ID of its raylet
    kill PID    kill that raylet with SIGKILL, as if its machine had lost power; prints `killed`

The first line of output is the cluster's address. The cluster is a process of its own (see `fault_targets.Cluster`), because Ray
reads its environment only once.
"""

import os
import signal
import sys

from ray.cluster_utils import Cluster


def main() -> None:
    """Start the head, and execute commands until the input ends."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    raylets = {}
    print(cluster.address, flush=True)
    for line in sys.stdin:
        command, *arguments = line.split()
        if command == "add":
            process = cluster.add_node(num_cpus=1).all_processes["raylet"][0].process
            raylets[process.pid] = process
            print(process.pid, flush=True)
        else:
            pid = int(arguments[0])
            os.kill(pid, signal.SIGKILL)
            raylets.pop(pid).wait()  # workers end when their parent does, and a zombie has not ended
            print("killed", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
