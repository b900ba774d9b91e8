"""The command `studies/pick.py`: its errors, and its output without registering a model."""

from pathlib import Path

import finished
import pytest

from core.study import trilemma
from trainables.commands.pick import main
from trainables.storage.jobs import replicate_folder

BEST = ["--minimize", "mia_auc"]
ROWS: dict[str, tuple[list[str], list[str]]] = {
    "no study": (BEST, ["the following arguments are required: STUDY"]),
    "nothing to optimise": (["s-1"], ["one of the arguments --minimize --maximize --balanced is required"]),
    "no metric": (["s-1", "--minimize", ""], ["--minimize and --maximize take the name of a metric"]),
    "both": (["s-1", *BEST, "--maximize", "accuracy"], ["not allowed with"]),
    "unknown study": (["s-2", *BEST], ["no study 's-2' in --storage runs, expected one of: bare, flagged, half, noisy, open, s-1"]),
    "unknown metric": (["s-1", "--minimize", "mia_acu"], ["unknown metric 'mia_acu' (did you mean 'mia_auc'?)", ": accuracy, "]),
    "unknown metric in a limit": (["s-1", *BEST, "--require", "acuracy>=0.5"], ["unknown metric 'acuracy' (did you mean 'acc"]),
    "a strict limit": (["s-1", *BEST, "--require", "accuracy>0.5"], ["METRIC>=VALUE or METRIC<=VALUE, got 'accuracy>0.5'"]),
    "eaten by the shell": (["s-1", *BEST, "--require", "accuracy"], ["got 'accuracy'; quote it, because an unquoted > redirects"]),
    "a limit in words": (["s-1", *BEST, "--require", "accuracy>=high"], ["--require accuracy>=high: 'high' is not a number"]),
    "no finite limit": (["s-1", *BEST, "--require", "accuracy>=nan"], ["'nan' is not a finite number"]),
    "nothing satisfies": (
        ["s-1", *BEST, "--require", "accuracy>=0.95"],
        ["no point on the front has accuracy>=0.95; the nearest of 1 point is trial 0 with accuracy 0.9000"],
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

    `s-1` is finished, `bare` has no confirmation, the only replicate of `flagged` has an excluding flag, `half` has no report, and
    `noisy` has three replicates of each of its trials: two like the trial, and one like the next trial. `open` is the same study
    without an objective for the leak.
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
    for name, objectives in (("noisy", trilemma(10)), ("open", trilemma(10)[:2])):
        noisy = finished.study(folder / "runs", finished.plan(name=name, replicates=3, objectives=objectives))
        for number in range(3):
            for r, like in ((1, number), (2, number + 1), (3, number)):
                measured = finished.metrics(like, **{"mia_auc": 0.7, "mia_auc/loss": 0.6, "train_accuracy": 1 - 0.01 * like})
                finished.write_training(noisy, replicate_folder(number, r), like, measured)
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


def choice(capfd, *argv: str, study: str = "noisy") -> list[str]:
    """Lines that the command prints for a study."""
    with pytest.raises(SystemExit) as exit_info:
        main([study, *argv, "--no-register"])
    out, err = capfd.readouterr()
    assert exit_info.value.code == 0 and not err
    return out.splitlines()


def test_a_confirmed_point_is_printed_with_its_interval_the_chance_level_and_the_points_that_may_be_better(cwd, monkeypatch, capfd):
    monkeypatch.chdir(cwd)
    before = finished.everything(cwd)
    lines = choice(capfd, "--maximize", "accuracy", "--require", "robust_accuracy>=0.4")
    assert lines[:2] == [
        "chosen: trial 0 (plain) of noisy, the highest accuracy with robust_accuracy>=0.4",
        "among 3 confirmed points on the front, of which 3 meet the constraints",
    ]
    accuracy, auc = (next(line for line in lines if line.startswith(f"  {name} ")) for name in ("accuracy", "mia_auc"))
    shrunk = float(accuracy.split()[1])
    assert 0.75 < shrunk < 13 / 15 and "mean as measured 0.8667; this network 0.9000" in accuracy
    assert "chance level 0." in auc and "not resolved" in auc and "this network 0.6000" in auc  # not the largest AUC, 0.7
    assert "network: trial 0, replicate 1, the median of the 3 replicates by accuracy" in lines
    (certainty,) = [line for line in lines if line.startswith("certainty: ")]
    runners = [line for line in lines if line.startswith("runner-up: ")]
    assert "its probability of being the best choice is 0." in certainty and len(runners) == int(certainty.split("; ")[1][0]) > 0
    differences = "compared with trial 0, with 95 % intervals: accuracy 0."
    assert all("; its probability of being the best choice is 0." in line and differences in line for line in runners)
    assert any(line.startswith("caveat: robust_accuracy>=0.4 is met with probability 0.") for line in lines)
    assert any(line.startswith("caveat: mia_auc is not resolved") for line in lines)
    assert choice(capfd, "--maximize", "accuracy", "--require", "robust_accuracy>=0.4") == lines
    assert finished.everything(cwd) == before


def test_a_point_can_be_chosen_by_the_knee_and_by_any_metric_that_was_measured(cwd, monkeypatch, capfd):
    monkeypatch.chdir(cwd)
    lines = choice(capfd, "--balanced")
    assert lines[0].endswith("of noisy, the balanced compromise") and any("by distance to the ideal" in line for line in lines)
    lines = choice(capfd, "--minimize", "train_accuracy", "--require", "mia_auc/loss<=0.65")
    assert lines[0] == "chosen: trial 2 of noisy, the lowest train_accuracy with mia_auc/loss<=0.65"
    names = [line.split()[0] for line in lines if line.startswith("  ")]
    assert names == ["accuracy", "robust_accuracy", "mia_auc", "mia_auc/loss", "train_accuracy"]
    (measured,) = [line for line in lines if line.startswith("  train_accuracy")]
    assert "mean as measured 0.9767; this network 0.9800" in measured


def test_the_leak_is_measured_by_the_best_audit_on_other_images_even_if_it_is_no_objective(cwd, monkeypatch, capfd):
    monkeypatch.chdir(cwd)
    with_leak, without = (choice(capfd, "--minimize", "mia_auc", study=study) for study in ("noisy", "open"))
    for lines in (with_leak, without):
        (leak,) = [line for line in lines if line.startswith("  mia_auc ")]
        assert "mean as measured 0.6000; chance level 0." in leak and "this network 0.6000)" in leak
        assert any(line.endswith("by mia_auc (audit loss)") for line in lines)
