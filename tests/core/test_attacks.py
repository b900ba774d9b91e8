"""Attacks against their formulas, closed forms on affine models, and the promises that hold for any network."""

import functools
import itertools
import math

import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from core import rng
from core.attacks.ball import draw_offset, project, random_offset
from core.attacks.gradient import fgsm, frozen, pgd
from core.attacks.losses import margin

torch.set_num_threads(1)

NORMS = ["linf", "l2"]
SHAPE = (1, 4, 4)


def mlp(seed=0, classes=3, shape=SHAPE, dtype=torch.float32):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(math.prod(shape), 24), nn.Tanh(), nn.Linear(24, classes)
        ).to(dtype)  # fmt: skip


def images(n=32, classes=3, shape=SHAPE, seed=0, low=0.0, high=1.0, dtype=torch.float32):
    stream = torch.Generator().manual_seed(seed)
    x = low + (high - low) * torch.rand(n, *shape, generator=stream)
    return x.to(dtype), torch.randint(classes, (n,), generator=stream)


def affine(w, dtype=torch.float64):
    """Logits w @ pixels + b; w: [classes, pixels]."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(w.shape[1], len(w))).to(dtype)
    with torch.no_grad():
        net[1].weight.copy_(w)
        net[1].bias.copy_(torch.linspace(-0.1, 0.1, len(w)))
    return net


def cross_entropy_gradient(net, x, y):
    x = x.clone().requires_grad_()
    F.cross_entropy(net(x), y, reduction="sum").backward()
    return x.grad


def draw(n, seed=0):
    return rng.Draw(torch.Generator().manual_seed(seed), n)


def distance(a, b, norm):
    offset = (a - b).flatten(1).double()
    return offset.abs().amax(1) if norm == "linf" else offset.norm(dim=1)


@torch.no_grad()
def right(net, x, y):
    return net(x).argmax(1) == y


@functools.cache
def trained():
    """Fitted to 8x8 digits by a loop of its own; 400 images that it did not see."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    x = torch.tensor(raw.images / 16, dtype=torch.float32)[:, None]
    y = torch.tensor(raw.target)
    net = mlp(1, 10, (1, 8, 8))
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(net(x[:1200]), y[:1200]).backward()
        optimizer.step()
    optimizer.zero_grad()
    assert right(net, x[1200:1600], y[1200:1600]).double().mean() > 0.85
    return net, x[1200:1600], y[1200:1600]


# ---- formulas


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("norm", NORMS)
def test_fgsm_is_pgd_with_one_step_of_length_epsilon_bit_for_bit(norm, targeted):
    net, (x, y) = mlp(), images()
    one = fgsm(net, x, y, epsilon=0.1, norm=norm, targeted=targeted)
    assert torch.equal(one, pgd(net, x, y, epsilon=0.1, steps=1, step_size=0.1, norm=norm, targeted=targeted))
    assert not torch.equal(one, x)


@pytest.mark.parametrize("targeted", [False, True])
def test_fgsm_is_the_clipped_sign_of_the_cross_entropys_gradient(targeted):
    net, (x, y) = mlp(dtype=torch.float64), images(200, dtype=torch.float64)
    move = 0.1 * cross_entropy_gradient(net, x, y).sign()
    assert torch.equal(fgsm(net, x, y, epsilon=0.1, targeted=targeted), (x - move if targeted else x + move).clamp(0, 1))


def test_fgsm_in_l2_is_epsilon_times_the_unit_gradient_of_the_cross_entropy():
    net, (x, y) = mlp(dtype=torch.float64), images(100, low=0.4, high=0.6, dtype=torch.float64)
    gradient = cross_entropy_gradient(net, x, y)
    expected = x + 0.3 * gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    torch.testing.assert_close(fgsm(net, x, y, epsilon=0.3, norm="l2"), expected, rtol=0, atol=1e-9)


