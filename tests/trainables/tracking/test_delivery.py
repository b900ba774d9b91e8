"""The delivery of writes: order, repetition, the end of the queue, and servers that do not answer."""

import random
import threading
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from tracked import METRICS, PARAMS, RefusingClient, children, histories, outcome, parent_of, plan, sqlite, trial

from trainables.storage.store import Store
from trainables.tracking import delivery, tracker
from trainables.tracking.delivery import Delivery
from trainables.tracking.tracker import Tracker


def started(*, lease=None) -> Delivery:
    """A delivery whose thread is running."""
    queue = Delivery(lease)
    queue.start()
    return queue


def unreachable(now: int) -> None:
    """A write to a server that does not answer."""
    raise OSError("no answer")


# ---------------------------------------------------------------- the queue


def test_drain_returns_after_all_earlier_writes_were_delivered_in_order():
    queue, delivered, attempts = started(), [], []

    def write(number: int, now: int) -> None:
        time.sleep(0.02)
        attempts.append(number)
        if number in (3, 7) and attempts.count(number) == 1:
            raise OSError("the server was restarted")
        delivered.append(number)

    for number in range(10):
        queue.enqueue(lambda now, number=number: write(number, now))
    assert len(delivered) < 10  # `enqueue` does not wait
    assert queue.drain() and delivered == list(range(10))
    assert attempts == [0, 1, 2, 3, 3, 4, 5, 6, 7, 7, 8, 9]
    queue.enqueue(lambda now: write(10, now))
    assert queue.close() == 0 and delivered == list(range(11))


def test_drain_of_an_empty_queue_returns_at_once_and_can_be_repeated():
    queue = started()
    assert queue.drain() and queue.drain()
    assert queue.close() == 0


def test_drain_does_not_wait_for_writes_that_are_enqueued_during_it():
    queue, released, delivered = started(), threading.Event(), []

    def later(now: int) -> None:
        assert released.wait(20)
        delivered.append("later")

    def earlier(now: int) -> None:
        time.sleep(0.3)  # meanwhile, `drain` has begun
        queue.enqueue(later)
        delivered.append("earlier")

    queue.enqueue(earlier)
    assert queue.drain() and delivered == ["earlier"]
    released.set()
    assert queue.close() == 0 and delivered == ["earlier", "later"]


def test_drain_fails_after_the_timeout_and_each_undelivered_write_counts_once(monkeypatch):
    monkeypatch.setattr(delivery, "SHUTDOWN_TIMEOUT_SECONDS", 0.3)
    queue, delivered = started(), []
    queue.enqueue(lambda now: delivered.append("before"))
    for _ in range(3):
        queue.enqueue(unreachable)
    queue.enqueue(lambda now: delivered.append("never"))
    began = time.monotonic()
    assert not queue.drain() and time.monotonic() - began < 10
    assert queue.undelivered == 4 and delivered == ["before"]
    for _ in range(2):
        queue.enqueue(lambda now: delivered.append("never"))
    assert not queue.drain()
    assert queue.close() == 6 and queue.undelivered == 6 and queue.last_error == "no answer"
    assert delivered == ["before"]


def test_the_timeout_starts_again_after_each_successful_write(monkeypatch):
    monkeypatch.setattr(delivery, "SHUTDOWN_TIMEOUT_SECONDS", 1.5)
    queue, attempts = started(), []

    def fails_once(number: int) -> None:
        attempts.append(number)
        if attempts.count(number) == 1:
            raise OSError("no answer")

    for number in range(5):
        queue.enqueue(lambda now, number=number: fails_once(number))
    began = time.monotonic()
    assert queue.drain() and time.monotonic() - began > 2
    assert queue.close() == 0


