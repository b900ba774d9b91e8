"""A finished study made by hand: three trials on the front, the first of them confirmed, images of the digits, no training."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from core import data
from core.config import TrialConfig, trilemma
from core.space import Uniform
from trainables import launch, report
from trainables.confirm import replicate_job
from trainables.plan import Plan
from trainables.results import ended_trials, outcomes, replicate_folder
from trainables.store import Store
from trainables.trial import npz, trial_folder

IMAGES = 10
"""How many each trial was judged on."""


def plan(**changes) -> Plan:
    """Three trials, one replicate."""
    usual = {
        "name": "s-1", "study": "s", "question": "Why?", "config": TrialConfig(), "space": {"optimizer.lr": Uniform(0.1, 0.2)},
        "objectives": trilemma(10), "baselines": {"plain": {}}, "trials": 3, "sampler": "random", "seed": 0,
        "confirm": {"judge.part": "test"}, "replicates": 1,
    }  # fmt: skip
    return Plan(**(usual | changes))


def metrics(number: int, **more: float) -> dict[str, float]:
    """Less accurate and more robust from trial to trial."""
    stands = 4 + number
    return {"accuracy": 0.9 - 0.1 * number, "robust_accuracy": stands / IMAGES, "mia_auc": 0.6, "flag/few_non_members": 1.0} | more


def predictions(number: int) -> dict[str, np.ndarray]:
    """Evidence that goes with `metrics`."""
    rows = np.arange(IMAGES) + 100
    labels = data.load("digits").y.numpy()[rows]
    return {"rows": rows, "labels": labels, "stands/pgd": np.arange(IMAGES) < 4 + number, "stands/fgsm": np.ones(IMAGES, bool)}


def study(
    storage: Path, made: Plan | None = None, failed: int | None = None, more: dict[int, dict[str, float]] | None = None
) -> Store:
    """Write one below `storage`; `failed` is the number of a trial that failed, `more` are metrics by trial."""
    made = made or plan()
    store = Store.at(str(storage)).below(made.name)
    store.write_json("plan.json", made.to_json())
    store.write_json("facts.json", launch.facts(["studies/s.py"]))
    for number in range(made.trials):
        params = made.config.set({"seed": number + 1, "epochs": 5}).params()
        suggestion = {"number": number, "baseline": "plain" if number == 0 else "", "params": params}
        store.write_json(f"{trial_folder(number)}/params.json", suggestion)
        found = {} if number == failed else metrics(number, **(more or {}).get(number, {}))
        judged(store, trial_folder(number), number, found)
    for r in range(1, made.replicates + 1):
        point = ended_trials(store)[0]
        assert replicate_job(made, point, r).folder == replicate_folder(0, r)
        judged(store, replicate_folder(0, r), 0, metrics(0))
    (first,) = outcomes(made, store, store.read_json("facts.json"), [])
    store.write_all(report.files(first))
    return store


def judged(store: Store, folder: str, number: int, found: dict[str, float]) -> None:
    """What a training leaves behind; nothing but an error where nothing was found."""
    if found:
        store.write(f"{folder}/network.pt", b"weights of " + folder.encode())
        store.write(f"{folder}/predictions.npz", npz(predictions(number)))
    curve = [{"epoch": epoch, "epoch/loss": 1 / epoch} for epoch in (1, 2)]
    store.write_json(f"{folder}/result.json", {"metrics": found, "curve": curve, "error": "" if found else "it diverged"})


def everything(folder: Path) -> dict[str, bytes]:
    """All files below, with their content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refuses(
    main: Callable[[list[str]], object], argv: list[str], fragments: Sequence[str], shelf: Path, monkeypatch, capfd
) -> None:
    """A command refuses its words in one line that has all the fragments, and changes nothing on the shelf."""
    monkeypatch.chdir(shelf)
    before = everything(shelf)
    with pytest.raises(SystemExit) as left:
        main(argv)
    out, err = capfd.readouterr()
    assert left.value.code == 2 and not out
    assert err.startswith("error: ") and err.count("\n") == 1 and not [f for f in fragments if f not in err], err
    assert everything(shelf) == before
