"""DP-SGD: private steps against loops over images, the distribution of noise and batches, and the epsilon of Opacus."""

import copy
import json
import math

import pytest
import torch
from opacus.accountants import RDPAccountant
from tiny_training import TINY, fit_numbered, numbered_images, weights

from core import data, rng, train, trial
from core.bound import Bound, bind, build_net
from core.config import LOSSES, TrialConfig
from core.errors import InputError
from core.evaluation.privacy import dp_metrics
from core.metrics import UNBOUNDED
from core.optimizers.dp_sgd import DPSGD
from core.slots import Step

torch.set_num_threads(1)

CPU = torch.device("cpu")
PRIVATE = {"optimizer": "dp_sgd", "normalize": False}
NOISELESS = PRIVATE | {"optimizer.noise_multiplier": 0.0}
COMBINATIONS = {
    "convnet": {},
    "allconv": {"net": "allconv", "net.width": 3},
    "mlenet": {"net": "mlenet"},
    "net_a": {"net": "net_a"},
    "single_layer": {"net": "single_layer", "net.filters": 4},
    "confidence_penalty": {"loss": "confidence_penalty", "loss.alpha": 0.5},
    "fgsm": {"perturbation": "fgsm", "perturbation.alpha": 0.3},
    "bpfc": {"regularizer": "bpfc", "regularizer.noise": 0.0, "regularizer.lambda": 5.0},
    "bpfc-stopped": {"regularizer": "bpfc", "regularizer.noise": 0.0, "regularizer.stop_gradient": "quantised"},
    "bpfc-fgsm": {"regularizer": "bpfc", "regularizer.noise": 0.0, "perturbation": "fgsm", "perturbation.alpha": 0.0},
    "sparse": {"regularizer": "activation_sparsity", "regularizer.lambda": 1e-2},
    "sparse-fgsm": {"regularizer": "activation_sparsity", "regularizer.lambda": 1e-2, "perturbation": "fgsm",
                    "perturbation.alpha": 0.0},
}  # fmt: skip


# -- private steps ----------------------------------------------------------------------------------------------------


def gradients_by_loop(bound: Bound, net, x, y, perturbed) -> list[torch.Tensor]:
    """The gradient of the loss of each image, one image at a time, on a network without Opacus' hooks."""
    gradients = []
    alpha = float(bound.perturbation.alpha) if perturbed is not None else 1.0  # pyright: ignore[reportArgumentType]
    for i in range(len(y)):
        one = slice(i, i + 1)
        step = Step(net, x[one], y[one], None if perturbed is None else perturbed[one], None, 1)  # pyright: ignore[reportArgumentType]
        loss = bound.regularizer(step) + alpha * bound.loss(*step.clean, y[one], 1)
        if perturbed is not None:
            loss = loss + (1 - alpha) * bound.loss(*step.adversarial, y[one], 1)
        gradients.append(torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(net.parameters()))]))
    return gradients


@pytest.mark.parametrize("name", COMBINATIONS)
def test_a_private_step_sums_the_clipped_gradients_of_single_images(name):
    members = numbered_images(12, shape=(3, 28, 28) if name in ("mlenet", "net_a") else (3, 8, 8))
    base = {k: v for k, v in TINY.items() if not (k.startswith("net.") and "net" in COMBINATIONS[name])}
    config = TrialConfig.of(base | NOISELESS | COMBINATIONS[name] | {"optimizer.momentum": 0.0, "optimizer.lr": 1.0})
    without_hooks = build_net(config, members, CPU, "weights")
    bound = bind(config, members, CPU)  # 12 members in 2 steps: 6 expected
    for net in (without_hooks, bound.net):
        net.train()
        for layer in net.modules():
            if isinstance(layer, torch.nn.Dropout):
                layer.p = 0.0
    before = weights(bound.net)
    assert torch.equal(before, weights(without_hooks))
    with torch.no_grad():
        for net in (without_hooks, bound.net):
            for p in net.parameters():
                p *= 1.5
    before = weights(bound.net)
    for count in (4, 1, 3):  # state that a step leaves behind would change the next one
        x = members.x[:count].to(memory_format=torch.channels_last).float() / 255
        y = members.y[:count]
        perturbed = bound.perturbation(bound.net, x, y, rng.Draw(torch.Generator(), count))
        gradients = gradients_by_loop(bound, without_hooks, x, y, perturbed)
        norms = torch.stack(gradients).norm(dim=1)
        clip = norms.median().item()  # some are clipped, some are not
        bound.optimizer.max_grad_norm = clip  # pyright: ignore[reportAttributeAccessIssue]
        expected = sum(g * min(1.0, clip / n.item()) for g, n in zip(gradients, norms, strict=True)) / 6
        step = Step(bound.net, x, y, perturbed, rng.Draw(torch.Generator(), count), 1)
        value, _ = train._update(bound, step, count)
        moved = before - weights(bound.net)
        torch.testing.assert_close(moved, expected, rtol=1e-3, atol=2e-6)
        assert expected.abs().max() > 1e-3 and math.isfinite(value.item())
        with torch.no_grad():
            for p, original in zip(bound.net.parameters(), without_hooks.parameters(), strict=True):
                p.copy_(original)