def test_the_timeout_starts_again_with_a_write_after_drain(monkeypatch):
    monkeypatch.setattr(delivery, "SHUTDOWN_TIMEOUT_SECONDS", 1.0)
    queue, attempts = started(), []

    def fails_once(now: int) -> None:
        attempts.append(now)
        if len(attempts) == 1:
            raise OSError("no answer")

    assert queue.drain()
    time.sleep(1.5)  # a report that takes longer to render than the timeout
    queue.enqueue(fails_once)
    assert queue.drain() and len(attempts) == 2
    assert queue.close() == 0


def test_a_repeated_write_has_the_timestamp_of_its_first_attempt():
    queue, times = started(), []

    def write(now: int) -> None:
        times.append(now)
        if len(times) < 3:
            raise OSError("the reply was lost")

    queue.enqueue(write)
    assert queue.close() == 0 and len(times) == 3 and len(set(times)) == 1


@pytest.mark.parametrize("error", [MlflowException("no such run", RESOURCE_DOES_NOT_EXIST), KeyError("our own error")])
def test_a_write_that_can_never_succeed_counts_as_undelivered_and_is_not_repeated(error):
    queue, attempts = started(), []

    def write(now: int) -> None:
        attempts.append(now)
        raise error

    queue.enqueue(write)
    queue.enqueue(lambda now: attempts.append(now))
    assert queue.close() == 1 and len(attempts) == 2


def test_nothing_is_delivered_or_counted_once_another_driver_has_the_lease(tmp_path: Path):
    home, delivered = Store.at(str(tmp_path / "s-1")), []
    queue = started(lease=home.with_new_lease().lease)
    queue.enqueue(lambda now: delivered.append("before"))
    assert queue.drain() and delivered == ["before"]
    home.with_new_lease()
    queue.enqueue(lambda now: delivered.append("after"))
    assert not queue.drain() and queue.close() == 0 and delivered == ["before"]


@pytest.mark.parametrize("error", [MlflowException("not yet", RESOURCE_DOES_NOT_EXIST), KeyError("our own"), OSError("down")])
def test_the_opening_write_is_repeated_after_any_error_before_the_writes_that_need_it(error):
    """The first attempts may fail for a reason that seems to be lasting, such as a login that is corrected later."""
    attempts, delivered = [], []

    def opening(now: int) -> None:
        attempts.append(now)
        if len(attempts) < 3:
            raise error

    queue = Delivery(opening=opening)
    queue.enqueue(lambda now: delivered.append("first"))
    queue.start()
    assert queue.drain() and delivered == ["first"] and len(attempts) == 3 and len(set(attempts)) == 1
    queue.enqueue(lambda now: delivered.append("second"))
    assert queue.close() == 0 and delivered == ["first", "second"] and len(attempts) == 3


def test_writes_count_as_undelivered_if_the_opening_write_never_succeeds(monkeypatch):
    monkeypatch.setattr(delivery, "SHUTDOWN_TIMEOUT_SECONDS", 0.3)
    delivered = []

    def opening(now: int) -> None:
        raise MlflowException("no permission", RESOURCE_DOES_NOT_EXIST)

    queue = Delivery(opening=opening)
    queue.start()
    queue.enqueue(lambda now: delivered.append("never"))
    assert queue.close() == 2 and not delivered and queue.last_error == "no permission"


def test_an_error_of_ours_is_logged_with_its_traceback_and_without_credentials(caplog):
    def write(now: int) -> None:
        raise KeyError("postgresql://me:secret@host/db")

    queue = started()
    queue.enqueue(write)
    assert queue.close() == 1
    assert "Traceback" in caplog.text and "postgresql://***@host/db" in caplog.text and "secret" not in caplog.text


