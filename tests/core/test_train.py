"""The training loop: bit-identical results for the same seed, after resuming, and on one or two workers."""

import io
import math
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from states import digest, identical, run_on_two_workers, start_process, tensors
from tiny_training import TINY, fit, images, weights

from core import data, train, trial
from core.bound import Bound, bind
from core.config import TrialConfig
from core.data import Images
from core.errors import InputError, TrialError
from core.modes import predict
from core.slots import Part, Step

torch.set_num_threads(1)

PGD = {"perturbation": "pgd", "perturbation.steps": 2, "perturbation.epsilon": 0.1, "perturbation.alpha": 0.3}
CRL = {"loss": "crl", "loss.alpha_rce": 3.0, "loss.lambda": 0.5, "loss.alpha_rcl": 1.2, "loss.lr_c": 0.1}
CROP = {"augmentation": "crop_flip", "augmentation.padding": 1}
FULL = CRL | PGD | CROP


def fit_vgg(**options) -> Bound:
    """Train a network with batch norm and dropout on 8 images."""
    params = {"net": "vgg11_bn", "net.dropout": 0.5, "loss": "relaxloss", "loss.alpha": 3.0}
    config = TrialConfig.of({k: v for k, v in TINY.items() if not k.startswith("net.")} | params)
    members = images(8, shape=(3, 32, 32))
    return train.train(config, members, members, **options)


# -- reproducibility --------------------------------------------------------------------------------------------------


def test_runs_are_bit_identical_for_the_same_seed_and_differ_for_another_seed():
    first = fit(FULL).state()
    torch.manual_seed(7)  # the global streams of the caller have no effect
    np.random.seed(7)
    before = torch.get_rng_state()
    assert identical(first, fit(FULL).state())
    assert torch.equal(before, torch.get_rng_state())  # and are unchanged
    assert not identical(first, fit(FULL | {"seed": 1}).state())


def test_a_run_in_another_process_and_directory_is_bit_identical(tmp_path):
    env = os.environ | {"PYTHONHASHSEED": "123"}
    code = "print(test_file.digest(test_file.fit(test_file.FULL).state()))"
    process = start_process(code, __file__, cwd=tmp_path, env=env)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert out.split() == [digest(fit(FULL).state())]


# -- resuming ---------------------------------------------------------------------------------------------------------


def assert_resumes_from_every_epoch(params, members, val) -> None:
    """Check that a run that is resumed from the file of any epoch is bit-identical to the uninterrupted run."""
    config = TrialConfig.of(TINY | params)
    files = {}

    def keep(row, bound):
        buffer = io.BytesIO()
        torch.save(bound.state(), buffer)
        files[int(row["epoch"])] = buffer.getvalue()

    uninterrupted = train.train(config, members, val, on_epoch=keep).state()
    assert sorted(files) == list(range(1, config.epochs + 1))
    for epoch in range(1, config.epochs):
        state = torch.load(io.BytesIO(files[epoch]), weights_only=True)
        assert not identical(state["modules"], uninterrupted["modules"])
        epochs = []
        count = lambda row, _, epochs=epochs: epochs.append(row["epoch"])  # noqa: E731
        resumed = train.train(config, members, val, resume=state, on_epoch=count)
        assert epochs == list(range(epoch + 1, config.epochs + 1))
        assert identical(resumed.state(), uninterrupted)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_resumed_run_is_bit_identical(optimizer):
    assert_resumes_from_every_epoch(FULL | {"optimizer": optimizer, "epochs": 4}, images(), images(9, seed=1))


def test_a_resumed_run_with_batch_norm_and_dropout_is_bit_identical():
    files = []

    def keep(row, bound):
        files.append(io.BytesIO())
        torch.save(bound.state(), files[-1])

    uninterrupted = fit_vgg(on_epoch=keep).state()
    files[0].seek(0)
    assert identical(uninterrupted, fit_vgg(resume=torch.load(files[0], weights_only=True)).state())


