"""The resources of trials and the number of trials at a time."""

import pytest
from command_lines import site

from core.errors import InputError
from trainables.execution.cluster import ConcurrencyLimit, concurrency, share_of
from trainables.execution.resources import Share


def test_a_trial_has_a_gpu_if_there_are_any_unless_another_share_is_requested():
    assert share_of(site(), {"CPU": 2.0}).gpus == 0
    assert share_of(site("--address", "auto"), {"CPU": 8.0, "GPU": 4.0}).gpus == 1
    assert share_of(site("--workers-per-trial", "2"), {"CPU": 8.0, "GPU": 1.0}).gpus == 0.5
    assert share_of(site("--gpus-per-worker", "0"), {"CPU": 8.0, "GPU": 4.0}).gpus == 0
    with pytest.raises(InputError, match="more than the 0 GPUs of the cluster"):
        share_of(site("--address", "auto", "--gpus-per-worker", "1"), {"CPU": 8.0})


@pytest.mark.parametrize("cpus, gpus, most, trials", [(1, 0, 0, 8), (2, 0, 0, 4), (1, 0.25, 0, 4), (1, 0.25, 3, 3), (8, 0, 0, 1)])
def test_as_many_trials_run_at_a_time_as_fit(cpus, gpus, most, trials):
    assert concurrency(Share(0, cpus, gpus), {"CPU": 8.0, "GPU": 1.0}, most) == trials


def test_a_cluster_that_can_grow_receives_the_requested_number_of_trials_or_one_more_than_fit(monkeypatch):
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 8.0, "GPU": 2.0})
    share = Share(0, 1.0, 1.0)
    assert [ConcurrencyLimit(share, site("--address", "auto", *more))() for more in (["--concurrency", "6"], [])] == [6, 3]
    assert [ConcurrencyLimit(share, site(*more))() for more in (["--concurrency", "6"], [])] == [2, 2]
