"""The inversion audit: planted leaks are detected, noise does not leak, and the comparison is fair."""

import functools

import numpy as np
import pytest
import torch
from torch import nn

from core import data, nets
from core.data import Images
from core.errors import InputError
from core.inversion.leak import Baseline, invert, leak, leak_p, pixel_leak

torch.set_num_threads(1)

SHAPE = (3, 8, 8)
NAMES = {
    "iterations", "success", "logit", "cosine", "l2", "rmse_255", "l2_normalised", "cosine_same_class", "l2_same_class",
    "l2_member", "l2_held_out", "leak", "leak_features",
}  # fmt: skip


def pool(n=400, classes=4, seed=0, shape=SHAPE):
    stream = torch.Generator().manual_seed(seed)
    x = torch.randint(256, (n, *shape), generator=stream, dtype=torch.uint8)
    return Images(x, torch.arange(n) % classes, classes)


MEMBERS, OTHERS, SHADOW = torch.arange(160), torch.arange(160, 240), torch.arange(240, 400)


def network(images, seed=0, name="convnet", **knobs):
    torch.manual_seed(seed)
    return nets.build(
        nets.NETS[name](**({"width": 4, "hidden": 8} | knobs if name == "convnet" else knobs)), images.shape, images.classes
    )


@functools.cache
def small_audit(seed=0, **options):
    images = pool()
    return invert(network(images), images, MEMBERS, OTHERS, restarts=2, iterations=20, lr=1.0, seed=seed, **options)


# -- the comparison, without a network --------------------------------------------------------------------------------


def baseline_of(images, seed=0):
    return Baseline.of(images, MEMBERS, OTHERS, seed=seed)


def mean_leak(x, classes, baseline):
    return leak(*pixel_leak(x, classes, baseline)).mean().item()


def test_the_leak_of_members_is_one_and_that_of_held_out_images_minus_one():
    baseline = baseline_of(pool())
    for part, compared, expected in (
        (baseline.members, baseline.compared_members, 1.0),
        (baseline.others, baseline.compared_others, -1.0),
    ):
        rows = compared.nonzero().squeeze(1)[:20]
        assert mean_leak(part.x[rows].float() / 255, part.y[rows], baseline) == expected


@pytest.mark.parametrize("blend", [0.3, 0.6])
def test_mixtures_of_members_and_noise_leak_more_the_closer_they_are_to_the_members(blend):
    baseline = baseline_of(pool())
    rows = baseline.compared_members.nonzero().squeeze(1)[:40]
    x = baseline.members.x[rows].float() / 255
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(3))
    near, far = (mean_leak(b * noise + (1 - b) * x, baseline.members.y[rows], baseline) for b in (blend - 0.2, blend))
    assert near > far > 0.05


def test_noise_does_not_leak_although_there_are_twice_as_many_members():
    """In a larger group the nearest image is nearer, which would look like a leak if all images were compared."""
    images = pool()
    classes = torch.arange(4).repeat(100)
    x = torch.rand(400, *SHAPE, generator=torch.Generator().manual_seed(9))
    values = torch.tensor([mean_leak(x, classes, baseline_of(images, seed)) for seed in range(12)])
    per_image = leak(*pixel_leak(x, classes, baseline_of(images)))
    assert values.mean().abs() < 3e-3 and per_image.abs().max() < 0.2
    baseline = baseline_of(images)
    uneven = Baseline(
        baseline.members, baseline.others, baseline.rows, torch.ones_like(baseline.compared_members), baseline.compared_others
    )
    assert mean_leak(x, classes, uneven) > values.mean() + 2e-3


def test_swapping_members_and_held_out_images_changes_the_sign_of_the_leak():
    images, x, classes = pool(), torch.rand(8, *SHAPE, generator=torch.Generator().manual_seed(1)), torch.arange(4).repeat(2)
    b = baseline_of(images)
    swapped = Baseline(b.others, b.members, b.rows, b.compared_others, b.compared_members)
    value = mean_leak(x, classes, b)
    assert value != 0 and mean_leak(x, classes, swapped) == pytest.approx(-value)


