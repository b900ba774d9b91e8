"""The training loop: the same bits wherever and however often it is interrupted, on one worker or two."""

import io
import math
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from states import digest, in_another_process, of_two_workers, same, tensors

from core import nets, rng, train, trial
from core.config import AUGMENTATIONS, REGULARIZERS, TrialConfig
from core.data import Images
from core.errors import InputError, TrialError
from core.optimizers.standard import factor
from core.slots import Context, Part, Step

torch.set_num_threads(1)
TINY = {"net.width": 3, "net.hidden": 6, "epochs": 2, "batch_size": 8, "optimizer.lr": 0.05}
PGD = {"perturbation": "pgd", "perturbation.steps": 2, "perturbation.epsilon": 0.1, "perturbation.alpha": 0.3}
CRL = {"loss": "crl", "loss.alpha_rce": 3.0, "loss.lambda": 0.5, "loss.alpha_rcl": 1.2, "loss.lr_c": 0.1}
CROP = {"augmentation": "crop_flip", "augmentation.padding": 1}


def images(n=23, shape=(1, 8, 8), classes=3, seed=0) -> Images:
    stream = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 256, (n, *shape), generator=stream).to(torch.uint8)
    return Images(x, torch.arange(n) % classes, classes)


def fit(params, members=None, **options) -> train.Bound:
    return train.train(TrialConfig.of(TINY | params), members or images(), images(9, seed=1), **options)


def fit_vgg(**options) -> train.Bound:
    """A network with batch norm and dropout, on 8 images."""
    params = {"net": "vgg11_bn", "net.dropout": 0.5, "loss": "relaxloss", "loss.alpha": 3.0}
    config = TrialConfig.of({k: v for k, v in TINY.items() if not k.startswith("net.")} | params)
    members = images(8, (3, 32, 32))
    return train.train(config, members, members, **options)


def weights(bound: train.Bound) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in bound.net.parameters()])


# -- what must not change the numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("attack", ["pgd", "fgsm"])
def test_an_attack_of_radius_zero_is_ordinary_training_to_the_bit(attack):
    plain = fit({})
    nothing = fit({"perturbation": attack, "perturbation.epsilon": 0.0})
    assert torch.equal(weights(plain), weights(nothing))
    assert not torch.equal(weights(plain), weights(fit({"perturbation": attack, "perturbation.epsilon": 0.1})))


@pytest.mark.parametrize(
    "params", [{"regularizer": "elastic_net", "regularizer.l1": 0, "regularizer.l2": 0},
               {"augmentation": "crop_flip", "augmentation.padding": 0, "augmentation.flip": False}],
    ids=["elastic_net", "crop_flip"],
)  # fmt: skip
def test_a_filling_turned_off_is_ordinary_training_to_the_bit(params):
    assert torch.equal(weights(fit(params)), weights(fit({})))


def test_clean_loss_weighted_one_is_ordinary_training():
    alone = fit({"perturbation": "pgd", "perturbation.epsilon": 0.1, "perturbation.alpha": 1.0})
    assert torch.equal(weights(alone), weights(fit({})))


FULL = CRL | PGD | CROP


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    first = fit(FULL).state()
    torch.manual_seed(7)  # the global streams of the caller do not matter
    np.random.seed(7)
    before = torch.get_rng_state()
    assert same(first, fit(FULL).state())
    assert torch.equal(before, torch.get_rng_state())  # and are left alone
    assert not same(first, fit(FULL | {"seed": 1}).state())


def test_another_process_in_another_directory_gives_the_same_bits(tmp_path):
    env = os.environ | {"PYTHONHASHSEED": "123"}
    other = in_another_process("print(peer.digest(peer.fit(peer.FULL).state()))", __file__, cwd=tmp_path, env=env)
    out, errors = other.communicate(timeout=120)
    assert other.returncode == 0, errors
    assert out.split() == [digest(fit(FULL).state())]


def test_every_random_use_of_the_seed_is_a_stream_of_its_own():
    names = [("order", 1), ("order", 2), ("augment", 1), ("perturb", 1), ("weights",), ("order", 11), ("order", 1, 1)]
    assert len({rng.fold(0, *n) for n in names} | {rng.fold(1, *n) for n in names}) == 2 * len(names)
    seeds = [rng.fold(seed, "x") for seed in range(100)]
    assert len(set(seeds)) == 100
    assert all(0 <= seed < 2**31 for seed in seeds)  # what NumPy's and scikit-learn's generators take, too


