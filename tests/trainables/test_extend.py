"""A later look at the networks of a finished study: what is done, what is not done twice, what is refused. Tasks run here, one
after the other, and MLflow only takes notes; tests/studies/test_rejudge.py has the real ones."""

import contextlib
import csv
import io
from dataclasses import dataclass, field, replace

import finished
import numpy as np
import pytest
from ray.exceptions import RaySystemError

from core import data
from core.config import Metrics
from core.errors import InputError
from core.space import Value
from trainables import cluster, extend, report, results, tasks, tracking
from trainables.look import look_at, stored_networks
from trainables.plan import Site
from trainables.results import versions
from trainables.store import Store
from trainables.trial import Share, npz, pack, trial_folder

seen: list[str] = []
"""Folders of the networks that were looked at."""
told: list[list[int]] = []
"""Per tracker: the versions that it was told of."""


@dataclass(frozen=True)
class Found:
    metrics: Metrics
    predictions: dict[str, np.ndarray]
    drawn: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Fall:
    """An extension under which each network loses some images."""

    loses: int = 1
    fails: tuple[str, ...] = ()
    flags: dict[str, float] = field(default_factory=dict, hash=False)
    error: type[Exception] = RuntimeError
    unfit: str = ""
    has: int = 0

    how, shows = "with a fall", "robust_accuracy"

    @property
    def settings(self) -> dict[str, Value]:
        return {"loses": self.loses}

    @property
    def command(self) -> tuple[str, list[str]]:
        return "studies/fall.py", ["--loses", str(self.loses)]

    def covered(self, plan, later) -> int:
        return next((v.number for v in later if v.settings == self.settings), self.has)

    def check(self, networks) -> None:
        if self.unfit:
            raise InputError(self.unfit)

    def prepare(self, plan, later, networks, arrays, crew, say) -> "Fall":
        return self

    def look(self, network, images, store, later, device) -> Found:
        if network.folder in self.fails:
            raise self.error("it broke\nbadly")
        seen.append(network.folder)
        known = results.evidence(store, network.folder, later)
        stands = np.all([a for name, a in known.items() if name.startswith("stands/")], axis=0)
        stands[: self.loses] = False
        return Found(Metrics({"robust_accuracy": stands.mean(), **self.flags}), {f"stands/fall_{self.loses}": stands})


class Notes:
    """A tracker that only takes notes."""

    undelivered, last_error, parent = 0, "down", "run-1"

    def __init__(self, uri, plan, outcome, home):
        self.told = [outcome.version]
        told.append(self.told)

    def confirmed(self) -> None:
        self.told.append(0)

    def versions(self, later) -> None:
        self.told += [outcome.version for outcome in later]

    def close(self) -> int:
        return Notes.undelivered


@pytest.fixture
def here(monkeypatch, tmp_path):
    """No cluster, no tracking server; in a folder of its own with a finished study."""

    @contextlib.contextmanager
    def joined(site):
        yield {"CPU": 1.0}

    def spread(work, jobs, arrays, share, concurrency, ended):
        for name, job in jobs.items():
            try:
                ended(name, work(**job, arrays=arrays))
            except OSError as error:
                ended(name, {"metrics": {}, "error": str(error)})

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cluster, "joined", joined)
    monkeypatch.setattr(tasks, "spread", spread)
    monkeypatch.setattr(tracking, "Tracker", Notes)
    monkeypatch.setattr(tracking, "front_version", lambda uri, plan: told[-1][-1] if told else 1)
    monkeypatch.setattr(Notes, "undelivered", 0)
    monkeypatch.setattr(report, "html", lambda outcome, pictures=None: f"version {outcome.version}")  # drawing takes a second each
    monkeypatch.setattr(report, "figures", lambda outcome: {f"{p}.png": bytes([outcome.version]) for p in ("front", "hypervolume")})
    seen.clear()
    told.clear()
    return finished.study(tmp_path / "runs")


