"""Collective operations: equal values on every worker, and an error where one worker runs alone."""

import numpy as np
import pytest
import torch
from states import run_on_two_workers
from torch import nn

from core import data, nets, train, trial, workers
from core.bound import Bound
from core.config import TrialConfig
from core.data import Images
from core.evaluation.interim import evaluate_interim
from core.evaluation.judge import judge
from core.evaluation.privacy import outputs_of, reaudit
from core.evaluation.robustness import attack_further

torch.set_num_threads(1)

GAT = {
    "perturbation": "gat", "perturbation.delta_scale": "batch_std", "perturbation.lr_g": 1e-3, "perturbation.width": 4,
    "pool": 300, "epochs": 2, "net.width": 4, "judge.steps": 2, "judge.images": 64, "batch_size": 63,
}  # fmt: skip


def pool() -> Images:
    return data.load("digits", pool=300)


def judge_on_the_first_worker() -> dict:
    """Train on every worker and evaluate on the first, as `trainables.execution.trainable` does; run by each of two workers."""
    config, images, seen = TrialConfig.of(GAT), pool(), []
    if workers.rank():
        parts = data.split(images)
        train.train(config, images.at(parts.members), images.at(parts.val))
        return {}
    result = trial.run(config, images, on_epoch=lambda row, bound: seen.append(row["epoch"]), rungs=(1,))
    robust = {name: torch.from_numpy(v) for name, v in result.predictions.items() if name.startswith("robust/")}
    return {"metrics": dict(result.metrics.values), "epochs": seen, "robust": robust}


def means_and_refusals() -> dict:
    """Batch means of numbers of very different size, and the errors of collectives in code that runs alone."""
    stream = torch.Generator().manual_seed(0)
    values = [10 ** (8 * torch.rand(7, generator=stream) - 4) * torch.randn(7, generator=stream) for _ in range(200)]
    means = torch.stack([workers.batch_mean(v[workers.rows(7)]) for v in values])
    errors = []
    if not workers.rank():
        for operation in COLLECTIVES.values():
            try:
                with workers.alone():
                    operation()
            except RuntimeError as error:
                errors.append(str(error))
    return {"means": means, "expected": torch.stack([v.double().mean() for v in values]), "errors": errors}


def two_workers_run() -> dict:
    return {"judged": judge_on_the_first_worker(), **means_and_refusals()}


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    """The results of `two_workers_run` on each of two gloo workers."""
    return run_on_two_workers(__file__, "two_workers_run", tmp_path_factory.mktemp("workers"))


def in_training_mode(_=None):
    net = workers.synchronised(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)))
    net.train()(torch.zeros(2, 1, 4, 4))


COLLECTIVES = {
    "total": lambda: workers.total(torch.ones(2)),
    "batch_mean": lambda: workers.batch_mean(torch.ones(2)),
    "average_gradients": lambda: workers.average_gradients([nn.Parameter(torch.ones(2))]),
    "SyncBatchNorm": in_training_mode,
}
"""Every operation in which all workers take part."""


# -- several workers ----------------------------------------------------------------------------------------------------


def test_a_trial_with_gat_on_two_workers_is_evaluated_by_one_of_them_with_the_numbers_of_one_process(two_workers):
    there, config = two_workers[0]["judged"], TrialConfig.of(GAT)
    here = trial.run(config, pool(), rungs=(1,))
    assert there["epochs"] == [1, 2] and two_workers[1]["judged"] == {}
    assert "robust/generator" in there["robust"]
    for name, robust in there["robust"].items():
        assert np.array_equal(robust.numpy(), here.predictions[name]), name
    for name in ("accuracy", "train_accuracy", "robust_accuracy", "robust_accuracy/generator", "mia_auc"):
        assert there["metrics"][name] == pytest.approx(here.metrics[name], abs=1e-3), name


def test_a_batch_mean_is_bit_identical_on_every_worker(two_workers):
    """Losses that compare it with a threshold would otherwise take different branches, with different collective operations."""
    first, second = (result["means"] for result in two_workers)
    assert torch.equal(first, second)
    torch.testing.assert_close(first.double(), two_workers[0]["expected"], rtol=1e-4, atol=1e-4)


def test_a_collective_operation_raises_at_once_while_the_other_worker_does_something_else(two_workers):
    assert len(two_workers[0]["errors"]) == len(COLLECTIVES)
    assert all("needs all workers" in error and "\n" not in error for error in two_workers[0]["errors"])


# -- one worker -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COLLECTIVES)
def test_a_collective_operation_raises_in_code_that_runs_alone_also_with_one_worker(name):
    with pytest.raises(RuntimeError, match="needs all workers"), workers.alone():
        COLLECTIVES[name]()
    if name != "SyncBatchNorm":  # needs a GPU in training mode
        COLLECTIVES[name]()  # allowed again after the error


def test_batch_norm_of_several_workers_may_run_alone_in_evaluation_mode():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).eval()
    x = torch.rand(3, 1, 5, 5)
    expected = net(x)
    with workers.alone():
        assert torch.equal(workers.synchronised(net).eval()(x), expected)


@pytest.fixture(scope="module")
def trained() -> tuple[TrialConfig, Images, trial.TrialResult, Bound]:
    config, images = TrialConfig.of(GAT), pool()
    kept = []
    result = trial.run(config, images, on_epoch=lambda row, bound: kept.append(bound))
    return config, images, result, kept[-1]


ENTRIES = {
    "judge": lambda config, images, parts, result, bound: judge(config, bound, images, parts),
    "evaluate_interim": lambda config, images, parts, result, bound: evaluate_interim(config, bound, images, parts),
    "outputs_of": lambda config, images, parts, result, bound: outputs_of(config, bound.net, images),
    "attack_further": lambda config, images, parts, result, bound: attack_further(
        config, result.state["modules"], images, "standard", result.predictions
    ),
    "reaudit": lambda config, images, parts, result, bound: reaudit(
        config, result.state["modules"], images, dict(result.metrics.values)
    ),
}  # fmt: skip
"""Every function that evaluates a network for a trial, a rung, or a revision."""


@pytest.mark.parametrize("name", ENTRIES)
def test_every_evaluation_refuses_a_network_that_needs_the_other_workers(name, trained, monkeypatch):
    config, images, result, bound = trained
    parts, forward = data.split(images), nets.Net.forward

    def collective(net, x):
        return forward(net, x) + 0 * workers.batch_mean(x.flatten(1).mean(1))

    monkeypatch.setattr(nets.Net, "forward", collective)
    with pytest.raises(RuntimeError, match="needs all workers"):
        ENTRIES[name](config, images, parts, result, bound)
    collective(bound.net, torch.zeros(2, 1, 8, 8))


def test_the_callback_of_an_epoch_runs_alone():
    images = pool()
    parts = data.split(images)
    with pytest.raises(RuntimeError, match="needs all workers"):
        train.train(
            TrialConfig.of(GAT), images.at(parts.members), images.at(parts.val),
            on_epoch=lambda row, bound: row.update(mean=workers.batch_mean(torch.ones(2)).item()),
        )  # fmt: skip
