"""GAT: identities of Delta, the generator's loss and optimum in closed form, and who is trained by which step."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

from core import data, nets, rng, train, trial
from core.attacks.gradient import fgsm
from core.config import TrialConfig
from core.data import Images
from core.perturbations import gat
from core.perturbations.gat import GAT, build_generator, probability_slope
from core.slots import Context, Step

torch.set_num_threads(1)
TINY = {"net.width": 3, "net.hidden": 6, "epochs": 2, "batch_size": 8, "optimizer.lr": 0.05}
LOUD = {"perturbation": "gat", "perturbation.width": 4, "perturbation.lr_g": 1e-2, "perturbation.delta_scale": "batch_std"}
SHAPE = (1, 4, 4)


def images(n=23, seed=0) -> Images:
    x = torch.randint(0, 256, (n, 1, 8, 8), generator=torch.Generator().manual_seed(seed))
    return Images(x.to(torch.uint8), torch.arange(n) % 3, 3)


def fit(params, **options) -> train.Bound:
    return train.train(TrialConfig.of(TINY | params), images(), images(9, seed=1), **options)


def weights(bound: train.Bound) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in bound.net.parameters()])


def classifier(classes: int = 3, seed: int = 0) -> nets.Net:
    """Small, float64, and far from flat."""
    torch.manual_seed(seed)
    net = nets.build(nets.NETS["convnet"](width=3, hidden=6), SHAPE, classes).double()
    with torch.no_grad():
        for p in net.parameters():
            p *= 2
    return net


def bound_to(net, **knobs) -> Any:
    torch.manual_seed(1)
    return GAT(**knobs).bind(Context(3, 6, SHAPE, 2, net)).double()


def batch(n: int = 6, seed: int = 0):
    stream = torch.Generator().manual_seed(seed)
    x = 0.3 + 0.4 * torch.rand(n, *SHAPE, generator=stream, dtype=torch.float64)
    return x, torch.randint(3, (n,), generator=stream)


class Ramp(nn.Module):
    """Two classes, of which the second has probability 0.5 + w . (x - 0.5): linear, so that Delta is w or -w."""

    def __init__(self, length: float = 0.2):
        super().__init__()
        w = torch.randn(16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        self.w = length * w / w.norm()

    def forward(self, x):
        p = 0.5 + (x.flatten(1) - 0.5) @ self.w
        return torch.stack([1 - p, p], 1).log()


class Slope(nn.Module):
    """The linear generator G(Delta) = a Delta."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(0.1, dtype=torch.float64))

    def forward(self, delta):
        return self.a * delta


# -- the generator ----------------------------------------------------------------------------------------------------


def test_the_papers_generator_has_107763_weights():
    assert sum(p.numel() for p in build_generator(3).parameters()) == 107_763
    kernels = [tuple(p.shape) for p in build_generator(3).parameters() if p.ndim == 4]
    assert kernels == [(48, 3, 3, 3), *[(48, 48, 3, 3)] * 5, (48, 48, 1, 1), (3, 48, 1, 1)]


@pytest.mark.parametrize("channels, size", [(3, 32), (1, 7)])
def test_the_generator_keeps_the_shape_is_zero_at_zero_and_stays_below_one(channels, size):
    generator = build_generator(channels, 6)
    zero = torch.zeros(2, channels, size, size)
    assert torch.equal(generator(zero), zero)
    out = generator(1e3 * torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0)))
    assert out.shape == zero.shape and 0.5 < out.abs().max() <= 1


# -- Delta ------------------------------------------------------------------------------------------------------------


def test_delta_is_the_slope_of_the_true_class_probability():
    """By central differences, pixel by pixel."""
    net, (x, y) = classifier(), batch(2)
    delta, seen = probability_slope(net, x, y)
    for b in range(2):
        for pixel in range(16):
            up, down = x[b].clone(), x[b].clone()
            up.view(-1)[pixel] += 1e-5
            down.view(-1)[pixel] -= 1e-5
            p = [net(image[None]).softmax(1)[0, y[b]].item() for image in (up, down)]
            assert delta[b].flatten()[pixel].item() == pytest.approx((p[0] - p[1]) / 2e-5, abs=1e-8)
    assert torch.equal(seen, net(x).argmax(1)) and not delta.requires_grad