def look(extension: Fall, **site: object) -> int:
    return extend.extend("s-1", extension, replace(Site(), **site), command=["studies/fall.py", "s-1"])


def front(store: Store, name: str = "front.csv") -> dict[int, float]:
    text = (store.read(name) or b"").decode()
    return {int(row["trial"]): float(row["robust_accuracy"]) for row in csv.DictReader(io.StringIO(text))}


ALL = ["trials/00000", "trials/00001", "trials/00002", "confirm/00000/1"]


def test_every_network_is_looked_at_once_and_the_front_has_another_version(here, tmp_path, capsys):
    before = finished.everything(tmp_path / "runs/s-1")
    assert look(Fall()) == 0 and seen == ALL
    after = finished.everything(tmp_path / "runs/s-1")
    people = {"front.csv", "confirmed.csv", "report.html", "plots/front.png", "plots/hypervolume.png"}
    assert {name for name in before if before[name] != after[name]} <= people  # no earlier result is touched
    assert {f"versions/1/{name}": before[name] for name in people}.items() <= after.items()
    assert all(after[name] == after[f"versions/2/{name}"] for name in people)  # the newest is where people look
    news = {f"versions/2/{folder}/{name}" for folder in ALL for name in ("result.json", "predictions.npz")}
    assert after.keys() - before.keys() == {f"versions/{n}/{name}" for n in (1, 2) for name in people} | news | {
        "versions/2/version.json"
    }
    assert front(here, "versions/1/front.csv") == {0: 0.4, 1: 0.5, 2: 0.6} and front(here) == {0: 0.3, 1: 0.4, 2: 0.5}
    (version,) = versions(here)
    assert version.finished and version.settings == {"loses": 1} and version.facts["command"] == "python studies/fall.py s-1"
    out = capsys.readouterr().out
    assert "[2/4] trial 1  robust_accuracy 0.500 -> 0.400" in out and "[4/4] trial 0, replicate 1  robust_accuracy 0.400" in out
    assert "Front of s-1, version 2" in out and "robust_accuracy: -0.100 on average over 3 trials, at most -0.100" in out
    assert "left the front: none; entered it: none" in out and "flag few_non_members (on the front: trials 0, 1, 2): fewer" in out
    assert f"report: {here.root}/report.html" in out and "mlflow ui --backend-store-uri sqlite:///mlflow.db" in out
    assert told == [[1, 0, 2]]


def test_the_same_again_does_nothing_and_says_so(here, tmp_path, capsys):
    look(Fall())
    before = finished.everything(tmp_path)
    capsys.readouterr()
    assert look(Fall()) == 0 and len(seen) == 4 and len(told) == 1
    assert finished.everything(tmp_path) == before
    out = capsys.readouterr().out
    assert out.startswith("nothing to do: version 2 of the front of s-1 was made with a fall, 20") and f"report: {here.root}" in out


def test_what_the_study_itself_had_is_nothing_to_do(here, tmp_path, capsys):
    before = finished.everything(tmp_path)
    assert look(Fall(has=1)) == 0 and not seen and finished.everything(tmp_path) == before
    assert "version 1 of the front of s-1 had the same from the start" in capsys.readouterr().out


def test_another_look_starts_from_the_newest_version(here):
    look(Fall(1))
    assert look(Fall(3)) == 0 and len(seen) == 8
    assert front(here, "versions/2/front.csv") == {0: 0.3, 1: 0.4, 2: 0.5} and front(here) == {0: 0.1, 1: 0.2, 2: 0.3}
    assert look(Fall(2)) == 0 and front(here) == front(here, "versions/4/front.csv") == {0: 0.1, 1: 0.2, 2: 0.3}
    assert front(here, "versions/1/front.csv") == {0: 0.4, 1: 0.5, 2: 0.6} and [v.number for v in versions(here)] == [2, 3, 4]
    assert told[-1] == [1, 0, 2, 3, 4]
    assert look(Fall(1)) == 0 and len(versions(here)) == 3 and len(seen) == 12  # version 2 has it, though it is not the newest