# ---------------------------------------------------------------- a real MLflow store


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_writes_are_delivered_once_the_database_is_available(tmp_path: Path):
    uri = sqlite(tmp_path / "later")
    (tmp_path / "later").write_text("a file in place of the database's folder")
    so_far = outcome()
    tracker = Tracker(uri, plan(), so_far)
    began = time.monotonic()
    for number in (0, 1):
        tracker.started(number, PARAMS, "")
        tracker.rows(number, trial(number).curve[:2])
        so_far.trials.append(trial(number))
        tracker.ended(so_far.trials[-1])
    assert time.monotonic() - began < 0.5  # the study does not wait
    time.sleep(3)
    (tmp_path / "later").unlink()
    assert tracker.close() == 0
    client, runs = children(uri)
    assert set(runs) == {"0", "1"}
    for run in runs.values():
        assert run.info.status == "FINISHED" and run.data.metrics.items() >= METRICS.items()
        assert [step for step, _ in histories(client, run, "epoch/loss")] == [1, 2, 3]


class LossyClient:
    """A client that executes every write but loses many of the replies."""

    def __init__(self, client: MlflowClient):
        self.client, self.lost, self.rng = client, 0, random.Random(0)

    def __getattr__(self, name: str):
        def call(*args, **kwargs):
            reply = getattr(self.client, name)(*args, **kwargs)
            if name.startswith(("create_", "log_", "set_", "update_")) and self.rng.random() < 0.4:
                self.lost += 1
                raise OSError("the reply was lost")
            return reply

        return call


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_a_write_whose_reply_was_lost_is_repeated_without_being_logged_twice(tmp_path: Path, monkeypatch):
    uri, so_far = sqlite(tmp_path), outcome()
    lossy = LossyClient(MlflowClient(uri))
    monkeypatch.setattr(tracker, "connect", lambda uri: lossy)
    log = Tracker(uri, plan(), so_far)
    for number in (0, 1):
        log.started(number, PARAMS, "")
        log.rows(number, trial(number).curve[:2])
        so_far.trials.append(trial(number))
        log.ended(so_far.trials[-1])
    assert log.close() == 0, log.last_error
    assert lossy.lost > 5
    client, runs = children(uri)
    assert set(runs) == {"0", "1"} and {run.info.status for run in runs.values()} == {"FINISHED"}
    for run in (parent_of(uri)[1], *runs.values()):
        for name in run.data.metrics:
            steps = [step for step, _ in histories(client, run, name)]
            assert len(steps) == len(set(steps)), name


@pytest.mark.ray
@pytest.mark.timeout(300)
@pytest.mark.parametrize("refused", [{"get_experiment_by_name": 1}, {"create_run": 1}, {"set_experiment_tag": 2}])
def test_everything_is_logged_if_the_first_write_is_refused_at_first(refused, tmp_path: Path, monkeypatch):
    uri, so_far = sqlite(tmp_path), outcome()
    client = RefusingClient(MlflowClient(uri), **refused)
    monkeypatch.setattr(tracker, "connect", lambda uri: client)
    log = Tracker(uri, plan(), so_far)
    log.started(0, PARAMS, "")
    so_far.trials.append(trial(0))
    log.ended(so_far.trials[0])
    assert log.close() == 0, log.last_error
    _, runs = children(uri)
    assert runs["0"].info.status == "FINISHED" and runs["0"].data.metrics.items() >= METRICS.items()
    assert parent_of(uri)[1].info.status == "FINISHED"


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_epochs_and_result_of_a_trial_whose_run_could_not_be_created_are_logged_later(tmp_path: Path, monkeypatch):
    uri, so_far = sqlite(tmp_path), outcome()
    client = RefusingClient(MlflowClient(uri))
    monkeypatch.setattr(tracker, "connect", lambda uri: client)
    log = Tracker(uri, plan(), so_far)
    assert log.drain()
    client.refused["create_run"] = 1
    log.started(0, PARAMS, "plain")
    log.rows(0, trial(0).curve[:2])
    assert log.drain()
    _, runs = children(uri)
    assert runs["0"].data.tags["baseline"] == "plain" and runs["0"].data.metrics["epoch/loss"] == 0.5
    assert log.close() == 1 and log.last_error == "create_run is refused"
