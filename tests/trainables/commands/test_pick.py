"""The command `studies/pick.py`: its errors, and its output without registering a model."""

from pathlib import Path

import finished
import pytest

from trainables.commands.pick import main
from trainables.storage.jobs import replicate_folder

BEST = ["--minimize", "mia_auc"]
ROWS: dict[str, tuple[list[str], list[str]]] = {
    "no study": (BEST, ["the following arguments are required: STUDY"]),
    "nothing to optimise": (["s-1"], ["one of the arguments --minimize --maximize is required"]),
    "both": (["s-1", *BEST, "--maximize", "accuracy"], ["not allowed with"]),
    "unknown study": (["s-2", *BEST], ["no study 's-2' in --storage runs, expected one of: bare, flagged, half, s-1"]),
    "unknown metric": (["s-1", "--minimize", "mia_acu"], ["unknown metric 'mia_acu' (did you mean 'mia_auc'?)", ": accuracy, "]),
    "unknown metric in a limit": (["s-1", *BEST, "--require", "acuracy>=0.5"], ["unknown metric 'acuracy' (did you mean 'acc"]),
    "a strict limit": (["s-1", *BEST, "--require", "accuracy>0.5"], ["METRIC>=VALUE or METRIC<=VALUE, got 'accuracy>0.5'"]),
    "eaten by the shell": (["s-1", *BEST, "--require", "accuracy"], ["got 'accuracy'; quote it, because an unquoted > redirects"]),
    "a limit in words": (["s-1", *BEST, "--require", "accuracy>=high"], ["--require accuracy>=high: 'high' is not a number"]),
    "no finite limit": (["s-1", *BEST, "--require", "accuracy>=nan"], ["'nan' is not a finite number"]),
    "nothing satisfies": (
        ["s-1", *BEST, "--require", "accuracy>=0.95"],
        ["none of the 1 points has accuracy>=0.95; the nearest is trial 0 (plain) with accuracy 0.9000"],
    ),
    "not confirmed": (["bare", *BEST], ["no point of bare was confirmed", "without --no-confirm", "--unconfirmed"]),
    "all flagged": (["flagged", *BEST], ["no point of flagged is left on the front (excluding flags: trial 0: zero_gradients)"]),
    "not finished": (["half", *BEST], ["half is not finished", "studies/s.py --resume half"]),
    "unknown to MLflow": (["s-1", *BEST], ["sqlite:///mlflow.db has no run of trial 0 of s-1; --resume s-1 logs it there"]),
    "a name that MLflow refuses": (["s-1", *BEST, "--name", "a/b"], ["--name 'a/b'"]),
    "no name": (["s-1", *BEST, "--name", ""], ["--name ''"]),
    "tracking in a folder": (["s-1", *BEST, "--tracking-uri", "mlruns"], ["is none of: sqlite:///FILE"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def cwd(tmp_path_factory) -> Path:
    """A directory with studies written by hand.

    `s-1` is finished, `bare` has no confirmation, the only replicate of `flagged` has an excluding flag, and `half` has no report.
    """
    folder = tmp_path_factory.mktemp("pick")
    for name in ("s-1", "flagged", "half"):
        store = finished.study(folder / "runs", finished.plan(name=name))
        if name == "half":
            store.discard("report.html")
        if name == "flagged":
            flagged = finished.metrics(0, **{"flag/zero_gradients": 1.0})
            finished.write_training(store, replicate_folder(0, 1), 0, flagged)
    finished.study(folder / "runs", finished.plan(name="bare", replicates=0))
    return folder


@pytest.mark.parametrize("case", ROWS)
def test_invalid_arguments_are_refused_in_one_line_and_nothing_is_created(case, cwd, monkeypatch, capfd):
    finished.refuses(main, *ROWS[case], cwd, monkeypatch, capfd)


def test_a_point_without_confirmation_is_chosen_with_unconfirmed_and_nothing_is_created(cwd, monkeypatch, capfd):
    monkeypatch.chdir(cwd)
    before = finished.everything(cwd)
    with pytest.raises(SystemExit) as exit_info:
        main(["bare", "--maximize", "robust_accuracy", "--require", "accuracy>=0.75", "--unconfirmed", "--no-register"])
    out, err = capfd.readouterr()
    assert exit_info.value.code == 0 and not err
    for text in ("chosen: trial 1 of bare", "among 3 points on the front of the sweep, by its own numbers, of which 2 meet",
                 "MLflow run: unknown", "robust_accuracy 0.5000 (95 % interval none; this network 0.5000)",
                 "network: trial 1, as the sweep trained it", "caveat: accuracy>=0.75"):  # fmt: skip
        assert text in out
    assert finished.everything(cwd) == before