def test_pgd_is_the_written_out_iteration():
    net, (x, y) = mlp(dtype=torch.float64), images(50, dtype=torch.float64)
    adv = x
    for _ in range(5):
        adv = (adv + 0.04 * cross_entropy_gradient(net, adv, y).sign()).clamp(x - 0.1, x + 0.1).clamp(0, 1)
    torch.testing.assert_close(pgd(net, x, y, epsilon=0.1, steps=5, step_size=0.04), adv, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_the_default_step_is_two_and_a_half_radii_shared_out_over_the_steps(norm):
    net, (x, y) = mlp(), images(low=0.4, high=0.6)
    seen = []
    net.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    pgd(net, x, y, epsilon=0.1, steps=10, norm=norm)
    torch.testing.assert_close(distance(seen[1], seen[0], norm), torch.full((32,), 0.025).double(), rtol=1e-4, atol=0)


@given(st.integers(0, 999), st.integers(2, 12), st.sampled_from([0.1, 1.0, 10.0]))
@settings(max_examples=25, deadline=None)
def test_margin_is_the_log_odds_of_the_label(seed, classes, scale):
    logits = scale * torch.randn(8, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    y = torch.arange(8) % classes
    p = logits.softmax(1)
    others = torch.stack([row[[i for i in range(classes) if i != label]].sum() for row, label in zip(p, y.tolist(), strict=True)])
    expected = p.gather(1, y[:, None]).squeeze(1).log() - others.log()  # 1 - p_y without cancellation
    torch.testing.assert_close(margin(logits, y), expected, rtol=1e-9, atol=1e-9)


def test_margin_is_exact_where_the_probability_rounds_to_one():
    logits = torch.tensor([[1000.0, 0.0, 0.0], [0.0, 1000.0, 0.0]])
    got = margin(logits, torch.tensor([0, 0]))
    torch.testing.assert_close(got, torch.tensor([1000 - math.log(2), -1000.0]))


# ---- the ball


@given(
    norm=st.sampled_from(NORMS), epsilon=st.sampled_from([0.0, 1e-3, 8 / 255, 0.3, 1.0, 5.0]), steps=st.integers(1, 4),
    restarts=st.integers(0, 2), targeted=st.booleans(), stop=st.booleans(), seed=st.integers(0, 10**6),
    corner=st.booleans(), step_size=st.sampled_from([None, 0.01, 3.0]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_any_attack_stays_in_the_ball_and_in_zero_one(norm, epsilon, steps, restarts, targeted, stop, seed, corner, step_size):
    net, (x, y) = mlp(seed), images(5, seed=seed)
    x = x.round() if corner else x
    before = x.clone()
    adv = pgd(
        net, x, y, epsilon=epsilon, steps=steps, step_size=step_size, norm=norm, restarts=restarts,
        targeted=targeted, draw=draw(5, seed), stop_when_fooled=stop,
    )  # fmt: skip
    assert torch.equal(x, before)
    assert adv.shape == x.shape and adv.dtype == x.dtype and not adv.requires_grad
    assert adv.min() >= 0 and adv.max() <= 1
    assert (distance(adv, x, norm) <= epsilon + 1e-6).all()


@given(st.sampled_from(NORMS), st.floats(0.01, 2), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_project_leaves_what_is_inside_and_brings_in_what_is_outside(norm, epsilon, seed):
    stream = torch.Generator().manual_seed(seed)
    x = torch.rand(6, *SHAPE, generator=stream)
    wild = x + 3 * torch.randn(6, *SHAPE, generator=stream)
    inside = project(wild, x, epsilon, norm)
    assert inside.min() >= 0 and inside.max() <= 1 and (distance(inside, x, norm) <= epsilon + 1e-6).all()
    torch.testing.assert_close(project(inside, x, epsilon, norm), inside, rtol=0, atol=1e-6)


def test_random_offsets_in_linf_are_uniform_in_every_pixel():
    offset = random_offset(torch.rand(500, *SHAPE, generator=torch.Generator().manual_seed(0)), None, 0.3, "linf")
    assert scipy.stats.kstest(offset.flatten().numpy(), scipy.stats.uniform(-0.3, 0.6).cdf).pvalue > 0.01
    assert offset.abs().max() <= 0.3 + 1e-6


def test_random_offsets_in_l2_fill_the_ball_evenly():
    """The share of the ball's volume inside radius r is (r / epsilon)^D; every direction is as likely."""
    offset = draw_offset(draw(4000), torch.Size((4000, *SHAPE)), 0.3, "l2").flatten(1)
    assert scipy.stats.kstest(((offset.norm(dim=1) / 0.3) ** 16).numpy(), "uniform").pvalue > 0.01
    unit = offset / offset.norm(dim=1, keepdim=True)
    assert unit.mean(0).abs().max() < 4 * math.sqrt(1 / 16 / 4000)
    torch.testing.assert_close(unit.T @ unit / 4000, torch.eye(16) / 16, rtol=0, atol=0.006)


@pytest.mark.parametrize("norm", NORMS)
def test_a_random_start_is_the_image_plus_such_an_offset(norm):
    net, (x, y) = mlp(), images(20, low=0.5, high=0.5)
    start = pgd(net, x, y, epsilon=0.2, steps=1, step_size=0.0, norm=norm, restarts=1, draw=draw(20, 4))
    torch.testing.assert_close(start, x + draw_offset(draw(20, 4), x.shape, 0.2, norm))
    assert (distance(start, x, norm) > 0.05).all()


@pytest.mark.parametrize("norm", NORMS)
def test_offsets_of_a_share_of_the_batch_are_the_whole_batchs_rows(norm):
    whole = draw_offset(draw(6), torch.Size((6, *SHAPE)), 0.2, norm)
    stream = rng.Draw(torch.Generator().manual_seed(0), 6, slice(2, 5))
    assert torch.equal(draw_offset(stream, torch.Size((3, *SHAPE)), 0.2, norm), whole[2:5])


# ---- closed forms


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("targeted", [False, True])
def test_pgd_on_an_affine_model_reaches_the_corner_of_highest_loss(targeted, start):
    w = torch.randn(2, 16, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    net, (x, y) = affine(w), images(20, 2, low=0.3, high=0.7, dtype=torch.float64)
    rise = w[1 - y] - w[y]  # [B, 16], where the loss of y rises
    corner = x + (-0.1 if targeted else 0.1) * rise.sign().view_as(x)
    adv = pgd(net, x, y, epsilon=0.1, steps=10, restarts=start, draw=draw(20), targeted=targeted)
    torch.testing.assert_close(adv, corner, rtol=0, atol=1e-12)
    loss, best = (F.cross_entropy(net(images_), y, reduction="none") for images_ in (adv, corner))
    torch.testing.assert_close(loss, best, rtol=0, atol=1e-9)


@pytest.mark.parametrize("targeted", [False, True])
def test_pgd_on_an_affine_model_reaches_the_l2_point_of_highest_loss(targeted):
    w = torch.randn(2, 16, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    net, (x, y) = affine(w), images(20, 2, low=0.4, high=0.6, dtype=torch.float64)
    rise = w[1 - y] - w[y]
    best = x + (-0.2 if targeted else 0.2) * (rise / rise.norm(dim=1, keepdim=True)).view_as(x)
    adv = pgd(net, x, y, epsilon=0.2, steps=10, norm="l2", targeted=targeted)
    torch.testing.assert_close(adv, best, rtol=0, atol=1e-9)


def test_pgd_breaks_a_binary_affine_model_exactly_where_epsilon_reaches_its_boundary():
    """An image falls if and only if its margin is below epsilon * |w|_1."""
    w = torch.randn(2, 16, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    net, (x, y) = affine(w), images(300, 2, low=0.2, high=0.8, dtype=torch.float64)
    logits = net(x).detach()
    gap = logits.gather(1, y[:, None]).squeeze(1) - logits.gather(1, 1 - y[:, None]).squeeze(1)
    stands = gap > 0.1 * (w[0] - w[1]).abs().sum()
    adv = pgd(net, x, y, epsilon=0.1, steps=5, stop_when_fooled=True)
    assert 0 < stands.sum() < (gap > 0).sum()
    assert torch.equal(right(net, adv, y), stands)


# ---- more effort, larger radius


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.06), ("l2", 0.4)])
def test_accuracy_does_not_rise_with_the_number_of_steps_from_the_same_start(norm, epsilon):
    net, x, y = trained()
    for stop, slack in ((True, 0.0), (False, 0.005)):
        attack = functools.partial(pgd, epsilon=epsilon, step_size=epsilon / 4, norm=norm, stop_when_fooled=stop)
        accuracies = [right(net, attack(net, x, y, steps=n), y).double().mean().item() for n in (1, 2, 4, 8, 16)]
        assert all(b <= a + slack for a, b in itertools.pairwise(accuracies))
        assert accuracies[-1] < accuracies[0] - 0.02


@pytest.mark.parametrize(("norm", "radii"), [("linf", (0, 0.01, 0.03, 0.06, 0.12, 0.3)), ("l2", (0, 0.1, 0.3, 0.6, 1.2, 3))])
def test_accuracy_does_not_rise_with_epsilon_and_ends_at_clean_and_at_zero(norm, radii):
    net, x, y = trained()
    accuracies = [right(net, pgd(net, x, y, epsilon=e, steps=8, norm=norm), y).double().mean().item() for e in radii]
    assert all(b <= a + 0.005 for a, b in itertools.pairwise(accuracies))
    assert accuracies[0] == right(net, x, y).double().mean().item()
    assert accuracies[-1] < 0.02


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 1.0), ("l2", 8.0)])
def test_without_a_bound_nothing_stands(norm, epsilon):
    net, x, y = trained()
    adv = pgd(net, x, y, epsilon=epsilon, steps=40, step_size=epsilon / 20, norm=norm, stop_when_fooled=True)
    assert not right(net, adv, y).any()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("restarts", [0, 2])
def test_with_epsilon_zero_the_images_do_not_move(norm, restarts):
    net, (x, y) = mlp(), images()
    adv = pgd(net, x, y, epsilon=0.0, steps=3, norm=norm, restarts=restarts, draw=draw(32))
    torch.testing.assert_close(adv, x, rtol=0, atol=1e-7)


# ---- evaluation: stop, restarts, wrong images


@pytest.mark.parametrize("norm", NORMS)
def test_an_image_that_is_wrong_already_stays_as_it_is_in_evaluation(norm):
    net, x, y = trained()
    wrong = ~right(net, x, y)
    adv = pgd(net, x, y, epsilon=0.1, steps=3, norm=norm, stop_when_fooled=True)
    assert wrong.sum() >= 5 and torch.equal(adv[wrong], x[wrong])


@pytest.mark.parametrize("epsilon", [0.03, 0.06])
def test_stopping_when_fooled_finds_what_any_iterate_of_the_plain_attack_fools(epsilon):
    """Oracle: the plain attack cut off after 0, 1, 2, ... of the same steps."""
    net, x, y = trained()
    attack = functools.partial(pgd, net, x, y, epsilon=epsilon, step_size=epsilon / 3)
    plain = [right(net, x, y)] + [right(net, attack(steps=n), y) for n in range(1, 7)]
    stopped = right(net, attack(steps=6, stop_when_fooled=True), y)
    assert torch.equal(stopped, torch.stack(plain).all(0))
    assert not stopped[~plain[-1]].any()  # in particular, never weaker than the plain attack
    assert 0 < stopped.sum() < len(x)


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("stop", [True, False], ids=["stop", "plain"])
def test_a_further_restart_keeps_what_the_earlier_ones_fooled(stop, targeted):
    net, x, y = trained()
    y = (y + 1) % 10 if targeted else y
    fooled = []
    for restarts in (1, 2, 4):
        adv = pgd(
            net, x, y, epsilon=0.1, steps=1, step_size=0.05, restarts=restarts, draw=draw(len(x)),
            targeted=targeted, stop_when_fooled=stop,
        )  # fmt: skip
        fooled.append(right(net, adv, y) if targeted else ~right(net, adv, y))
    for fewer, more in itertools.pairwise(fooled):
        assert more[fewer].all()
    assert fooled[-1].sum() > fooled[0].sum()


class Counted(nn.Module):
    """How many images a network was asked about with a gradient to come, and how many without."""

    def __init__(self, net):
        super().__init__()
        self.net, self.steps, self.looks = net, 0, 0

    def forward(self, x):
        if x.requires_grad:
            self.steps += len(x)
        else:
            self.looks += len(x)
        return self.net(x)


@pytest.mark.parametrize("epsilon", [0.05, 0.1, 0.15])
@pytest.mark.parametrize(("steps", "restarts"), [(20, 0), (100, 0), (20, 4)])
def test_judging_gives_the_plain_verdicts_for_far_less_work(epsilon, steps, restarts):
    """The plain attack, written out: every step of every start on every image, fooled by any iterate."""
    net, x, y = trained()
    size, stream = epsilon / 4, rng.per_image(7, ids=torch.arange(len(x)))
    stands = right(net, x, y)
    for _ in range(max(1, restarts)):
        adv = project(x + draw_offset(stream, x.shape, epsilon, "linf"), x, epsilon, "linf") if restarts else x
        for _ in range(steps):
            adv = (adv + size * cross_entropy_gradient(net, adv, y).sign()).clamp(x - epsilon, x + epsilon).clamp(0, 1)
            stands &= right(net, adv, y)
    counted = Counted(net)
    stream = rng.per_image(7, ids=torch.arange(len(x)))
    ours = pgd(counted, x, y, epsilon=epsilon, steps=steps, step_size=size, restarts=restarts, draw=stream, stop_when_fooled=True)
    assert torch.equal(right(net, ours, y), stands) and 0.05 < stands.double().mean() < 0.9
    tries = steps * max(1, restarts)
    assert counted.steps <= 1.15 * int(stands.sum()) * tries + 8 * int((~stands).sum())
    assert steps < 100 or counted.steps < 0.6 * int(stands.sum()) * tries + 5 * int((~stands).sum())  # most run in circles by then
    assert counted.looks <= len(x) * (1 + restarts)


def test_an_iteration_that_runs_in_circles_is_left_but_tried_again_from_another_start():
    """Between two walls the sign of the slope flips for ever; the hole is out of reach of a step, but not of a start."""

    class Valley(nn.Module):
        def forward(self, x):
            s = x.flatten(1).mean(1) - 0.5
            wall = torch.where((s > 0.028) & (s < 0.032), -1.0, 1.0)
            return torch.stack([wall + 100 * s.abs() * wall.sign(), torch.zeros_like(s)], 1)

    x, y = torch.full((4, 1, 1, 1), 0.5), torch.zeros(4, dtype=torch.long)
    counted = Counted(Valley())
    stuck = pgd(counted, x, y, epsilon=0.04, steps=200, step_size=0.01, stop_when_fooled=True)
    assert right(counted, stuck, y).all() and counted.steps < 4 * 20
    many = pgd(
        counted, x, y, epsilon=0.04, steps=3, step_size=0.01, restarts=100, stop_when_fooled=True,
        draw=rng.per_image(0, ids=torch.arange(4)),
    )  # fmt: skip
    assert not right(counted, many, y).any()


def test_restarts_without_a_draw_are_refused():
    net, (x, y) = mlp(), images()
    with pytest.raises(ValueError, match="draw"):
        pgd(net, x, y, epsilon=0.1, steps=2, restarts=1)


def test_the_same_draw_gives_the_same_images_and_another_gives_others():
    net, (x, y) = mlp(), images()
    a, b, c = (pgd(net, x, y, epsilon=0.1, steps=2, step_size=0.01, restarts=1, draw=draw(32, s)) for s in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_an_image_is_attacked_alike_in_any_company():
    net, (x, y) = mlp(), images(8)
    together = pgd(net, x, y, epsilon=0.1, steps=4, stop_when_fooled=True)
    alone = torch.cat([pgd(net, x[i : i + 1], y[i : i + 1], epsilon=0.1, steps=4, stop_when_fooled=True) for i in range(8)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("stop", [True, False])
def test_a_batch_of_one_works(norm, stop):
    net, (x, y) = mlp(), images(1)
    adv = pgd(net, x, y, epsilon=0.1, steps=2, norm=norm, restarts=2, draw=draw(1), stop_when_fooled=stop)
    assert adv.shape == x.shape and torch.isfinite(adv).all()


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.15), ("l2", 0.8)])
def test_targeted_attacks_reach_their_class_more_often_than_untargeted_ones_and_than_one_step(norm, epsilon):
    net, x, y = trained()
    target = (y + 3) % 10
    reached, by_one, untargeted = (
        right(net, adv, target).double().mean()
        for adv in (
            pgd(net, x, target, epsilon=epsilon, steps=10, norm=norm, targeted=True),
            fgsm(net, x, target, epsilon=epsilon, norm=norm, targeted=True),
            pgd(net, x, y, epsilon=epsilon, steps=10, norm=norm),
        )
    )
    assert reached > by_one and reached > untargeted + 0.2


# ---- networks that are hard to attack for the wrong reason


class Times(nn.Module):
    def __init__(self, net, factor):
        super().__init__()
        self.net, self.factor = net, factor

    def forward(self, x):
        return self.net(x) * self.factor


@pytest.mark.parametrize("norm", NORMS)
def test_a_saturated_network_is_broken_although_its_cross_entropy_has_no_gradient_left(norm):
    net, x, y = trained()
    keep = right(net, x, y) & (margin(net(x), y).detach() > 0.3)
    x, y, sure = x[keep], y[keep], Times(net, 1000.0)
    assert (cross_entropy_gradient(sure, x, y) == 0).all()  # the textbook attack would stand still
    epsilon = 0.15 if norm == "linf" else 1.2
    stands = [right(net, pgd(n, x, y, epsilon=epsilon, steps=10, norm=norm), y).double().mean() for n in (net, sure)]
    assert stands[0] < 0.2
    assert stands[1] < stands[0] + 0.05


@pytest.mark.parametrize("norm", NORMS)
def test_images_without_a_gradient_do_not_turn_into_nan(norm):
    class Flat(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :3] * 0

    x, y = images()
    assert torch.equal(pgd(Flat(), x, y, epsilon=0.1, steps=3, norm=norm), x)


# ---- the network is handed back as it came


def with_batch_norm():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(16, 3))
    net.train()
    net[1].eval()
    return net


@pytest.mark.parametrize("stop", [True, False])
def test_modes_statistics_and_gradients_of_the_network_are_left_alone(stop):
    net, (x, y) = with_batch_norm(), images()
    F.cross_entropy(net(x), y).backward()
    modes = [m.training for m in net.modules()]
    buffers = {k: v.clone() for k, v in net.state_dict().items()}
    gradients = [p.grad.clone() for p in net.parameters()]
    flags = [p.requires_grad for p in net.parameters()]
    pgd(net, x, y, epsilon=0.1, steps=3, restarts=2, draw=draw(32), stop_when_fooled=stop)
    assert [m.training for m in net.modules()] == modes and len(set(modes)) == 2
    assert all(torch.equal(v, buffers[k]) for k, v in net.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), gradients, strict=True))
    assert [p.requires_grad for p in net.parameters()] == flags


def test_a_network_without_gradients_gets_none():
    net, (x, y) = mlp(), images()
    pgd(net, x, y, epsilon=0.1, steps=2)
    assert all(p.grad is None for p in net.parameters())


def test_attacks_see_the_network_in_evaluation_mode():
    """With dropout and batch statistics at work two attacks would differ."""
    net, (x, y) = with_batch_norm(), images()
    net.train()
    first, again = (fgsm(net, x, y, epsilon=0.1) for _ in range(2))
    net.eval()
    assert torch.equal(first, again) and torch.equal(first, fgsm(net, x, y, epsilon=0.1))


def test_modes_come_back_after_an_error():
    net = with_batch_norm()
    modes = [m.training for m in net.modules()]
    with pytest.raises(RuntimeError), frozen(net):
        raise RuntimeError
    assert [m.training for m in net.modules()] == modes


def test_attacks_work_where_gradients_are_switched_off():
    net, (x, y) = mlp(), images()
    with torch.no_grad():
        inside = fgsm(net, x, y, epsilon=0.1)
    assert torch.equal(inside, fgsm(net, x, y, epsilon=0.1))