def test_the_gradient_of_the_cross_entropy_is_minus_delta_over_p():
    net, (x, y) = classifier(), batch()
    inputs = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(nn.functional.cross_entropy(net(inputs), y, reduction="sum"), inputs)
    p = net(x).softmax(1)[torch.arange(6), y].view(-1, 1, 1, 1)
    torch.testing.assert_close(slope, -probability_slope(net, x, y)[0] / p)


def test_minus_the_sign_of_delta_makes_fgsm_images():
    net, (x, y) = classifier(), batch()
    delta = probability_slope(net, x, y)[0]
    torch.testing.assert_close(x - 0.1 * delta.sign(), fgsm(net, x, y, epsilon=0.1), rtol=0, atol=1e-14)


def test_minus_the_unit_vector_of_delta_makes_fast_gradient_images_in_l2():
    net, (x, y) = classifier(), batch()
    delta = probability_slope(net, x, y)[0]
    unit = delta / delta.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    torch.testing.assert_close(x - 0.2 * unit, fgsm(net, x, y, epsilon=0.2, norm="l2"), rtol=0, atol=1e-9)


@pytest.mark.parametrize("scale", ["none", "batch_std", "norm"])
def test_delta_comes_in_the_units_of_delta_scale(scale):
    part = bound_to(classifier(), delta_scale=scale)
    delta = 1e-3 * torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    out = part.scaled(delta)
    if scale == "none":
        assert torch.equal(out, delta)
        return
    torch.testing.assert_close(part.scaled(50 * delta), out)  # how steep the classifier is does not matter ...
    if scale == "batch_std":
        assert out.square().mean().item() == pytest.approx(1)
        torch.testing.assert_close(out / delta, (out / delta)[:1, :1, :1, :1].expand_as(out))  # ... but which image is steeper does
    else:
        torch.testing.assert_close(out.flatten(1).norm(dim=1), torch.ones(5, dtype=torch.float64))


# -- the generator's loss and its optimum -----------------------------------------------------------------------------