# -- resuming ---------------------------------------------------------------------------------------------------------


def resumed_everywhere(params, members, val) -> None:
    """Stopped after each epoch and resumed from the file, a run ends at the bits of the uninterrupted one."""
    config = TrialConfig.of(TINY | params)
    files = {}

    def keep(row, bound):
        buffer = io.BytesIO()
        torch.save(bound.state(), buffer)
        files[int(row["epoch"])] = buffer.getvalue()

    whole = train.train(config, members, val, on_epoch=keep).state()
    assert sorted(files) == list(range(1, config.epochs + 1))
    for epoch in range(1, config.epochs):
        state = torch.load(io.BytesIO(files[epoch]), weights_only=True)
        assert not same(state["modules"], whole["modules"])
        seen = []
        count = lambda row, _, seen=seen: seen.append(row["epoch"])  # noqa: E731
        again = train.train(config, members, val, resume=state, on_epoch=count)
        assert seen == list(range(epoch + 1, config.epochs + 1))
        assert same(again.state(), whole)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_resumed_run_ends_at_the_same_bits(optimizer):
    resumed_everywhere(FULL | {"optimizer": optimizer, "epochs": 4}, images(), images(9, seed=1))


def test_a_resumed_run_with_batch_norm_and_dropout_ends_at_the_same_bits():
    files = []

    def keep(row, bound):
        files.append(io.BytesIO())
        torch.save(bound.state(), files[-1])

    whole = fit_vgg(on_epoch=keep).state()
    files[0].seek(0)
    assert same(whole, fit_vgg(resume=torch.load(files[0], weights_only=True)).state())


def test_a_finished_run_resumes_to_itself():
    whole = fit({})
    again = fit({}, resume=whole.state(), on_epoch=lambda *_: pytest.fail("trained on"))
    assert same(whole.state(), again.state())


def test_crl_centres_are_trained_and_in_the_state():
    begin, end = fit(CRL | {"epochs": 1}).state(), fit(CRL | {"epochs": 2}).state()
    a, b = (s["modules"]["loss"]["centres"] for s in (begin, end))
    assert a.shape == (3, 6) and not torch.equal(a, b)
    assert "momentum_buffer" in end["optimizers"]["loss"]["state"][0]


# -- two workers ------------------------------------------------------------------------------------------------------

SHARED_OUT = {
    "cross_entropy": {},
    "relaxloss-flattens": {"loss": "relaxloss", "loss.alpha": 3.0, "loss.variant": "crl_baseline"},
    "relaxloss-climbs": {"loss": "relaxloss", "loss.alpha": 3.0},
    "crl+pgd-l2": CRL | PGD | {"perturbation.norm": "l2", "perturbation.epsilon": 0.5} | CROP,
    "crl+pgd-linf": CRL | PGD | {"perturbation.epsilon": 8 / 255},
    "elastic_net": {"regularizer": "elastic_net", "regularizer.l1": 0.05, "regularizer.l2": 0.05},
}
"""23 members in batches of 8, 8 and 7: the last one is shared out as 3 and 4."""


def shared_out() -> dict:
    """What each of two workers does: every configuration, and batch norm."""
    states = {name: fit(params).state() for name, params in SHARED_OUT.items()}
    try:
        fit_vgg()
        error = "no error"
    except InputError as caught:
        error = str(caught)
    return {"states": states, "error": error}


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    """States of every configuration, and the batch-norm error, from both of two gloo workers."""
    return of_two_workers(__file__, "shared_out", tmp_path_factory.mktemp("workers"))


@pytest.mark.parametrize("name", SHARED_OUT)
def test_two_workers_train_what_one_would(two_workers, name):
    one, two = tensors(fit(SHARED_OUT[name]).state()), tensors(two_workers[0]["states"][name])
    assert one.keys() == two.keys()
    for path in one:
        torch.testing.assert_close(two[path], one[path], rtol=2e-4, atol=2e-5, msg=lambda m, path=path: f"{path}: {m}")


