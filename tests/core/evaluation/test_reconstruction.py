"""Measurements of the inversion paper agree with direct computations on the same networks."""

import functools
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from core import data
from core.bound import TARGET, Trained, bind
from core.config import TrialConfig
from core.data import Images
from core.evaluation.reconstruction import COMPARED, NUMBERS, generate, radius_and_leak, reconstruct
from core.inversion.leak import invert
from core.inversion.nearest import last_maps

torch.set_num_threads(1)

SHAPE, CPU = (3, 8, 8), torch.device("cpu")
CONFIG = TrialConfig.of(
    {"net.width": 4, "net.hidden": 8, "split.members": 0.4, "split.val": 0.3, "split.test": 0.3, "split.shadow": 0}
)
SMALL = {"iterations": 6, "lr": 0.5}


@functools.cache
def pool() -> Images:
    stream = torch.Generator().manual_seed(0)
    x = torch.randint(256, (120, *SHAPE), generator=stream, dtype=torch.uint8)
    return Images(x, torch.arange(120) % 4, 4)


def network(seed: int = 0, **changes) -> Trained:
    config = CONFIG.set({"seed": seed, **changes})
    return Trained(config, bind(config, pool().at(data.split(pool(), config.split, config.replicate).members), CPU))


def networks(**others: Trained) -> dict[str, Trained]:
    return {TARGET: network(), **others}


def array(values, name: str, *shape: int) -> torch.Tensor:
    return torch.tensor(values[name]).view(*shape, *map(int, values["shape"]))