def test_a_generator_step_is_an_adam_step_on_the_papers_loss():
    net = classifier()
    part = bound_to(net, c_g=0.3, lr_g=1e-3, width=5, delta_scale="none")
    with torch.no_grad():  # Delta is small, and so is what a fresh generator says of it
        part.generator[0].weight *= 1e3
    peer = copy.deepcopy(part.generator)
    x, y = batch()
    part.practise(net, lambda: (x, y))

    delta = probability_slope(net, x, y)[0]
    offset = peer(delta)
    p = (net(x + offset).exp() / net(x + offset).exp().sum(1, keepdim=True))[torch.arange(6), y]
    loss = sum(p[b] + 0.3 * (offset[b] ** 2).sum() for b in range(6)) / 6
    loss.backward()
    adam = torch.optim.Adam(peer.parameters(), lr=1e-3)
    before = copy.deepcopy(peer)
    for ours, theirs in zip(part.generator.parameters(), peer.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    adam.step()
    for ours, theirs, old in zip(part.generator.parameters(), peer.parameters(), before.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
        assert not torch.equal(ours, old)


@pytest.mark.parametrize("c_g", [0.5, 2.0])
def test_a_linear_generator_finds_the_optimum_at_minus_one_over_two_c(c_g):
    net = Ramp()
    part = bound_to(net, c_g=c_g, k=1)
    part.generator = Slope()
    part.adam = torch.optim.Adam(part.generator.parameters(), lr=0.05)
    x, y = batch()[0], torch.tensor([0, 1, 1, 0, 1, 0])
    for _ in range(300):
        part.practise(net, lambda: (x, y))
    assert part.generator.a.item() == pytest.approx(-1 / (2 * c_g), rel=1e-3)


class Cliff(Ramp):
    """The ramp, bent to stay between 0 and 1 however far one goes."""

    def forward(self, x):
        z = 4 * (x.flatten(1) - 0.5) @ self.w
        return torch.stack([torch.zeros_like(z), z], 1)


def practised(net, c_g: float, steps: int = 60):
    """Norms of the offsets of a generator that was trained, and by how much the objective has improved."""
    part = bound_to(net, c_g=c_g, k=steps, lr_g=1e-2, width=6)
    x, y = batch()[0], torch.tensor([0, 1, 1, 0, 1, 0])
    part.practise(net, lambda: (x, y))
    offset = part(net, x, y, None) - x
    true = [net(z).softmax(1)[torch.arange(6), y] for z in (x, x + offset)]
    power = offset.flatten(1).square().sum(1)
    return power.sqrt(), true[0] - true[1] - c_g * power


def test_a_perturbation_that_pays_has_a_norm_below_one_over_the_root_of_c():
    norms, gain = practised(Ramp(0.5), 4.0)
    assert (gain > 0).all()
    assert (norms <= 1 / math.sqrt(4.0)).all()
    assert 0.3 < norms.mean() / (0.5 / (2 * 4.0)) < 1.1  # on its way to the linear optimum, |w| / 2c


def test_the_price_of_power_silences_the_generator_and_its_absence_saturates_it():
    free, cheap, dear = (practised(Cliff(0.5), c_g)[0].mean().item() for c_g in (0.0, 1.0, 1e4))
    assert dear < 1e-3 < cheap < free
    assert free > 0.7 * math.sqrt(16)  # tanh at its end in every pixel would be 4


# -- what the classifier is shown -------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", [False, True])
def test_the_classifier_is_shown_x_plus_g_of_delta(clip):
    net = classifier()
    part = bound_to(net, clip_train=clip, delta_scale="norm")
    x, y = batch()
    with torch.no_grad():
        part.generator[-2].bias += 2.0  # so much that it leaves [0, 1]
    offset = part.generator(part.scaled(probability_slope(net, x, y)[0]))
    wanted = x + offset
    assert wanted.max() > 1
    out = part(net, x, y, None)
    torch.testing.assert_close(out, wanted.clamp(0, 1) if clip else wanted)
    assert not out.requires_grad


def test_the_curve_reports_norm_probability_and_flips_and_starts_anew():
    net = classifier()
    part = bound_to(net, k=2, lr_g=0.0, delta_scale="batch_std")
    x, y = batch()
    part.practise(net, lambda: (x, y))
    out = part(net, x, y, None)
    p = net(out).softmax(1)[torch.arange(6), y].mean().item()
    flips = (net(out).argmax(1) != net(x).argmax(1)).double().mean().item()
    norm = (out - x).flatten(1).norm(dim=1).mean().item()
    found = part.report()
    assert found == pytest.approx({"generator_norm": norm, "generator_p_true": p, "generator_flipped": flips})
    part(net, x, y, None)
    assert part.report() == pytest.approx({"generator_norm": norm})


# -- the two steps ----------------------------------------------------------------------------------------------------


def test_generator_steps_move_the_generator_alone_and_classifier_steps_the_classifier_alone():
    config, members = TrialConfig.of(TINY | LOUD), images()
    bound = train.bind(config, members, torch.device("cpu"))
    part: Any = bound.perturbation
    x, y = members.x[:8].float() / 255, members.y[:8]

    def now():
        state = copy.deepcopy({"net": bound.net.state_dict(), "generator": part.generator.state_dict()})
        return {name: torch.cat([t.reshape(-1) for t in s.values()]) for name, s in state.items()}

    start = now()
    part.practise(bound.net, lambda: (x, y))
    practised = now()
    assert torch.equal(start["net"], practised["net"])
    assert not torch.equal(start["generator"], practised["generator"])
    assert all(p.grad is None for p in bound.net.parameters()) and all(p.requires_grad for p in bound.net.parameters())
    perturbed = part(bound.net, x, y, None)
    train._update(bound, Step(bound.net, x, y, perturbed, rng.Draw(torch.Generator(), 8), 1), 8)
    after = now()
    assert torch.equal(practised["generator"], after["generator"])
    assert not torch.equal(practised["net"], after["net"])


@pytest.mark.parametrize("k", [0, 1, 3])
def test_there_are_k_generator_steps_on_fresh_batches_for_each_step_of_the_classifier(k, monkeypatch):
    seen = {"practice": [], "training": []}
    forward, practise = gat.Adversary.forward, gat.Adversary.practise

    def listen_forward(self, net, x, classes, draw):
        seen["training"].append(x)
        return forward(self, net, x, classes, draw)

    def listen_practise(self, net, fresh):
        def keep():
            seen["practice"].append(fresh())
            assert len(seen["training"]) == (len(seen["practice"]) - 1) // k  # k of them before each step
            return seen["practice"][-1]

        return practise(self, net, keep)

    monkeypatch.setattr(gat.Adversary, "forward", listen_forward)
    monkeypatch.setattr(gat.Adversary, "practise", listen_practise)
    bound = fit(LOUD | {"perturbation.k": k, "epochs": 1})
    assert len(seen["training"]) == 3 and len(seen["practice"]) == 3 * k
    steps = {int(s["step"]) for s in bound.optimizers["perturbation"].state_dict()["state"].values()}
    assert steps == ({3 * k} if k else set())
    for x, _ in seen["practice"]:
        assert len(x) in (7, 8)
        assert not any(len(x) == len(other) and torch.equal(x, other) for other in seen["training"])
    if k:  # k passes over the members, each an order of its own
        passes = [torch.cat([x for x, _ in seen["practice"][3 * i : 3 * i + 3]]).flatten(1) for i in range(k)]
        whole = torch.cat(seen["training"]).flatten(1)
        for one in passes:
            assert sorted(one.tolist()) == sorted(whole.tolist())
            assert not torch.equal(one, whole)


# -- reductions to ordinary training ----------------------------------------------------------------------------------


def test_clean_images_alone_are_ordinary_training_to_the_bit():
    plain = weights(fit({}))
    assert torch.equal(plain, weights(fit(LOUD | {"perturbation.alpha": 1.0})))
    assert not torch.equal(plain, weights(fit(LOUD | {"perturbation.alpha": 0.5})))


def silenced(channels: int, width: int = 48) -> nn.Sequential:
    generator = build_generator(channels, width)
    for p in generator.parameters():
        nn.init.zeros_(p)
    return generator


@pytest.mark.parametrize("knobs", [{"perturbation.k": 0}, {"perturbation.lr_g": 0.0, "perturbation.k": 2}], ids=["k=0", "lr_g=0"])
def test_a_generator_frozen_at_zero_is_ordinary_training_to_the_bit(knobs, monkeypatch):
    monkeypatch.setattr(gat, "build_generator", silenced)
    bound = fit(LOUD | knobs)
    assert torch.equal(weights(bound), weights(fit({})))
    assert [row["epoch/generator_norm"] for row in bound.curve] == [0.0, 0.0]


# -- the flag ---------------------------------------------------------------------------------------------------------


def judged(**params) -> trial.Result:
    quick = {"pool": 200, "epochs": 1, "judge.steps": 1, "judge.images": 20, "net.width": 2, "batch_size": 64}
    return trial.run(TrialConfig.of(quick | params), data.load("digits", pool=200))


def test_a_trial_whose_generator_does_nothing_is_flagged(monkeypatch):
    loud = judged(**LOUD)
    assert loud.metrics["flag/generator_silent"] == 0.0 and loud.curve[0]["epoch/generator_norm"] > gat.SILENT
    assert judged().metrics["flag/generator_silent"] == 0.0  # there is none
    monkeypatch.setattr(gat, "build_generator", silenced)
    assert judged(**LOUD | {"perturbation.k": 0}).metrics["flag/generator_silent"] == 1.0


def test_one_silent_epoch_is_enough_for_the_flag(monkeypatch):
    config, pool = (
        TrialConfig.of({"pool": 200, "judge.steps": 1, "judge.images": 20, "net.width": 2}),
        data.load("digits", pool=200),
    )
    parts = data.split(pool)
    bound = train.bind(config, pool.at(parts.members), torch.device("cpu"))
    for norms, flag in (([2e-4, 0.9e-4, 1.0], 1.0), ([2e-4, 1.1e-4, 1.0], 0.0)):
        bound.curve = [{"epoch": i, "epoch/generator_norm": norm} for i, norm in enumerate(norms, 1)]
        assert trial.judge(config, bound, pool, parts).metrics["flag/generator_silent"] == flag