def test_two_workers_hold_the_same_weights_to_the_bit(two_workers):
    rank_0, rank_1 = (found["states"] for found in two_workers)
    assert all(same(rank_0[name]["modules"], rank_1[name]["modules"]) for name in SHARED_OUT)


def test_the_configurations_of_the_two_worker_test_differ_by_more_than_its_tolerance():
    start = weights(fit({"optimizer.lr": 0.0}))
    ends = [weights(fit(params)) for params in SHARED_OUT.values()]
    for i, a in enumerate(ends):
        assert all((a - b).abs().max() > 1e-3 for b in [start, *ends[:i]])


def test_batch_norm_over_several_cpu_workers_is_refused(two_workers):
    assert "batch norm over several CPU workers" in two_workers[0]["error"]
    assert "convnet" in two_workers[0]["error"] and "\n" not in two_workers[0]["error"]


# -- the loop itself --------------------------------------------------------------------------------------------------


def test_one_step_is_the_textbook_step():
    """One full batch without momentum: w - lr * d(mean cross-entropy)/dw, on images divided by 255."""
    members = images(12)
    plain = {"batch_size": 12, "epochs": 1, "optimizer.momentum": 0.0, "optimizer.weight_decay": 0.0}
    config = TrialConfig.of(TINY | plain)
    net = train.bind(config, members, torch.device("cpu")).net
    loss = torch.nn.functional.cross_entropy(net(members.x.float() / 255), members.y)
    slopes = torch.autograd.grad(loss, list(net.parameters()))
    wanted = torch.cat([(p - 0.05 * g).detach().reshape(-1) for p, g in zip(net.parameters(), slopes, strict=True)])
    trained = fit(plain, members)
    torch.testing.assert_close(weights(trained), wanted)
    assert trained.curve[0]["epoch/loss"] == pytest.approx(loss.item(), rel=1e-5)


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(2, 64), st.integers(1, 5))
def test_an_epoch_shows_every_member_once_in_batches_equal_to_one_image(n, batch_size, epoch):
    batches = list(train._batches(n, TrialConfig(batch_size=batch_size), epoch))
    assert sorted(torch.cat(batches).tolist()) == list(range(n))
    sizes = [len(b) for b in batches]
    assert max(sizes) <= batch_size and max(sizes) - min(sizes) <= 1
    assert len(sizes) == math.ceil(n / batch_size)


def test_every_epoch_has_an_order_of_its_own():
    orders = [torch.cat(list(train._batches(50, TrialConfig(seed=s), e))).tolist() for s in (0, 1) for e in (1, 2, 3)]
    assert len({tuple(order) for order in orders}) == 6


def test_every_epoch_draws_noise_of_its_own_and_the_two_uses_differ():
    config, members, drawn = TrialConfig.of(TINY), images(), []

    class Recorder(Part):
        alpha = 1.0

        def forward(self, *inputs):
            draw = inputs[0].draw if isinstance(inputs[0], Step) else inputs[-1]
            drawn.append(draw.uniform(2).tolist())
            if draw is not inputs[-1]:
                return torch.zeros(())  # as a regularizer
            return inputs[:2] if len(inputs) == 3 else None  # as an augmentation, else as a perturbation

        def practise(self, net, fresh):
            fresh()

    def bound():
        made = train.bind(config, members, torch.device("cpu"))
        made.augmentation = made.perturbation = made.regularizer = Recorder()
        return made, train._Material(config, made, members)

    first = bound()
    for epoch in (1, 2):
        train._epoch(config, *first, epoch)
    assert len(drawn) == len({str(numbers) for numbers in drawn}) == 2 * 3 * 4  # epochs, batches, uses
    train._epoch(config, *bound(), 2)
    assert drawn[-12:] == drawn[12:24]  # whatever came before


def test_the_curve_has_one_row_per_epoch():
    rows = []
    bound = fit({"epochs": 3}, on_epoch=lambda row, bound: rows.append(dict(row)))
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert bound.curve == rows
    assert set(rows[0]) == {"epoch", "epoch/loss", "epoch/train_accuracy", "epoch/val_accuracy", "epoch/seconds"}
    correct = (train.predict(bound.net, images(9, seed=1).x).argmax(1) == images(9, seed=1).y).double().mean()
    assert rows[-1]["epoch/val_accuracy"] == pytest.approx(correct.item())