def test_the_p_value_is_uniform_for_noise_and_minimal_for_members():
    images, classes = pool(), torch.arange(4).repeat(4)
    baseline = baseline_of(images)
    rows = torch.cat([(baseline.compared_members & (baseline.members.y == c)).nonzero()[:3, 0] for c in range(4)])
    members, labels = baseline.members.x[rows].float() / 255, baseline.members.y[rows]
    assert leak_p(members, labels, baseline, draws=99) == 1 / 100
    held_out = baseline.others.x[baseline.compared_others][:12].float() / 255
    assert leak_p(held_out, baseline.others.y[baseline.compared_others][:12], baseline, draws=99) == 1.0
    noise = torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(0)).expand(16, -1, -1, -1)
    values = [leak_p(noise, classes, baseline_of(images, seed), draws=39, seed=seed) for seed in range(40)]
    assert sum(p <= 0.25 for p in values) < 20 and sum(p > 0.5 for p in values) > 10  # uniform in [0, 1]


def test_the_leak_is_scale_invariant_and_defined_for_zero_distances():
    m, h = torch.tensor([0.0, 1.0, 1.0, 0.0]), torch.tensor([2.0, 3.0, 0.0, 0.0])
    assert leak(m, h).tolist() == [1.0, 0.5, -1.0, 0.0]
    torch.testing.assert_close(leak(100 * m, 100 * h), leak(m, h))


def test_equal_numbers_of_members_and_held_out_images_of_each_class_are_compared():
    images = pool()
    b = Baseline.of(images, torch.arange(100), torch.cat([torch.arange(160, 200), torch.tensor([204, 208])]), seed=0)
    for c, count in enumerate((12, 10, 10, 10)):
        assert int((b.compared_members & (b.members.y == c)).sum()) == count
        assert int((b.compared_others & (b.others.y == c)).sum()) == count
    b = Baseline.of(images, torch.arange(30), torch.arange(160, 300), seed=0)  # now there are fewer members
    assert int(b.compared_members.sum()) == 30 == int(b.compared_others.sum())
    again = [Baseline.of(images, torch.arange(100), torch.arange(160, 200), seed=s).compared_members for s in (0, 0, 1)]
    assert torch.equal(again[0], again[1]) and not torch.equal(again[0], again[2])


# -- the audit --------------------------------------------------------------------------------------------------------


def test_all_metrics_and_values_exist_and_are_finite_for_every_class_and_restart():
    audit = small_audit()
    assert set(audit.metrics) == {f"inversion_{name}" for name in {*NAMES, "leak_p"}}
    assert torch.tensor(list(audit.metrics.values())).isfinite().all()
    reconstructions = audit.pictures["ascent"]
    assert reconstructions.classes.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert reconstructions.images.shape == (8, *SHAPE) and reconstructions.images.min() >= 0 and reconstructions.images.max() <= 1
    assert set(reconstructions.numbers) == NAMES and all(v.shape == (8,) for v in reconstructions.numbers.values())
    assert reconstructions.trajectory.shape == (21, 8)
    for name, value in audit.metrics.items():
        if name == "inversion_leak_p":  # a value of all reconstructions together
            continue
        numbers = torch.from_numpy(reconstructions.numbers[name.removeprefix("inversion_")])
        assert value == pytest.approx((numbers.median() if name == "inversion_iterations" else numbers.mean()).item())


def test_values_are_relative_to_the_nearest_members_of_the_pictures():
    images, reconstructions = pool(), small_audit().pictures["ascent"]
    assert set(reconstructions.member_rows.tolist()) <= set(MEMBERS.tolist())
    shown = images.x[torch.from_numpy(reconstructions.member_rows)].double() / 255
    gap = (torch.from_numpy(reconstructions.images).double() - shown).flatten(1).norm(dim=1)
    torch.testing.assert_close(torch.from_numpy(reconstructions.numbers["l2"]), gap, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.from_numpy(reconstructions.numbers["rmse_255"]), gap * 255 / 192**0.5, rtol=1e-5, atol=1e-3)
    assert (reconstructions.numbers["cosine_same_class"] <= reconstructions.numbers["cosine"] + 1e-9).all()


def test_restarts_differ_unless_they_start_from_grey():
    reconstructions = small_audit().pictures["ascent"].images
    assert abs(reconstructions[0] - reconstructions[1]).max() > 0.05
    grey = small_audit(start="grey").pictures["ascent"].images
    assert abs(grey[0] - grey[1]).max() < 1e-5 < abs(grey[0] - grey[2]).max()