@pytest.mark.parametrize("error, code", [(KeyboardInterrupt(), 130), (RaySystemError("lost\nfor good"), 3), (OSError("full"), 3)])
def test_interrupted_it_says_how_to_go_on_and_then_does_what_is_left(here, monkeypatch, capsys, error, code):
    def cut_off(work, jobs, arrays, share, concurrency, ended):
        for name, job in list(jobs.items())[:2]:
            ended(name, work(**job, arrays=arrays))
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(tasks, "spread", cut_off)
        assert look(Fall(), storage="./runs", concurrency=2) == code
    out = capsys.readouterr().out
    assert "continue with" in out and "studies/fall.py s-1 --loses 1 --concurrency 2 --storage ./runs" in out and "Front" not in out
    assert not versions(here)[0].finished and front(here) == {0: 0.4, 1: 0.5, 2: 0.6} and not told
    assert look(Fall()) == 0 and seen == ALL
    assert "4 stored networks with a fall, 2 of them done before" in capsys.readouterr().out
    assert versions(here)[0].finished and front(here) == {0: 0.3, 1: 0.4, 2: 0.5}


def test_killed_after_the_last_look_it_publishes_without_looking_again(here):
    look(Fall())
    results.write_version(here, replace(versions(here)[0], finished=""))
    here.discard("versions/2/front.csv")
    assert look(Fall()) == 0 and len(seen) == 4 and front(here, "versions/2/front.csv") and versions(here)[0].finished
    assert front(here, "versions/1/front.csv") == {0: 0.4, 1: 0.5, 2: 0.6}  # not taken from what version 2 had put there


def test_a_network_that_breaks_is_on_no_front_and_can_be_tried_again(here, capsys):
    assert look(Fall(fails=("trials/00001",))) == 1
    out = capsys.readouterr().out
    assert "trial 1 failed: RuntimeError: it broke\n" in out and "badly" not in out
    assert "trial 1 failed in version 2: RuntimeError: it broke; to try again: " in out and "left the front: 1" in out
    assert front(here) == {0: 0.3, 2: 0.5} and versions(here)[0].finished
    assert look(Fall()) == 0 and seen == [*ALL[:1], *ALL[2:], ALL[1]]
    assert front(here) == {0: 0.3, 1: 0.4, 2: 0.5} and len(versions(here)) == 1


def test_a_task_that_is_repeated_because_its_machine_died_takes_the_result_that_it_left(here):
    network, arrays = stored_networks(finished.plan(), here, [])[1], pack(data.load("digits"))
    tried = [look_at(network, Fall(), here, [], "versions/2", Share(0, 1, 0), arrays) for _ in range(2)]
    assert tried[0] == tried[1] and seen == ["trials/00001"]


def test_a_full_disk_is_no_result(here, capsys):
    assert look(Fall(fails=("trials/00002",), error=OSError)) == 3
    assert here.read("versions/2/trials/00002/result.json") is None and not versions(here)[0].finished and not told
    assert "1 of 4 networks have no result; continue with" in capsys.readouterr().out
    assert look(Fall()) == 0 and sorted(seen) == sorted(ALL)


def test_a_trial_that_failed_is_not_looked_at(tmp_path, here):
    finished.study(tmp_path / "runs", finished.plan(name="s-2"), failed=1)
    assert extend.extend("s-2", Fall(), Site(), command=["x"]) == 0
    assert seen == [ALL[0], *ALL[2:]]


def test_a_flag_that_bars_takes_a_trial_off_the_front_and_the_advice_is_given(here, capsys):
    assert look(Fall(flags={"flag/black_box_beats_white_box": 1.0})) == 1  # all of them: nobody is left
    out = capsys.readouterr().out
    assert "new flag black_box_beats_white_box: trials 0 plain, 1, 2" in out and "left the front: 0 plain, 1, 2" in out
    assert "flag black_box_beats_white_box (kept off the front: trials 0, 1, 2): " in out and "the gradients mislead" in out
    assert "the front is empty" in out and front(here) == {}


