"""Studies on a cluster of several nodes with a tracking server, while nodes, workers, drivers and the server are killed."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from fault_checks import check, published_front, reproducible_metrics, stored_results
from fault_targets import Cluster, ClusterStudy, Driver, TrackingServer, kill
from files import existing
from study_runs import CRL, ROOT

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]


def has_started(study: ClusterStudy) -> bool:
    """Whether the study has a suggestion."""
    return bool(existing(study.storage, "*/trials/*/params.json"))


def test_a_study_survives_the_loss_of_nodes_and_workers_and_uses_a_new_node(study: ClusterStudy):
    cluster = study.cluster
    with study.start(6, 200) as driver:
        driver.wait_until(lambda: has_started(study))
        driver.wait_until(cluster.busy_node)
        new = cluster.add_node()
        driver.wait_until(lambda: cluster.workers(new))
        kill(next(iter(cluster.workers(new))))
        node = cluster.busy_node(excluded=[new])
        assert node
        before = stored_results(study)
        cluster.kill_node(node)
        driver.succeed()
    check(study, 6, before)


def test_a_study_whose_driver_was_killed_is_completed_by_resuming_it(study: ClusterStudy):
    with study.start(5, 100) as driver:
        driver.wait_until(lambda: existing(study.storage, "*/trials/*/checkpoint.pt") or driver.has_ended())
    before = stored_results(study)
    with study.resume() as driver:
        driver.succeed()
    assert f"resumed: {len(before)} of 5 trials finished, " in driver.output
    check(study, 5, before)


def test_a_driver_that_was_suspended_writes_nothing_after_the_study_was_resumed(study: ClusterStudy):
    """The driver and its trials wake up again, as after a network partition or on a laptop that was closed."""
    for _ in range(2):  # the suspended driver keeps the other nodes
        study.cluster.add_node()
    with study.start(5, 60, "--concurrency", "2") as suspended:
        suspended.wait_until(lambda: has_started(study))
        suspended.wait_until(study.cluster.workers)
        os.kill(suspended.process.pid, signal.SIGSTOP)
        before = stored_results(study)
        with study.resume(log="second") as driver:
            driver.succeed()
        after = stored_results(study)
        os.kill(suspended.process.pid, signal.SIGCONT)
        assert suspended.wait_for_exit() == 3, suspended.output
    assert "another driver has resumed the study" in suspended.output and "Traceback" not in suspended.output
    assert stored_results(study) == after
    check(study, 5, before)


def test_a_tracking_server_that_was_down_for_a_while_has_everything_at_the_end(study: ClusterStudy):
    with study.start(9, 20) as driver:
        driver.wait_until(lambda: len(stored_results(study)) >= 2 or driver.has_ended())
        study.server.kill()
        at_kill = len(stored_results(study))
        driver.wait_until(lambda: len(stored_results(study)) > at_kill or driver.has_ended())
        study.server.launch()
        driver.succeed()
    check(study, 9, {})


@pytest.fixture
def small_disk(study: ClusterStudy):
    """A file system of 8 MB for the study's storage; skips the test where none can be mounted."""
    study.storage.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(study.storage)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount a small file system here: {done.stderr.strip()}")
    yield study.storage
    subprocess.run(["umount", "-l", str(study.storage)], check=False)


def test_a_full_disk_stops_the_study_which_can_be_resumed_when_there_is_space(study: ClusterStudy, small_disk: Path):
    ballast = small_disk / "ballast"
    with study.start(10, 10) as driver:
        driver.wait_until(lambda: len(stored_results(study)) >= 2)
        with pytest.raises(OSError, match="No space left"), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        assert driver.wait_for_exit() == 3, driver.output
    before = stored_results(study)
    assert 2 <= len(before) < 10 and "Traceback" not in driver.output
    (line,) = [line for line in driver.output.splitlines() if line.startswith("error: ")]
    assert "No space left on device" in line and line.endswith("; continue with")
    assert f"{ROOT / CRL} --resume {study.folder.name}" in driver.output
    assert not list(study.folder.rglob("*.part"))
    with study.resume() as driver:  # the disk is still full
        assert driver.wait_for_exit() in (2, 3), driver.output
    assert "Traceback" not in driver.output
    ballast.unlink()
    with study.resume() as driver:
        driver.succeed()
    check(study, 10, before)


FAULTS = ("worker", "node", "server", "driver twice", "driver")
TRIALS, EPOCHS = 8, 10
RUNS = int(os.environ.get("TRILEMMA_FAULT_RUNS", "20"))
"""Number of runs with random faults."""
QUICK_RUNS = FAULTS.index("driver")
"""Number of these runs that are not marked as slow: one for each kind of fault; two kills of the driver include one."""
FIRST_SEED = int(os.environ.get("TRILEMMA_FAULT_SEED", "0"))


@pytest.fixture(scope="module")
def undisturbed(running_cluster: Cluster, running_server: TrackingServer, tmp_path_factory):
    """The front and the metrics of the study without a fault."""
    study = ClusterStudy(tmp_path_factory.mktemp("undisturbed"), running_cluster, running_server)
    with study.start(TRIALS, EPOCHS) as driver:
        driver.succeed()
    return published_front(study), reproducible_metrics(study)


@pytest.mark.parametrize("seed", [
    pytest.param(FIRST_SEED + i, marks=[pytest.mark.slow] * (i >= QUICK_RUNS)) for i in range(RUNS)
])  # fmt: skip
def test_a_fault_at_a_random_time_does_not_change_the_front(undisturbed, study: ClusterStudy, seed: int):
    """The seed determines the fault and its time; TRILEMMA_FAULT_SEED=7 TRILEMMA_FAULT_RUNS=1 repeats the run of seed 7."""
    fault, rng = FAULTS[seed % len(FAULTS)], random.Random(seed)
    before: dict[str, bytes] = {}
    for _ in range({"driver": 1, "driver twice": 2}.get(fault, 0)):
        with start_or_resume(study) as driver:
            end = time.monotonic() + rng.uniform(5, 20)
            driver.wait_until(lambda driver=driver, end=end: time.monotonic() > end or driver.has_ended())
            print(f"driver killed after {len(stored_results(study))} trials")
        before |= {name: data for name, data in stored_results(study).items() if name not in before}
    with start_or_resume(study) as driver:
        if fault in ("worker", "node", "server"):
            driver.wait_until(lambda: has_started(study))
            driver.wait_until(lambda: study.cluster.busy_node() or driver.has_ended())
            time.sleep(rng.uniform(0, 5))
            before = stored_results(study)
            print(f"{fault} killed after {len(before)} trials")
            inject(fault, study, rng)
        driver.succeed()
    check(study, TRIALS, before)
    assert (published_front(study), reproducible_metrics(study)) == undisturbed


def start_or_resume(study: ClusterStudy) -> Driver:
    """Start the study, or resume it if it has been started."""
    return study.resume() if existing(study.storage, "*/plan.json") else study.start(TRIALS, EPOCHS)


def inject(fault: str, study: ClusterStudy, rng: random.Random) -> None:
    """Kill a worker; or a node or the server, which is then replaced."""
    cluster, server = study.cluster, study.server
    if fault == "worker" and (workers := cluster.workers()):
        kill(rng.choice(workers))
    elif fault == "node":
        cluster.kill_node(cluster.busy_node() or cluster.nodes[0])
        cluster.add_node()
    elif fault == "server":
        server.kill()
        time.sleep(rng.uniform(0.5, 3))
        server.launch()