def logits(net: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return net.eval()(x.float() / 255 if x.dtype == torch.uint8 else x.float())


def test_numbers_are_those_of_the_audit_of_the_same_members_and_held_out_images():
    values, parts = reconstruct(networks(), pool(), CPU, **SMALL), data.split(pool(), CONFIG.split)
    audit = invert(network().bound.net, pool(), parts.members, parts.val, restarts=1, start="grey", **SMALL)
    for name in (*NUMBERS, *COMPARED):
        assert values[name] == pytest.approx(audit.metrics[f"inversion_{name}"]), name
    assert values["classes"] == [0, 1, 2, 3]
    found = torch.from_numpy(audit.pictures["ascent"].images).double()
    torch.testing.assert_close(array(values, "images", 4).double(), found, rtol=0, atol=6e-5)


def test_logits_of_reconstructions_and_of_training_images_are_those_of_direct_calls():
    other = network(seed=5)
    values = reconstruct(networks(other=other), pool(), CPU, classes="2,1", restarts=2, start="grey_noise", **SMALL)
    assert values["classes"] == [2, 2, 1, 1]
    x, labels = array(values, "images", 4), torch.tensor([2, 2, 1, 1])
    members = pool().at(data.split(pool(), CONFIG.split).members)
    members = members.at((members.y == 1) | (members.y == 2))
    for net, end in ((network().bound.net, ""), (other.bound.net, "/other")):
        assert values[f"logit{end}"] == pytest.approx(logits(net, x)[torch.arange(4), labels].mean().item(), abs=1e-3)
        own = logits(net, members.x)[torch.arange(len(members.y)), members.y].mean().item()
        assert values[f"training_logit{end}"] == pytest.approx(own, abs=1e-5)
    assert values["logit"] != pytest.approx(values["logit/other"], abs=0.01)


def test_the_trajectory_leads_from_the_logit_of_the_start_to_that_of_the_result():
    values = reconstruct(networks(), pool(), CPU, classes="3", **SMALL)
    assert values["trajectory_iterations"] == [0, 1, 2, 3, 4, 5, 6]
    trajectory = values["trajectory"]
    grey = logits(network().bound.net, array(values, "starts", 1))[0, 3].item()
    assert (trajectory[0], trajectory[-1]) == pytest.approx((grey, values["logit"]), abs=1e-4)
    assert trajectory == sorted(trajectory)  # an ascent


def test_distances_from_the_start_and_between_reconstructions_are_those_of_their_pixels():
    values = reconstruct(networks(), pool(), CPU, classes="1,3", restarts=3, start="noise", **SMALL)
    x, starts = (array(values, name, 2, 3).double() for name in ("images", "starts"))
    assert values["moved"] == pytest.approx((x - starts).flatten(2).norm(dim=2).mean().item(), abs=1e-3)
    gaps = [(x[c, i] - x[c, j]).norm().item() for c in (0, 1) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert values["spread"] == pytest.approx(sum(gaps) / 6, abs=1e-3) and values["spread"] > 1
    assert reconstruct(networks(), pool(), CPU, classes="1", **SMALL)["spread"] == 0


def test_deepdream_has_a_logit_of_each_octave_of_each_pass():
    values = reconstruct(networks(), pool(), CPU, attack="deepdream", classes="0", start="noise")
    assert values["trajectory_iterations"] == list(range(10, 201, 10)) and len(values["trajectory"]) == 20
    assert values["trajectory"][-1] == pytest.approx(values["logit"])


def test_a_member_that_is_not_changed_is_its_own_nearest_member_and_leaks_nothing_that_is_reported():
    changed = {TARGET: network(replicate=1)}
    values = reconstruct(changed, pool(), CPU, restarts=3, start="member", iterations=1, lr=0.0, neighbours=2)
    members = pool().at(data.split(pool(), CONFIG.split, 1).members)
    starts, labels = array(values, "starts", 12), torch.arange(4).repeat_interleave(3)
    for start, label in zip(starts, labels, strict=True):
        of_class = members.x[members.y == label].float() / 255
        assert (of_class - start).abs().flatten(1).amax(1).min() < 6e-5  # starts are rounded
    assert len(starts.unique(dim=0)) > 4
    torch.testing.assert_close(array(values, "images", 12), starts, rtol=0, atol=2e-4)
    torch.testing.assert_close(array(values, "nearest", 12, 2)[:, 0], starts, rtol=0, atol=2e-4)
    cosines, distances = (torch.tensor(values[name]).view(12, 2) for name in ("cosines", "distances"))
    assert cosines[:, 0].min() > 1 - 1e-6 and distances[:, 0].max() < 1e-5 and distances[:, 1].min() > 1
    assert not values.keys() & {*COMPARED}


def test_the_nearest_members_are_those_of_a_sort_of_all_cosines():
    values = reconstruct(networks(), pool(), CPU, neighbours=5, **SMALL)
    members, net = pool().at(data.split(pool(), CONFIG.split).members), network().bound.net
    features = [F.normalize(last_maps(net, x)) for x in (array(values, "images", 4), members.x)]
    best = (features[0] @ features[1].T).topk(5)
    torch.testing.assert_close(torch.tensor(values["cosines"]).view(4, 5), best.values, rtol=0, atol=1e-4)
    near = members.x[best.indices].float() / 255
    torch.testing.assert_close(array(values, "nearest", 4, 5), near, rtol=0, atol=1e-4)
    gaps = (near - array(values, "images", 4)[:, None]).flatten(2).norm(dim=2)
    torch.testing.assert_close(torch.tensor(values["distances"]).view(4, 5), gaps, rtol=0, atol=1e-3)


class Affine(nn.Module):
    """Two classes, divided by a plane in the space of pixels; the maps before it are the image itself."""

    def __init__(self):
        super().__init__()
        self.identity, self.relu = nn.Conv2d(3, 3, 1, bias=False), nn.ReLU()
        self.flatten, self.head = nn.Flatten(), nn.Linear(192, 2)
        with torch.no_grad():
            self.identity.weight.copy_(torch.eye(3).view(3, 3, 1, 1))
            self.head.weight.normal_(generator=torch.Generator().manual_seed(1))
            self.head.bias.copy_(-self.head.weight.sum(1) / 2)  # grey is on the plane

    def forward(self, x):
        return self.head(self.flatten(self.relu(self.identity(x))))


def test_the_radius_is_the_median_distance_to_the_plane_of_the_test_images_on_its_right_side():
    x = torch.randint(100, 156, (120, *SHAPE), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images, net = Images(x, torch.arange(120) % 2, 2), Affine()
    attacked = {TARGET: Trained(CONFIG, SimpleNamespace(net=net))}
    values = radius_and_leak(attacked, images, CPU, radius_images=30, radius_steps=300, **SMALL)
    tested = images.at(data.split(images, CONFIG.split).test[:30])
    w = net.head.weight.detach()
    margin = logits(net, tested.x) @ torch.tensor([1.0, -1.0]) * (1 - 2 * tested.y)
    distances = margin[margin > 0] / (w[0] - w[1]).norm()
    assert 5 < len(distances) < 30
    assert 0 <= values["radius"] - distances.median().item() <= 0.0101  # the attack ends at the first step beyond the plane
    plain = reconstruct(attacked, images, CPU, **SMALL)
    assert {name: values[name] for name in plain} == plain
    assert radius_and_leak(attacked, images, CPU, radius_images=30, radius_steps=1, **SMALL)["radius"] == pytest.approx(0.01)


def test_generated_images_depend_on_the_target_unless_its_weight_is_0():
    tiny = {"weights": "0,10", "restarts": 2, "width": 2, "epochs": 1, "gan_images": 8}
    one, two = (generate({TARGET: network(seed=0, **{"net.width": width})}, pool(), CPU, **tiny) for width in (4, 5))
    assert one["weights"] == [0.0, 10.0] and one["classes"] == [0, 0, 1, 1, 2, 2, 3, 3]
    first, second = (array(values, "images", 2, 8) for values in (one, two))
    assert torch.equal(first[0], second[0]) and not torch.equal(first[1], second[1])
    right = logits(network().bound.net, first[1]).argmax(1) == torch.tensor(one["classes"])
    assert one["success/10"] == pytest.approx(right.double().mean().item())
    assert {f"{name}/{w}" for name in ("cosine", "leak", "rmse_255", "logit") for w in ("0", "10")} <= one.keys()