def test_resuming_a_finished_run_changes_nothing():
    finished = fit({})
    resumed = fit({}, resume=finished.state(), on_epoch=lambda *_: pytest.fail("trained"))
    assert identical(finished.state(), resumed.state())


def test_resuming_from_a_state_does_not_change_it():
    first = fit({"epochs": 1}).state()
    before = digest(first)
    fit({"epochs": 3}, resume=first)
    assert digest(first) == before


def test_training_on_floats_is_bit_identical_to_training_on_the_same_bytes():
    bytes_ = images()
    floats = Images(bytes_.x / 255, bytes_.y, bytes_.classes)
    params = FULL | {"normalize": False}
    assert identical(fit(params, bytes_).state()["modules"], fit(params, floats).state()["modules"])


def test_channel_statistics_of_floats_are_those_of_the_same_bytes():
    x = images(shape=(3, 8, 8)).x
    for of_bytes, of_floats in zip(data.channel_statistics(x), data.channel_statistics(x / 255), strict=True):
        torch.testing.assert_close(of_floats, of_bytes)


# -- starting from a network ------------------------------------------------------------------------------------------


FULL_BATCH = {"batch_size": 1000, "epochs": 1, "optimizer.schedule": "constant"}
"""One step per epoch, so that the order of the images does not matter."""


def test_training_that_starts_from_a_network_continues_its_training_and_leaves_it_unchanged():
    plain = FULL_BATCH | {"optimizer": "sgd", "optimizer.momentum": 0.0}
    first = fit(plain).state()
    before = digest(first)
    resumed, started = fit(plain | {"epochs": 2}, resume=first), fit(plain, start=first["modules"])
    torch.testing.assert_close(weights(started.net), weights(resumed.net))
    assert digest(first) == before and len(started.curve) == 1 and started.curve[0]["epoch"] == 1


def test_training_that_starts_from_a_network_has_a_new_optimizer():
    adam = FULL_BATCH | {"optimizer": "adam", "optimizer.lr": 1e-3, "optimizer.weight_decay": 0.0}
    first = fit(adam | {"epochs": 5})
    before = weights(first.net)

    def share_of_full_steps(bound):
        """Share of the weights that moved by lr; Adam's first step is lr times the sign of the gradient."""
        step = (weights(bound.net) - before).abs()
        return ((step - 1e-3).abs() < 1e-5).double().mean() / (step > 1e-5).double().mean()

    assert share_of_full_steps(fit(adam, start=first.state()["modules"])) > 0.98
    assert share_of_full_steps(fit(adam | {"epochs": 6}, resume=first.state())) < 0.5


