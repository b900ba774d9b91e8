"""A Ray cluster of several real nodes on this machine, one CPU each, obeying lines on standard input.

    add         starts a node; answers with the id of its raylet
    kill PID    SIGKILLs that raylet, as if its machine had lost power

The first line of output is the cluster's address. Run with an environment of its own (`machines.py`): Ray reads it once.
"""

import os
import signal
import sys

from ray.cluster_utils import Cluster


def main() -> None:
    """Answer each line until there are no more."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    raylets = {}
    print(cluster.address, flush=True)
    for line in sys.stdin:
        command, *words = line.split()
        if command == "add":
            process = cluster.add_node(num_cpus=1).all_processes["raylet"][0].process
            raylets[process.pid] = process
            print(process.pid, flush=True)
        else:
            pid = int(words[0])
            os.kill(pid, signal.SIGKILL)
            raylets.pop(pid).wait()  # its workers watch for their parent's end, and a zombie has not ended
            print("killed", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
