"""Evaluation mode, predictions in it, and gradients in every mode of autograd."""

import contextlib
import copy

import pytest
import torch
from tiny_training import images
from torch import nn

from core import data, nets, rng, trial
from core.attacks.gradient import pgd
from core.attacks.radius import adversarial_radius
from core.attacks.suite import accuracy_over_epsilon, quick, run_suite
from core.attribution.grad_cam import grad_cam
from core.attribution.stability import attribution_maps
from core.audits.gradient_norm import gradient_norm
from core.audits.label_only import boundary_distance
from core.audits.nn_attack import train_attack
from core.config import TrialConfig
from core.evaluation.masking import masking_flags
from core.inversion.acgan import train_generator
from core.inversion.ascent import gradient_ascent, logit_gradient
from core.inversion.deepdream import deepdream
from core.modes import eval_mode, predict
from core.perturbations.gat import GAT, probability_gradient
from core.slots import Context

torch.set_num_threads(1)


def test_predictions_are_made_in_evaluation_mode_and_do_not_change_the_mode():
    torch.manual_seed(0)
    net = nets.build(nets.NETS["vgg11_bn"](), (3, 32, 32), 3).train()
    x = images(5, shape=(3, 32, 32)).x
    first = predict(net, x)
    assert torch.equal(first, predict(net, x))
    torch.testing.assert_close(first, predict(net, x.float() / 255, batch_size=2))
    assert net.training and net.body[1].training and net.body[1].num_batches_tracked == 0


def test_eval_mode_restores_modes_after_an_error():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(16, 3))
    net.train()
    net[1].eval()
    modes = [m.training for m in net.modules()]
    with pytest.raises(RuntimeError), eval_mode(net):
        raise RuntimeError
    assert [m.training for m in net.modules()] == modes


MODES = {"grad": contextlib.nullcontext, "no_grad": torch.no_grad, "inference_mode": torch.inference_mode}


def convolutional(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3)).eval()


def each_gradient(net, adversary, x, y):
    """Results of all functions outside of `core.attacks` that compute gradients."""
    draw = rng.per_image(0, ids=torch.arange(len(x)))
    generator = train_generator(net, x, y, 3, epochs=1, batch_size=6, nz=4, width=2)
    adversary.train_step(net, lambda: (x.clone(), y.clone()))
    attack = train_attack(net(x).detach().softmax(1), y, y == 0, seed=0, epochs=2)
    attacks = quick(2, 1)
    flags = masking_flags(net, x, y, run_suite(net, x, y, attacks, epsilon=0.1), attacks, epsilon=0.1)
    return [
        *vars(gradient_ascent(net, y, x, lr=0.1, iterations=3)).values(), *logit_gradient(net, x, y),
        deepdream(net, y, x, passes=1, octaves=2, steps=2, mean=x.mean((0, 2, 3))).images,
        *generator.parameters(), *attack.parameters(), *adversary.generator.parameters(), grad_cam(net, x, y),
        gradient_norm(net, x, y), *probability_gradient(net, x, y), *attribution_maps(net, x).maps.values(),
        torch.tensor(list(flags.values())), boundary_distance(net, x, y, draw=draw, steps=1, samples=4),
        torch.tensor(list(accuracy_over_epsilon(net, x, y, [0.1, 0.5]).values())), adversarial_radius(net, x, y, steps=50),
    ]  # fmt: skip


@pytest.mark.parametrize("frozen", [False, True])
def test_gradients_are_the_same_in_every_mode_of_autograd(frozen):
    """`torch.enable_grad` does not end `torch.inference_mode`, and autograd refuses tensors that were made in it."""
    stream = torch.Generator().manual_seed(0)
    x, y = torch.rand(6, 1, 8, 8, generator=stream), torch.arange(6) % 3
    results = {}
    for name, mode in MODES.items():
        torch.manual_seed(0)
        net = convolutional().requires_grad_(not frozen)
        adversary = GAT(width=2).bind(Context(3, 4, (1, 8, 8), 1, net))
        with mode():
            results[name] = each_gradient(net, adversary, x.clone(), y.clone())
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    for name in ("no_grad", "inference_mode"):
        for one, other in zip(results["grad"], results[name], strict=True):
            assert torch.equal(one, other), name
    assert results["grad"][4].abs().sum() > 0  # the gradient of a logit


def test_a_trial_is_the_same_in_every_mode_of_autograd():
    config = TrialConfig.of({
        "epochs": 1, "net.width": 4, "batch_size": 32, "perturbation": "gat", "perturbation.width": 4, "judge.steps": 2,
        "regularizer": "advreg", "judge.images": 6, "judge.audits": "standard", "judge.attribution": 2,
    })  # fmt: skip
    values, predictions = {}, {}
    for name, mode in MODES.items():
        with mode():
            result = trial.run(config, data.load("digits", pool=160))
        values[name] = {k: v for k, v in result.metrics.values.items() if "second" not in k}
        predictions[name] = result.predictions["logits"]
        assert not any(p.is_inference() for p in result.state["modules"]["net"].values())
    assert values["grad"] == values["no_grad"] == values["inference_mode"]
    assert (predictions["grad"] == predictions["inference_mode"]).all()


def test_results_of_gradients_can_be_used_by_autograd():
    net = convolutional()
    with torch.inference_mode():
        x = torch.rand(2, 1, 8, 8)
        adv = pgd(net, x, torch.tensor([0, 1]), epsilon=0.1, steps=2)
    assert not adv.requires_grad and not adv.is_inference() and not torch.equal(adv, x)
    net(adv.requires_grad_()).sum().backward()
    assert adv.grad is not None


def test_a_network_made_in_inference_mode_is_refused_in_one_line_and_its_copy_works():
    with torch.inference_mode():
        net = convolutional()
    x, y = torch.rand(2, 1, 8, 8), torch.tensor([0, 1])
    for use in (
        lambda net: pgd(net, x, y, epsilon=0.1, steps=1), lambda net: run_suite(net, x, y, quick(1, 1), epsilon=0.1),
        lambda net: gradient_norm(net, x, y), lambda net: grad_cam(net, x, y), lambda net: adversarial_radius(net, x, y, steps=1),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"made under torch.inference_mode\(\).*pass copy.deepcopy\(net\)") as caught:
            use(net)
        assert "\n" not in str(caught.value)
        use(copy.deepcopy(net))
    assert predict(net, x).shape == (2, 3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_inversion_and_audits_accept_every_floating_type(dtype):
    net, x, y = convolutional().to(dtype), torch.rand(3, 1, 8, 8).to(dtype), torch.arange(3)
    for inverted in (
        gradient_ascent(net, y, x, lr=0.1, iterations=2).images, deepdream(net, y, x, passes=1, octaves=2, steps=1).images
    ):  # fmt: skip
        assert inverted.dtype == dtype and inverted.isfinite().all() and not torch.equal(inverted, x)
    assert gradient_norm(net, x, y).dtype == torch.float64
    with pytest.raises(ValueError, match="floating-point images"):
        gradient_ascent(net, y, (x * 255).to(torch.uint8), lr=0.1, iterations=1)