def test_training_that_starts_from_a_network_keeps_its_normalisation():
    first = fit({})
    others = Images(images().x // 2, images().y, 3)
    started = fit({}, others, start=first.state()["modules"])
    assert torch.equal(started.net.mean, first.net.mean) and torch.equal(started.net.std, first.net.std)
    assert not torch.equal(fit({}, others).net.mean, first.net.mean)


def test_crl_centres_are_trained_and_part_of_the_state():
    first, second = fit(CRL | {"epochs": 1}).state(), fit(CRL | {"epochs": 2}).state()
    a, b = (s["modules"]["loss"]["centres"] for s in (first, second))
    assert a.shape == (3, 6) and not torch.equal(a, b)
    assert "momentum_buffer" in second["optimizers"]["loss"]["state"][0]


# -- two workers ------------------------------------------------------------------------------------------------------


CONFIGURATIONS = {
    "cross_entropy": {},
    "relaxloss-flattens": {"loss": "relaxloss", "loss.alpha": 3.0, "loss.variant": "crl_baseline"},
    "relaxloss-climbs": {"loss": "relaxloss", "loss.alpha": 3.0},
    "crl+pgd-l2": CRL | PGD | {"perturbation.norm": "l2", "perturbation.epsilon": 0.5} | CROP,
    "crl+pgd-linf": CRL | PGD | {"perturbation.epsilon": 8 / 255},
    "elastic_net": {"regularizer": "elastic_net", "regularizer.l1": 0.05, "regularizer.l2": 0.05},
}
"""Configurations of the test with two workers; the last batch has 7 members, which are split into 3 and 4."""


def train_all() -> dict:
    """Train every configuration, and a network with batch norm; run by each of two workers."""
    states = {name: fit(params).state() for name, params in CONFIGURATIONS.items()}
    try:
        fit_vgg()
        error = "no error"
    except InputError as caught:
        error = str(caught)
    return {"states": states, "error": error}


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    """The results of `train_all` on each of two gloo workers."""
    return run_on_two_workers(__file__, "train_all", tmp_path_factory.mktemp("workers"))


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_two_workers_train_as_one_does(two_workers, name):
    one, two = tensors(fit(CONFIGURATIONS[name]).state()), tensors(two_workers[0]["states"][name])
    assert one.keys() == two.keys()
    for path in one:
        torch.testing.assert_close(two[path], one[path], rtol=2e-4, atol=2e-5, msg=lambda m, path=path: f"{path}: {m}")


def test_the_weights_of_two_workers_are_bit_identical(two_workers):
    rank_0, rank_1 = (result["states"] for result in two_workers)
    assert all(identical(rank_0[name]["modules"], rank_1[name]["modules"]) for name in CONFIGURATIONS)


def test_the_configurations_of_the_test_with_two_workers_differ_by_more_than_its_tolerance():
    start = weights(fit({"optimizer.lr": 0.0}).net)
    ends = [weights(fit(params).net) for params in CONFIGURATIONS.values()]
    for i, a in enumerate(ends):
        assert all((a - b).abs().max() > 1e-3 for b in [start, *ends[:i]])


def test_batch_norm_over_several_cpu_workers_is_rejected(two_workers):
    assert "batch norm over several CPU workers" in two_workers[0]["error"]
    assert "convnet" in two_workers[0]["error"] and "\n" not in two_workers[0]["error"]


# -- the loop ---------------------------------------------------------------------------------------------------------


def test_a_step_is_a_gradient_step_on_the_mean_cross_entropy():
    """One full batch without momentum gives w - lr * d(mean cross-entropy)/dw, on images divided by 255."""
    members = images(12)
    plain = {"batch_size": 12, "epochs": 1, "optimizer.momentum": 0.0, "optimizer.weight_decay": 0.0}
    config = TrialConfig.of(TINY | plain)
    net = bind(config, members, torch.device("cpu")).net
    loss = torch.nn.functional.cross_entropy(net(members.x.float() / 255), members.y)
    gradients = torch.autograd.grad(loss, list(net.parameters()))
    expected = torch.cat([(p - 0.05 * g).detach().reshape(-1) for p, g in zip(net.parameters(), gradients, strict=True)])
    trained = fit(plain, members)
    torch.testing.assert_close(weights(trained.net), expected)
    assert trained.curve[0]["epoch/loss"] == pytest.approx(loss.item(), rel=1e-5)


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(2, 64), st.integers(1, 5))
def test_an_epoch_has_every_member_once_in_batches_whose_sizes_differ_by_at_most_one(n, batch_size, epoch):
    batches = list(train._batches(n, TrialConfig(batch_size=batch_size), epoch))
    assert sorted(torch.cat(batches).tolist()) == list(range(n))
    sizes = [len(b) for b in batches]
    assert max(sizes) <= batch_size and max(sizes) - min(sizes) <= 1
    assert len(sizes) == math.ceil(n / batch_size)


def test_every_epoch_has_a_different_order():
    orders = [torch.cat(list(train._batches(50, TrialConfig(seed=s), e))).tolist() for s in (0, 1) for e in (1, 2, 3)]
    assert len({tuple(order) for order in orders}) == 6


