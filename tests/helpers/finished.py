"""A finished study written by hand: three trials on the front, of which the first is confirmed. Images are the digits."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from digits import DIGITS

from core import data
from core.config import TrialConfig
from core.space import Uniform
from core.study import trilemma
from trainables.reporting.report import render
from trainables.storage.arrays import to_npz
from trainables.storage.jobs import replicate_folder, replicate_job, trial_folder
from trainables.storage.results import ended_trials
from trainables.storage.store import Store
from trainables.storage.versions import outcomes
from trainables.study.plan import Plan
from trainables.study.results import TrainingResult
from trainables.terminal.provenance import facts

IMAGES = 10
"""Number of images that each trial was evaluated on."""


def plan(**changes) -> Plan:
    """A plan with three trials and one replicate per front point, with these fields changed."""
    fields = {
        "name": "s-1", "study": "s", "question": "Why?", "config": TrialConfig(), "space": {"optimizer.lr": Uniform(0.1, 0.2)},
        "objectives": trilemma(10), "baselines": {"plain": {}}, "trials": 3, "sampler": "random", "seed": 0,
        "confirm": {"judge.part": "test"}, "replicates": 1, "data": DIGITS,
    }  # fmt: skip
    return Plan(**(fields | changes))


def metrics(number: int, **more: float) -> dict[str, float]:
    """Metrics of a trial: accuracy falls and robust accuracy rises with its number."""
    robust = 4 + number
    return {"accuracy": 0.9 - 0.1 * number, "robust_accuracy": robust / IMAGES, "mia_auc": 0.6, "flag/few_non_members": 1.0} | more


def predictions(number: int) -> dict[str, np.ndarray]:
    """Per-image evidence that agrees with `metrics`: three fifths of the members have a higher score than each non-member."""
    rows, members = np.arange(IMAGES) + 100, np.arange(IMAGES)
    labels = data.load("digits").y.numpy()[rows]
    wrong = np.arange(IMAGES) >= IMAGES - 1 - number
    scores = np.concatenate([np.where(members < 6, 2.0, 0.0), np.ones(IMAGES)])
    return {
        "rows": rows, "labels": labels, "logits": np.eye(10)[(labels + wrong) % 10],
        "robust/pgd": np.arange(IMAGES) < 4 + number, "robust/fgsm": np.ones(IMAGES, bool),
        "own/rows": np.concatenate([members, rows]), "own/member": np.arange(2 * IMAGES) < IMAGES, "own/loss": scores,
    }  # fmt: skip


def study(storage: Path, of: Plan | None = None, failed: int | None = None) -> Store:
    """Write a finished study below `storage` and return its folder.

    Args:
        storage: folder above all studies.
        of: plan of the study; by default `plan()`.
        failed: number of a trial that failed.
    """
    of = of or plan()
    store = Store.at(str(storage)).below(of.name)
    store.write_json("plan.json", of.to_json())
    store.write_json("facts.json", facts(["studies/s.py"]))
    for number in range(of.trials):
        params = of.config.set({"seed": number + 1, "epochs": 5}).params()
        suggestion = {"number": number, "baseline": "plain" if number == 0 else "", "params": params}
        store.write_json(f"{trial_folder(number)}/params.json", suggestion)
        write_training(store, trial_folder(number), number, {} if number == failed else metrics(number))
    for r in range(1, of.replicates + 1):
        assert replicate_job(of, ended_trials(store)[0], r).folder == replicate_folder(0, r)
        write_training(store, replicate_folder(0, r), 0, metrics(0))
    (first,) = outcomes(of, store, store.read_json("facts.json"), [])
    store.write_all(render(first))
    return store


def write_training(store: Store, folder: str, number: int, measured: Mapping[str, float]) -> None:
    """Write the files that a training leaves behind; without metrics, those of a failed training.

    Args:
        store: the study's folder.
        folder: folder of the training.
        number: number of the trial whose `predictions` are written.
        measured: metrics of the training.
    """
    if measured:
        store.write_state(f"{folder}/network.pt", {"weights of": folder})
        store.write(f"{folder}/predictions.npz", to_npz(predictions(number)))
    curve = [{"epoch": epoch, "epoch/loss": 1 / epoch} for epoch in (1, 2)]
    result = TrainingResult(metrics=measured, curve=curve, error="" if measured else "it diverged")
    store.write_json(f"{folder}/result.json", result.to_json())


def everything(folder: Path) -> dict[str, bytes]:
    """Contents of all files in a folder and below, by relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refuses(main: Callable[[list[str]], object], argv: list[str], fragments: Sequence[str], cwd: Path, monkeypatch, capfd) -> None:
    """Assert that a command rejects its arguments in one line that contains all fragments, and changes no file.

    Args:
        main: entry point of the command.
        argv: its arguments.
        fragments: parts of the message.
        cwd: directory in which the command runs; none of its files may change.
        monkeypatch, capfd: pytest's fixtures.
    """
    monkeypatch.chdir(cwd)
    before = everything(cwd)
    with pytest.raises(SystemExit) as exit_info:
        main(argv)
    out, err = capfd.readouterr()
    assert exit_info.value.code == 2 and not out
    assert err.startswith("error: ") and err.count("\n") == 1 and not [f for f in fragments if f not in err], err
    assert everything(cwd) == before
