"""Schedules of the learning rate, and early stopping."""

import copy

import pytest
import torch
from components import assert_config_rejected
from tiny_training import fit, fit_numbered, weights

from core.config import TrialConfig
from core.errors import InputError
from core.optimizers.standard import factor

torch.set_num_threads(1)


# -- schedules --------------------------------------------------------------------------------------------------------


def test_constant_and_cosine_schedules():
    assert [factor("constant", e, 10) for e in (0, 9)] == [1.0, 1.0]
    assert [factor("cosine", e, 4) for e in range(5)] == pytest.approx([1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5, 0])


@pytest.mark.parametrize("epochs", [1, 2, 7, 20])
def test_the_one_cycle_schedule_has_the_factor_of_torchs_in_the_middle_of_each_epoch(epochs):
    steps = 1001  # per epoch
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=epochs * steps, pct_start=0.25, cycle_momentum=False)
    rates = []
    for _ in range(epochs * steps - 1):
        rates += theirs.get_last_lr()
        optimizer.step()
        theirs.step()
    assert [factor("one_cycle", e, epochs) for e in range(epochs)] == pytest.approx(rates[steps // 2 :: steps], abs=3e-3)


def test_stepwise_schedules_multiply_by_the_last_factor_reached():
    schedule = "50:0.1,80:0.01"
    assert [factor(schedule, e, 100) for e in (0, 49, 50, 79, 80, 99)] == [1, 1, 0.1, 0.1, 0.01, 0.01]
    assert [factor("80:0.01,50:0.1", e, 100) for e in (49, 60, 90)] == [1, 0.1, 0.01]
    assert [factor("0:0.1,1:1,50:0.1", e, 100) for e in (0, 1, 50)] == [0.1, 1, 0.1]  # warm-up (cifar100_resnet)


@pytest.mark.parametrize("schedule", ["", "linear", "50", "50:", ":0.1", "a:0.1", "50:0.1,", "5:0.1;8:0.01", "1.5:0.1"])
def test_schedules_that_cannot_be_read_are_rejected(schedule):
    with pytest.raises(InputError, match=r"cannot read the schedule.*cosine"):
        factor(schedule, 0, 1)


@pytest.mark.parametrize("schedule", ["0:nan", "0:inf", "5:-0.1"])
def test_a_schedule_with_a_negative_or_infinite_factor_is_rejected(schedule):
    assert_config_rejected({"optimizer.schedule": schedule}, "schedule")


def test_the_learning_rate_follows_the_schedule():
    one_epoch = weights(fit({"epochs": 1}).net)
    stopped = weights(fit({"epochs": 3, "optimizer.schedule": "0:1,1:0"}).net)
    assert torch.equal(stopped, weights(fit({"epochs": 1, "optimizer.schedule": "constant"}).net))
    assert not torch.equal(one_epoch, weights(fit({"epochs": 3, "optimizer.schedule": "constant"}).net))


# -- early stopping ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "share, epochs, last", [(0.3, 7, 3), (0.3, 10, 3), (0.1, 30, 3), (0.07, 100, 7), (0.0, 5, 1), (0.02, 30, 1), (1.0, 4, 4)]
)
def test_training_stops_after_a_share_of_the_epochs_that_is_rounded_up(share, epochs, last):
    assert TrialConfig.of({"optimizer.stop_at": share}).optimizer.last_epoch(epochs) == last


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "dp_sgd"])
def test_a_stopped_run_is_bit_identical_to_the_beginning_of_the_long_run(optimizer):
    params = {"optimizer": optimizer, "optimizer.schedule": "cosine", "epochs": 7, "normalize": False}
    states = []
    fit_numbered(params, on_epoch=lambda row, bound: states.append(copy.deepcopy(bound.state())))
    short = fit_numbered(params | {"optimizer.stop_at": 0.3})
    assert [row["epoch"] for row in short.curve] == [1, 2, 3]
    for name, value in states[2]["modules"]["net"].items():
        assert torch.equal(short.net.state_dict()[name], value)
    resumed = fit_numbered(params | {"optimizer.stop_at": 0.3}, resume=short.state(), on_epoch=lambda *_: pytest.fail("trained"))
    assert torch.equal(weights(resumed.net), weights(short.net))
    continued = fit_numbered(params, resume=short.state())  # the schedule is that of the long run
    assert all(torch.equal(continued.net.state_dict()[k], v) for k, v in states[-1]["modules"]["net"].items())