def test_without_noise_and_clipping_full_batch_training_equals_that_of_sgd():
    shared = {"batch_size": 23, "epochs": 3, "optimizer.momentum": 0.9, "normalize": False}
    private = fit_numbered(NOISELESS | shared | {"optimizer.max_grad_norm": 1e6})
    plain = fit_numbered(shared | {"optimizer.weight_decay": 0.0})
    torch.testing.assert_close(weights(private.net), weights(plain.net), rtol=1e-4, atol=1e-6)
    losses = [row["epoch/loss"] for row in plain.curve]
    assert [row["epoch/loss"] for row in private.curve] == pytest.approx(losses, rel=1e-4)


def test_an_image_moves_the_weights_by_at_most_lr_times_the_clip_over_the_expected_batch_size():
    members = numbered_images(12)
    config = TrialConfig.of(TINY | NOISELESS | {"optimizer.max_grad_norm": 0.01, "optimizer.momentum": 0.0, "optimizer.lr": 1.0})
    bound = bind(config, members, CPU)
    start = copy.deepcopy(bound.net.state_dict())
    x, y = members.x.float() / 255, members.y
    ends = []
    for rows in (slice(0, 7), slice(0, 6)):  # with and without the last image
        bound.net.load_state_dict(start)
        train._update(bound, Step(bound.net, x[rows], y[rows], None, None, 1), rows.stop)  # pyright: ignore[reportArgumentType]
        ends.append(weights(bound.net))
    assert (ends[0] - ends[1]).norm().item() == pytest.approx(0.01 / 6, rel=1e-2)  # reached: the gradient is longer


def test_the_noise_has_the_standard_deviation_that_the_accountant_assumes_even_in_an_empty_batch():
    members = numbered_images(12)
    knobs = {"optimizer.noise_multiplier": 3.0, "optimizer.max_grad_norm": 0.5, "optimizer.momentum": 0.0, "optimizer.lr": 1.0}
    bound = bind(TrialConfig.of(TINY | PRIVATE | knobs | {"net.width": 8, "net.hidden": 20}), members, CPU)
    noises = []
    for seed in (0, 0, 1):
        bound.optimizer.generator = torch.Generator().manual_seed(seed)  # pyright: ignore[reportAttributeAccessIssue]
        before = weights(bound.net)
        empty = Step(bound.net, torch.zeros(0, 1, 8, 8), torch.zeros(0).long(), None, None, 1)  # pyright: ignore[reportArgumentType]
        loss, correct = train._update(bound, empty, 0)
        assert loss == 0 and correct == 0
        noises.append(before - weights(bound.net))
    assert len(noises[0]) > 8000
    assert noises[0].std().item() == pytest.approx(3.0 * 0.5 / 6, rel=0.03)
    assert noises[0].mean().abs() < 0.01
    torch.testing.assert_close(noises[0], noises[1], rtol=1e-3, atol=1e-5)
    assert (noises[0] - noises[2]).std() > 0.2


# -- Poisson batches --------------------------------------------------------------------------------------------------


def test_training_with_empty_batches_stays_finite():
    config = TrialConfig.of(TINY | PRIVATE | {"batch_size": 2, "epochs": 6})
    sizes = [len(rows) for epoch in range(1, 7) for rows in train._batches(9, config, epoch)]
    assert 0 in sizes and 1 in sizes
    curve = fit_numbered(PRIVATE | {"batch_size": 2, "epochs": 6}, numbered_images(9)).curve
    assert all(math.isfinite(row["epoch/loss"]) for row in curve)


@pytest.mark.parametrize("changes", [{}, {"perturbation": "pgd"}, {"augmentation": "crop_flip"}], ids=["plain", "pgd", "crop_flip"])
def test_an_epoch_without_any_image_has_no_training_loss_and_the_noise_of_its_steps(changes):
    params = PRIVATE | {"batch_size": 2, "epochs": 4, "seed": 38} | changes
    config, members = TrialConfig.of(TINY | params), numbered_images(3)
    sampled = [sum(map(len, train._batches(3, config, epoch))) for epoch in range(1, 5)]
    assert sampled == [5, 5, 0, 2]
    ends = []
    bound = fit_numbered(params, members, on_epoch=lambda row, bound: ends.append(weights(bound.net)))
    for row, images in zip(bound.curve, sampled, strict=True):
        assert ("epoch/loss" in row) == ("epoch/train_accuracy" in row) == (images > 0)
        assert all(math.isfinite(value) for value in row.values()) and "epoch/val_accuracy" in row
    assert not torch.equal(ends[2], ends[1])  # the accountant counts these steps, and they add noise
    json.dumps(bound.curve, allow_nan=False)