def test_a_loss_that_is_not_finite_names_its_epoch():
    with pytest.raises(TrialError, match=r"in epoch 1; lower optimizer\.lr") as caught:
        fit({"optimizer.lr": 1e30})
    assert "\n" not in str(caught.value)
    with pytest.raises(TrialError, match=r"in epoch 3"):
        fit({"optimizer.schedule": "1:1e30", "batch_size": 23, "epochs": 4})  # epoch 2 ends with the broken step


def test_a_last_step_that_breaks_the_weights_is_a_trial_error_too():
    config = TrialConfig.of(TINY | {"optimizer.lr": 1e38, "epochs": 1, "batch_size": 64, "judge.steps": 1})
    with pytest.raises(TrialError):
        trial.run(config, images(64, classes=2))


def test_training_on_from_a_state_leaves_that_state_alone():
    first = fit({"epochs": 1}).state()
    before = digest(first)
    fit({"epochs": 3}, resume=first)
    assert digest(first) == before


def test_predictions_are_made_in_evaluation_mode_and_leave_the_mode_alone():
    torch.manual_seed(0)
    net = nets.build(nets.NETS["vgg11_bn"](), (3, 32, 32), 3).train()
    x = images(5, (3, 32, 32)).x
    first = train.predict(net, x)
    assert torch.equal(first, train.predict(net, x))
    torch.testing.assert_close(first, train.predict(net, x.float() / 255, batch_size=2))
    assert net.training and net.body[1].training and net.body[1].num_batches_tracked == 0


# -- schedules --------------------------------------------------------------------------------------------------------


def test_constant_and_cosine_schedules():
    assert [factor("constant", e, 10) for e in (0, 9)] == [1.0, 1.0]
    assert [factor("cosine", e, 4) for e in range(5)] == pytest.approx([1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5, 0])


def test_stepwise_schedules_multiply_by_the_last_factor_reached():
    schedule = "50:0.1,80:0.01"
    assert [factor(schedule, e, 100) for e in (0, 49, 50, 79, 80, 99)] == [1, 1, 0.1, 0.1, 0.01, 0.01]
    assert [factor("80:0.01,50:0.1", e, 100) for e in (49, 60, 90)] == [1, 0.1, 0.01]
    assert [factor("0:0.1,1:1,50:0.1", e, 100) for e in (0, 1, 50)] == [0.1, 1, 0.1]  # warm-up (cifar100_resnet)


@pytest.mark.parametrize("schedule", ["", "linear", "50", "50:", ":0.1", "a:0.1", "50:0.1,", "5:0.1;8:0.01", "1.5:0.1"])
def test_schedules_that_cannot_be_read_are_refused(schedule):
    with pytest.raises(InputError, match=r"cannot read the schedule.*cosine"):
        factor(schedule, 0, 1)


def test_the_learning_rate_follows_the_schedule():
    start = weights(fit({"epochs": 1}))
    assert torch.equal(weights(fit({"epochs": 3, "optimizer.schedule": "0:1,1:0"})), weights(
        fit({"epochs": 1, "optimizer.schedule": "constant"})
    ))  # fmt: skip
    assert not torch.equal(start, weights(fit({"epochs": 3, "optimizer.schedule": "constant"})))


# -- regularizer ------------------------------------------------------------------------------------------------------

CONTEXT = Context(3, 6, (1, 8, 8), 2, nets.build(nets.NETS["convnet"](width=2, hidden=6), (1, 8, 8), 3))


def penalty(net, **knobs):
    x, y = torch.zeros(2, 3, 32, 32), torch.zeros(2, dtype=torch.int64)
    return REGULARIZERS["elastic_net"](**knobs).bind(CONTEXT)(Step(net, x, y, None, None, 1))