def test_the_same_images_are_reconstructed_if_other_classes_are_left_out():
    some, every = (small_audit(classes=classes).pictures["ascent"] for classes in ((3, 1), None))
    assert some.classes.tolist() == [3, 3, 1, 1]
    np.testing.assert_allclose(some.images, every.images[[6, 7, 2, 3]], rtol=0, atol=1e-5)


def test_an_attack_may_start_from_members_of_the_class():
    images = pool()
    started = invert(network(images), images, MEMBERS, OTHERS, restarts=3, iterations=1, lr=0.0, start="member")
    found = started.pictures["ascent"]
    for start, c in zip(found.starts, found.classes, strict=True):
        (row,) = (images.x[MEMBERS].float().div(255) == torch.from_numpy(start)).all(3).all(2).all(1).nonzero().squeeze(1)
        assert images.y[MEMBERS][row] == c
    assert np.array_equal(found.images, found.starts) and len(np.unique(found.starts, axis=0)) > 6
    assert started.metrics["inversion_l2"] == pytest.approx(0, abs=1e-6)
    with pytest.raises(InputError, match="class 1 has no members to start from"):
        invert(network(images), images, MEMBERS[images.y[MEMBERS] != 1], OTHERS, iterations=1, start="member")


def test_equal_seeds_give_equal_metrics_and_global_random_state_is_unchanged():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    images = pool()
    options = {"shadow": SHADOW, "attacks": ("acgan", "ascent"), "options": {"acgan": {"width": 2, "epochs": 1, "nz": 4}}}
    one, two, three = (
        invert(network(images), images, MEMBERS, OTHERS, restarts=2, iterations=5, seed=seed, **options).metrics
        for seed in (0, 0, 1)
    )
    assert one == two and one != three
    assert one["inversion_logit"] != three["inversion_logit"] and one["inversion_logit/ascent"] != three["inversion_logit/ascent"]
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(state)
        network(images)
        network(images)
        network(images)
        after = torch.get_rng_state()
    assert torch.equal(torch.get_rng_state(), after)  # only the construction of three networks has used it


def test_all_three_attacks_in_one_audit():
    images = pool()
    options = {"deepdream": {"passes": 1, "steps": 3, "octaves": 2}, "acgan": {"width": 2, "epochs": 1, "nz": 4}}
    audit = invert(
        network(images), images, MEMBERS, OTHERS, shadow=SHADOW, attacks=("ascent", "deepdream", "acgan"), restarts=1,
        iterations=3, options=options,
    )  # fmt: skip
    names = {*NAMES, "leak_p"}
    expected = {f"inversion_{n}" for n in names} | {f"inversion_{n}/deepdream" for n in names}
    expected |= {f"inversion_{n}/acgan" for n in names - {"iterations"}}  # a generator has no iterations
    assert set(audit.metrics) == expected and torch.tensor(list(audit.metrics.values())).isfinite().all()
    assert list(audit.pictures) == ["ascent", "deepdream", "acgan"]
    assert audit.metrics["inversion_iterations/deepdream"] <= 6


class Memory(nn.Module):
    """A network that has memorised its members: the logit of a class is minus the squared distance to its nearest member."""

    def __init__(self, members: Images):
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 3, 1), nn.ReLU()
        self.members = members
        with torch.no_grad():
            self.conv.weight.copy_(torch.eye(3).view(3, 3, 1, 1))
            self.conv.bias.zero_()

    def forward(self, x):
        flat = self.relu(self.conv(x)).flatten(1)
        gaps = torch.cdist(flat, self.members.x.float().flatten(1) / 255, compute_mode="donot_use_mm_for_euclid_dist")
        nearest = [gaps[:, self.members.y == c].amin(1) for c in range(self.members.classes)]
        return -torch.stack(nearest, 1).square()


