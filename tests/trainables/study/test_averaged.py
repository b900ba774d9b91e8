"""Tests of results over seeds: metrics are means, flags the worst, and one failed seed fails the configuration."""

from statistics import stdev

import pytest

from trainables.storage.jobs import Job, seed_jobs
from trainables.study.results import TrainingResult, averaged


def result(accuracy: float, error: str = "", reused_from: str = "", **more: float) -> TrainingResult:
    metrics = {} if error else {"accuracy": accuracy, **more}
    return TrainingResult(metrics=metrics, error=error, seconds=1.0, reused_from=reused_from)


def test_metrics_are_means_with_their_standard_deviation_and_flags_are_the_worst():
    one = result(0.8, **{"flag/x": 0.0, "mia_auc/loss": 0.5})
    two = result(0.6, **{"flag/x": 1.0, "mia_auc/loss": 0.7, "extra": 1.0})
    metrics = averaged([one, two]).metrics
    assert metrics.keys() == {"accuracy", "sd/accuracy", "flag/x", "mia_auc/loss"}
    assert metrics["accuracy"] == pytest.approx(0.7) and metrics["sd/accuracy"] == pytest.approx(stdev([0.8, 0.6]))
    assert metrics["flag/x"] == 1.0 and metrics["mia_auc/loss"] == pytest.approx(0.6)
    assert averaged([one]) == one


def test_a_configuration_is_reused_only_if_every_seed_is():
    reused, trained = result(0.8, reused_from="s-0/trials/00001"), result(0.6)
    assert averaged([reused, reused]).reused_from == "s-0/trials/00001"
    assert averaged([reused, trained]).reused_from == "" == averaged([trained, reused]).reused_from


def test_a_failed_seed_fails_the_configuration():
    failed = averaged([result(0.8), result(0.0, "it diverged")])
    assert failed.error == "seed 2: it diverged" and failed.metrics == {}


def test_the_first_seed_is_that_of_the_trial_and_the_others_differ():
    params = {"seed": 5, "epochs": 2}
    assert seed_jobs(7, params, 1) == [Job("trials/00007", params)]
    jobs = seed_jobs(7, params, 3)
    assert [job.folder for job in jobs] == [f"trials/00007/seeds/{i}" for i in (1, 2, 3)]
    seeds = [job.params["seed"] for job in jobs]
    assert seeds[0] == 5 and len(set(seeds)) == 3 and all(job.params["epochs"] == 2 for job in jobs)