def test_every_epoch_draws_different_noise_for_each_component():
    config, members, drawn = TrialConfig.of(TINY), images(), []

    class NoiseRecorder(Part):
        alpha = 1.0

        def forward(self, *inputs):
            draw = inputs[0].draw if isinstance(inputs[0], Step) else inputs[-1]
            drawn.append(draw.uniform(2).tolist())
            if draw is not inputs[-1]:
                return torch.zeros(())  # as a regularizer
            return inputs[:2] if len(inputs) == 3 else None  # as an augmentation, or as a perturbation

        def train_step(self, net, extra_batches):
            extra_batches()

    def bind_recorder():
        bound = bind(config, members, torch.device("cpu"))
        bound.augmentation = bound.perturbation = bound.regularizer = NoiseRecorder()
        return bound, train._TrainingData(config, bound, members)

    first = bind_recorder()
    for epoch in (1, 2):
        train._epoch(config, *first, epoch)
    assert len(drawn) == len({str(numbers) for numbers in drawn}) == 2 * 3 * 4  # epochs, batches, uses
    train._epoch(config, *bind_recorder(), 2)
    assert drawn[-12:] == drawn[12:24]  # independent of the epochs before


def test_the_curve_has_one_row_per_epoch():
    rows = []
    bound = fit({"epochs": 3}, on_epoch=lambda row, bound: rows.append(dict(row)))
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert bound.curve == rows
    assert set(rows[0]) == {"epoch", "epoch/loss", "epoch/train_accuracy", "epoch/val_accuracy", "epoch/val_loss", "epoch/seconds"}
    correct = (predict(bound.net, images(9, seed=1).x).argmax(1) == images(9, seed=1).y).double().mean()
    assert rows[-1]["epoch/val_accuracy"] == pytest.approx(correct.item())
    probabilities = predict(bound.net, images(9, seed=1).x).double().softmax(1)[torch.arange(9), images(9, seed=1).y]
    assert rows[-1]["epoch/val_loss"] == pytest.approx(-probabilities.log().mean().item(), rel=1e-5)


def test_the_error_of_a_loss_that_is_not_finite_names_the_epoch():
    with pytest.raises(TrialError, match=r"in epoch 1; lower optimizer\.lr") as caught:
        fit({"optimizer.lr": 1e30})
    assert "\n" not in str(caught.value)
    with pytest.raises(TrialError, match=r"in epoch 3"):
        fit({"optimizer.schedule": "1:1e30", "batch_size": 23, "epochs": 4})  # the last step of epoch 2 breaks the weights


def test_a_last_step_that_breaks_the_weights_is_also_a_trial_error():
    config = TrialConfig.of(TINY | {"optimizer.lr": 1e38, "epochs": 1, "batch_size": 64, "judge.steps": 1})
    with pytest.raises(TrialError):
        trial.run(config, images(64, classes=2))


# -- normalisation ----------------------------------------------------------------------------------------------------


def test_normalisation_uses_the_statistics_of_the_members_and_can_be_disabled():
    x = torch.randint(0, 256, (20, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    x[:, 1] //= 4
    members = Images(x, torch.arange(20) % 2, 2)
    net = bind(TrialConfig(), members, torch.device("cpu")).net
    for channel in range(3):
        pixels = x[:, channel].double() / 255
        assert net.mean[channel].item() == pytest.approx(pixels.mean().item(), rel=1e-5)
        assert net.std[channel].item() == pytest.approx(pixels.std().item(), rel=1e-3)
    unnormalised = bind(TrialConfig(normalize=False), members, torch.device("cpu")).net
    assert (unnormalised.mean == 0).all() and (unnormalised.std == 1).all()


def test_a_constant_channel_does_not_divide_by_zero():
    members = Images(torch.full((10, 1, 8, 8), 7, dtype=torch.uint8), torch.arange(10) % 2, 2)
    net = bind(TrialConfig(), members, torch.device("cpu")).net
    assert torch.isfinite(net(torch.rand(2, 1, 8, 8))).all()


def test_training_without_validation_images_reports_no_validation_accuracy():
    bound = train.train(TrialConfig.of(TINY | {"epochs": 1}), images(), images().at(torch.arange(0)))
    assert set(bound.curve[0]) == {"epoch", "epoch/loss", "epoch/train_accuracy", "epoch/seconds"}