def test_mlflow_that_missed_a_version_is_told_by_the_same_command(here, monkeypatch, capsys):
    monkeypatch.setattr(Notes, "undelivered", 3)
    assert look(Fall()) == 1
    assert "3 writes did not reach MLflow (down); when it is up again: " in capsys.readouterr().out
    monkeypatch.setattr(Notes, "undelivered", 0)
    monkeypatch.setattr(tracking, "front_version", lambda uri, plan: 1)
    assert look(Fall()) == 0 and told == [[1, 0, 2], [1, 0, 2]] and len(seen) == 4


# ---------------------------------------------------------------- what is refused


def refused(extension: Fall = Fall(), name: str = "s-1", **site: object) -> str:
    with pytest.raises(InputError) as error:
        extend.extend(name, extension, replace(Site(), **site), command=["x"])
    assert not seen
    return str(error.value)


def test_an_unfinished_study_is_refused_with_how_to_finish_it(here):
    here.discard("trials/00002/result.json")
    message = refused(data_dir="there")
    assert "s-1 is not finished, 2 of its 3 trials have ended" in message
    assert "studies/s.py --resume s-1 --data-dir there`" in message
    here.write_json("trials/00002/result.json", {"metrics": finished.metrics(2), "curve": [], "error": ""})
    here.discard("report.html")
    assert "s-1 is not finished, 3 of its 3 trials have ended" in refused()


def test_another_look_that_is_not_finished_is_refused_with_two_ways_out(here, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(tasks, "spread", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        assert look(Fall(1)) == 130
    message = refused(Fall(2))
    assert "version 2 of s-1, with a fall, is not finished; go on with `python studies/fall.py s-1`" in message
    assert f"deleting {here.root}/versions/2" in message


@pytest.mark.parametrize("name", ["network.pt", "predictions.npz"])
@pytest.mark.parametrize("folder", ["trials/00001", "confirm/00000/1"])
def test_a_network_that_is_gone_is_named_with_how_to_get_it_back(here, folder, name):
    here.discard(f"{folder}/{name}")
    message = refused()
    assert f"has no {name} in {here.root}/{folder}; delete result.json there" in message and "--resume s-1" in message


def test_a_study_whose_trials_all_failed_is_refused(here, tmp_path):
    finished.study(tmp_path / "runs", finished.plan(name="s-2", trials=1, replicates=0), failed=0)
    assert refused(name="s-2") == "every trial of s-2 failed, so there is no network to look at"


def test_other_images_are_refused(here):
    rows, labels = np.arange(10), np.zeros(10, int)
    for stored in ({"rows": rows, "labels": labels}, {"rows": rows + 10**6, "labels": labels}):
        here.write(f"{trial_folder(0)}/predictions.npz", npz(stored))
        assert "digits now holds other images than when s-1 was judged" in refused()


@pytest.mark.parametrize("extension, site, words", [
    (Fall(unfit="not for these"), {}, "not for these"),
    (Fall(), {"tracking_uri": "mlruns"}, "is none of: sqlite"),
    (Fall(), {"address": "somewhere"}, "is not HOST:PORT"),
    (Fall(), {"gpus": 99.0}, "--gpus-per-worker 99 is more than"),
    (Fall(), {"storage": "elsewhere"}, "no study 's-1' in --storage elsewhere, there is: none"),
])  # fmt: skip
def test_what_cannot_work_is_refused_and_leaves_nothing(here, tmp_path, extension, site, words):
    before = finished.everything(tmp_path)
    assert words in refused(extension, **site)
    assert finished.everything(tmp_path) == before


def test_a_data_set_that_is_gone_is_refused(here, tmp_path):
    made = finished.plan(name="s-2", config=finished.plan().config.set({"dataset": "parquet:/nowhere"}))
    finished.study(tmp_path / "runs", made)
    assert "no file /nowhere/train.parquet" in refused(name="s-2")