def test_poisson_batches_have_binomial_sizes_and_contain_every_image_equally_often():
    config = TrialConfig.of(TINY | PRIVATE | {"batch_size": 16})
    n, steps, epochs = 60, 4, 300
    batches = [rows for epoch in range(1, epochs + 1) for rows in train._batches(n, config, epoch)]
    assert len(batches) == steps * epochs == 1200
    q = 1 / steps
    sizes = torch.tensor([float(len(rows)) for rows in batches])
    assert sizes.mean().item() == pytest.approx(n * q, abs=4 * math.sqrt(n * q * (1 - q) / 1200))
    assert sizes.var().item() == pytest.approx(n * q * (1 - q), rel=0.15)
    assert all(len(set(rows.tolist())) == len(rows) for rows in batches)
    drawn = torch.zeros(1200, n)
    for i, rows in enumerate(batches):
        drawn[i, rows] = 1
    assert (drawn.mean(0) - q).abs().max() < 4.5 * math.sqrt(q * (1 - q) / 1200)
    together = (drawn.T @ drawn / 1200 - q * q).fill_diagonal_(0)  # pairs are independent
    assert together.abs().max() < 5.5 * math.sqrt(q * q * (1 - q * q) / 1200)
    consecutive = (drawn[:-1] * drawn[1:]).mean()  # consecutive batches are independent
    assert consecutive.item() == pytest.approx(q * q, rel=0.05)


# -- epsilon ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [0.6, 1.0, 4.0])
def test_epsilon_equals_that_of_the_opacus_accountant_after_single_steps(noise):
    accountant = RDPAccountant()
    for _ in range(5 * 7):
        accountant.step(noise_multiplier=noise, sample_rate=1 / 7)
    spent = DPSGD(noise_multiplier=noise, delta=1e-4).spent(members=800, steps_per_epoch=7, epochs=5)
    assert spent == pytest.approx(accountant.get_epsilon(1e-4), rel=1e-9)


def test_epsilon_decreases_with_noise_and_delta_and_increases_with_epochs():
    spent = [DPSGD(noise_multiplier=noise).spent(800, 7, 5) for noise in (0.5, 1.0, 2.0, 8.0)]
    assert spent == sorted(spent, reverse=True) and spent[0] > 2 * spent[1] > 2 * spent[2] > 0
    assert DPSGD().spent(800, 7, 10) > DPSGD().spent(800, 7, 5)
    assert DPSGD(delta=1e-7).spent(800, 7, 5) > DPSGD(delta=1e-4).spent(800, 7, 5)
    assert DPSGD(noise_multiplier=0.0).spent(800, 7, 5) == math.inf


def test_a_trial_reports_the_epsilon_of_the_epochs_that_were_trained():
    pool = data.load("digits", pool=200)
    config = TrialConfig.of(
        PRIVATE | {"pool": 200, "epochs": 3, "judge.steps": 1, "judge.images": 10, "net.width": 2, "batch_size": 16}
    ).set({"optimizer.stop_at": 0.5})
    result = trial.run(config, pool)
    assert len(result.curve) == 2
    members = len(data.split(pool).members)
    accountant = RDPAccountant()
    for _ in range(2 * math.ceil(members / 16)):
        accountant.step(noise_multiplier=1.0, sample_rate=1 / math.ceil(members / 16))
    assert result.metrics["dp_epsilon"] == pytest.approx(accountant.get_epsilon(1e-5))
    assert dp_metrics(config.set({"optimizer.noise_multiplier": 0.0}), members) == {"dp_epsilon": UNBOUNDED}
    assert dp_metrics(TrialConfig(), members) == {}


def test_a_delta_without_a_meaningful_guarantee_is_rejected_before_training():
    pool = data.load("digits", pool=200)
    with pytest.raises(InputError, match=r"optimizer\.delta=0\.1 must be below 1 / 50 members") as caught:
        trial.run(TrialConfig.of(PRIVATE | {"optimizer.delta": 0.1}), pool, on_epoch=lambda *_: pytest.fail("trained"))
    assert "\n" not in str(caught.value)


# -- rejected combinations --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"normalize": True}, "channel statistics; use normalize=false"),
        ({"net": "resnet18"}, "batch norm"),
        *(({"loss": name}, f"loss={name}") for name, cls in LOSSES.items() if not getattr(cls, "per_image", False)),
        ({"perturbation": "gat"}, "perturbation=gat"),
        ({"augmentation": "mixup"}, "augmentation=mixup"),
        ({"regularizer": "advreg"}, "regularizer=advreg"),
        ({"regularizer": "l2"}, "regularizer=l2"),
        ({"regularizer": "rss", "perturbation": "fgsm"}, "regularizer=rss"),  # would clip both versions of an image
        ({"regularizer": "bpfc", "regularizer.stop_gradient": "clean"}, "regularizer=bpfc"),
    ],
    ids=str,
)
def test_dp_sgd_rejects_settings_that_void_its_guarantee(changes, reason):
    with pytest.raises(InputError, match=f"optimizer=dp_sgd .*{reason}") as caught:
        TrialConfig.of(PRIVATE | changes)
    assert "\n" not in str(caught.value)