@pytest.mark.parametrize("name", ["convnet", "vgg11_bn"])
def test_elastic_net_is_the_sum_over_kernels_alone(name):
    torch.manual_seed(0)
    net = nets.build(nets.NETS[name](), (3, 32, 32), 3)
    kernels = [p for n, p in net.named_parameters() if p.ndim > 1]  # no bias, no batch norm
    assert len(kernels) == {"convnet": 5, "vgg11_bn": 11}[name]
    by_hand = sum(0.3 * p.double().abs().sum().item() + 0.7 * (p.double() ** 2).sum().item() for p in kernels)
    value = penalty(net, l1=0.3, l2=0.7)
    assert value.item() == pytest.approx(by_hand, rel=1e-5)
    slopes = torch.autograd.grad(value, list(net.parameters()), allow_unused=True)
    for (path, p), slope in zip(net.named_parameters(), slopes, strict=True):
        assert (slope is None) == (p.ndim < 2), path


def test_the_l2_gradient_is_twice_l2_times_the_weight():
    net = nets.build(nets.NETS["convnet"](), (3, 32, 32), 3)
    weight = net.head.weight
    (slope,) = torch.autograd.grad(penalty(net, l1=0.0, l2=0.7), weight)
    torch.testing.assert_close(slope, 2 * 0.7 * weight.detach())
    (slope,) = torch.autograd.grad(penalty(net, l1=0.3, l2=0.0), weight)
    torch.testing.assert_close(slope, 0.3 * weight.detach().sign())


def test_without_a_regularizer_nothing_is_added():
    net = nets.build(nets.NETS["convnet"](), (3, 32, 32), 3)
    assert REGULARIZERS["none"]().bind(CONTEXT)(Step(net, torch.zeros(1), torch.zeros(1), None, None, 1)).item() == 0.0


# -- augmentation -----------------------------------------------------------------------------------------------------


def augment(x, seed=0, **knobs):
    module = AUGMENTATIONS["crop_flip"](**knobs).bind(CONTEXT)
    return module(x, torch.zeros(len(x)), rng.Draw(torch.Generator().manual_seed(seed), len(x)))[0]


def variants(image: np.ndarray, padding: int, flip: bool):
    """Every image that padding, cropping and mirroring can make, by loops, with how it was made."""
    channels, height, width = image.shape
    padded = np.zeros((channels, height + 2 * padding, width + 2 * padding), image.dtype)
    padded[:, padding : padding + height, padding : padding + width] = image
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            crop = padded[:, top : top + height, left : left + width]
            yield (top, left, False), crop
            if flip:
                yield (top, left, True), crop[:, :, ::-1]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("padding", [0, 1, 2])
def test_crop_flip_makes_every_variant_of_the_loop_and_no_other(padding, flip, dtype):
    x = torch.randint(1, 256, (600, 2, 5, 4), generator=torch.Generator().manual_seed(1)).to(dtype)
    out = augment(x, padding=padding, flip=flip)
    assert out.dtype == dtype and out.shape == x.shape
    made = {}
    for before, after in zip(x.numpy(), out.numpy(), strict=True):
        (how,) = [how for how, image in variants(before, padding, flip) if np.array_equal(image, after)]
        made[how] = made.get(how, 0) + 1
    kinds = (2 * padding + 1) ** 2 * (1 + flip)
    assert len(made) == kinds  # each offset and both sides occur ...
    expected = 600 / kinds
    chi2 = sum((count - expected) ** 2 / expected for count in made.values())
    assert chi2 < kinds + 5 * math.sqrt(2 * kinds)  # ... about equally often


def test_crop_flip_draws_per_image_and_not_per_worker():
    x = images(8).x
    module = AUGMENTATIONS["crop_flip"](padding=2).bind(CONTEXT)
    whole = module(x, x, rng.Draw(torch.Generator().manual_seed(3), 8))[0]
    shares = [slice(0, 3), slice(3, 8)]
    parts = [module(x[s], x[s], rng.Draw(torch.Generator().manual_seed(3), 8, s))[0] for s in shares]
    assert torch.equal(torch.cat(parts), whole)


def test_no_augmentation_hands_the_images_back():
    x, y = images(4).x, images(4).y
    out = AUGMENTATIONS["none"]().bind(CONTEXT)(x, y, None)
    assert out[0] is x and out[1] is y


def test_channel_statistics_are_the_means_and_deviations_of_all_pixels():
    x = torch.randint(0, 256, (7, 3, 5, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = train.channel_statistics(x)
    pixels = x.double() / 255
    assert torch.allclose(mean.double(), pixels.mean((0, 2, 3))) and torch.allclose(std.double(), pixels.std((0, 2, 3)))