def test_a_network_that_has_memorised_its_members_leaks_and_one_that_has_memorised_others_does_not():
    images = pool(seed=4)
    members, others, unrelated = torch.arange(40), torch.arange(40, 80), torch.arange(200, 240)
    leaking = invert(Memory(images.at(members)), images, members, others, restarts=2, iterations=100, lr=0.1).metrics
    assert leaking["inversion_leak"] > 0.95 and leaking["inversion_l2_member"] < 0.05 < 3 < leaking["inversion_l2_held_out"]
    assert leaking["inversion_success"] == 1 and leaking["inversion_cosine"] > 0.999 and leaking["inversion_leak_features"] > 0.95
    assert leaking["inversion_leak_p"] <= 0.02  # eight reconstructions of a few members
    not_leaking = invert(Memory(images.at(unrelated)), images, members, others, restarts=2, iterations=100, lr=0.1).metrics
    assert not_leaking["inversion_success"] == 1 and abs(not_leaking["inversion_leak"]) < 0.02
    assert not_leaking["inversion_leak_p"] > 0.02


def test_an_untrained_network_does_not_leak():
    images = pool(seed=2)
    audit = invert(network(images), images, MEMBERS, OTHERS, restarts=20, iterations=20, lr=1.0)
    values = torch.from_numpy(audit.pictures["ascent"].numbers["leak"])
    assert abs(audit.metrics["inversion_leak"]) < 0.01
    assert 0.2 < (values > 0).double().mean() < 0.8


@pytest.mark.parametrize(
    "name, shape, knobs",
    [
        ("allconv", (3, 8, 8), {"width": 2}), ("mlenet", (1, 4, 4), {}), ("net_a", (1, 9, 9), {}),
        ("wrn", (3, 8, 8), {"depth": 10, "widen": 1}), ("densenet", (3, 8, 8), {"depth": 16}),
        ("mobilenet", (3, 16, 16), {"width": 0.125}), ("googlenet", (3, 8, 8), {}), ("single_layer", (3, 8, 8), {}),
    ],
)  # fmt: skip
def test_every_family_of_networks_can_be_audited_and_is_unchanged(name, shape, knobs):
    images = pool(24, shape=shape)
    net = network(images, name=name, **knobs).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    audit = invert(net, images, torch.arange(12), torch.arange(12, 24), restarts=1, iterations=2)
    assert torch.tensor(list(audit.metrics.values())).isfinite().all()
    assert all(m.training for m in net.modules()) and all(p.requires_grad and p.grad is None for p in net.parameters())
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_a_class_without_members_is_attacked_but_not_compared():
    images = pool()
    rows = MEMBERS[images.y[MEMBERS] != 2]
    audit = invert(network(images), images, rows, OTHERS, restarts=1, iterations=2)
    assert torch.tensor(list(audit.metrics.values())).isfinite().all()
    reconstructions = audit.pictures["ascent"]
    assert torch.from_numpy(reconstructions.numbers["leak"]).isnan().tolist() == [False, False, True, False]
    assert (torch.from_numpy(reconstructions.numbers["cosine"])).isfinite().all()


def test_invalid_arguments_are_rejected():
    images = pool()
    net = network(images)
    with pytest.raises(InputError, match="unknown inversion attack 'ascend'"):
        invert(net, images, MEMBERS, OTHERS, attacks=("ascend",))
    with pytest.raises(InputError, match="unknown start 'gray'"):
        invert(net, images, MEMBERS, OTHERS, start="gray")
    with pytest.raises(InputError, match="unknown class '4'"):
        invert(net, images, MEMBERS, OTHERS, classes=(0, 4))
    with pytest.raises(InputError, match="needs shadow images"):
        invert(net, images, MEMBERS, OTHERS, attacks=("acgan",))
    for kwargs in ({"others": MEMBERS[:5]}, {"others": OTHERS, "shadow": OTHERS, "attacks": ("acgan",)}):
        with pytest.raises(InputError, match="must be disjoint"):
            invert(net, images, MEMBERS, **kwargs)
    copied = images.x.clone()
    copied[OTHERS[0]] = copied[MEMBERS[0]]
    with pytest.raises(InputError, match="must be disjoint, but exact copies of an image"):
        invert(net, Images(copied, images.y, images.classes), MEMBERS, OTHERS)
    zero, one = (images.y == 0).nonzero().squeeze(1), (images.y == 1).nonzero().squeeze(1)
    with pytest.raises(InputError, match="no class has both"):
        invert(net, images, zero, one)


def test_the_rows_of_a_split_are_accepted():
    images = data.load("digits", pool=200)
    parts = data.split(images)
    audit = invert(network(images), images, parts.members, parts.judged("both"), restarts=1, iterations=3)
    assert torch.tensor(list(audit.metrics.values())).isfinite().all()
