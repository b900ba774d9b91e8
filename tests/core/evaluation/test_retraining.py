"""The protocol train, craft, retrain, evaluate against a computation by hand: a linear network of two classes on two pixels.

Its softmax has one logit u x + c, with the difference u of the weights of both classes. Every attack then moves an image along u,
and a full-batch step of gradient descent has a closed form.
"""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from core import data, nets
from core.bound import Trained
from core.config import TrialConfig
from core.data import Images
from core.errors import InputError
from core.evaluation.retraining import Retraining, adversarial_retraining, retrain
from core.knobs import knobs
from core.train import train

torch.set_num_threads(1)
LR = 5.0


@knobs
class Linear:
    """The linear network."""

    def build(self, channels: int, size: int, classes: int) -> nets.Halves:
        """Build it for two pixels."""
        assert (channels, size, classes) == (2, 1, 2)
        return nets.Halves(nn.Flatten(), nn.Linear(2, 2), 2)


@pytest.fixture(autouse=True)
def _linear_network(monkeypatch):
    monkeypatch.setitem(nets.NETS, "linear", Linear)


def linear(net: nets.Net) -> nn.Linear:
    """Its only layer."""
    assert isinstance(net.head, nn.Linear)
    return net.head


def pool() -> Images:
    """400 images of two overlapping classes, away from 0 and 255."""
    y = torch.arange(400) % 2
    noise = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    x = torch.tensor([128.0, 128.0]) + (2 * y - 1)[:, None] * torch.tensor([9.0, 5.0]) + 9 * noise
    return Images(x.round().to(torch.uint8).view(400, 2, 1, 1), y, 2)


def network() -> Trained:
    """A network whose boundary, 16 a - 3 b = 6.5, is not that of gradient descent."""
    config = TrialConfig.of({
        "net": "linear", "normalize": False, "optimizer": "sgd", "optimizer.lr": LR, "optimizer.momentum": 0.0,
        "optimizer.weight_decay": 0.0, "optimizer.schedule": "constant", "batch_size": 1000, "epochs": 1, "judge.part": "test",
    })  # fmt: skip
    bound = train(config, pool().at(np.arange(20)), pool().at(np.arange(0)))
    with torch.no_grad():
        linear(bound.net).weight.copy_(torch.tensor([[-8.0, 1.5], [8.0, -1.5]]))
        linear(bound.net).bias.copy_(torch.tensor([3.25, -3.25]))
    return Trained(config, bound)


class ByHand:
    """The same protocol in NumPy: class 1 where u x + c > 0."""

    def __init__(self, u, c, epsilon: float):
        self.u, self.c, self.epsilon = np.asarray(u, float), float(c), epsilon

    def predict(self, x):
        return (x @ self.u + self.c > 0).astype(int)

    def accuracy(self, x, y):
        return float((self.predict(x) == y).mean())

    def away(self, x, y):
        """FGSM, and PGD that reaches the edge of the ball: away from the predicted class, or the class y, by epsilon in Linf."""
        side = 1 - 2 * (self.predict(x) if y is None else y)
        return np.clip(x + self.epsilon * side[:, None] * np.sign(self.u), 0, 1)

    def across(self, x):
        """DeepFool: the nearest point of the boundary, and 1e-4 beyond it."""
        gap = x @ self.u + self.c
        length = np.linalg.norm(self.u)
        return x - ((gap / length + 1e-4 * np.sign(gap)) / length)[:, None] * self.u

    def retrained(self, x, y):
        """One step of gradient descent: with two opposite rows, each moves by half of what the difference moves by."""
        p = 1 / (1 + np.exp(-(x @ self.u + self.c)))
        return ByHand(self.u - 2 * LR * ((p - y) @ x) / len(y), self.c - 2 * LR * (p - y).mean(), self.epsilon)


def parts_by_hand():
    images = pool()
    parts = data.split(images, TrialConfig().split)
    flat, y = images.x.view(400, 2).double().numpy() / 255, images.y.numpy()
    return flat[parts.members], y[parts.members], flat[parts.test], y[parts.test]


@pytest.mark.parametrize("epsilon", [0.02, 0.05])
@pytest.mark.parametrize(
    "attack, labels", [("fgsm", "predicted"), ("fgsm", "true"), ("pgd", "predicted"), ("pgd", "true"), ("deepfool", "predicted")]
)
def test_all_three_protocols_agree_with_a_computation_by_hand(attack, labels, epsilon):
    x, y, test, test_y = parts_by_hand()
    first = ByHand([16.0, -3.0], -6.5, epsilon)

    def crafted(net, images, y):
        return net.across(images) if attack == "deepfool" else net.away(images, y if labels == "true" else None)

    both = np.concatenate([x, crafted(first, x, y)])
    second = first.retrained(both, np.concatenate([y, y]))
    old, new = crafted(first, test, test_y), crafted(second, test, test_y)
    expected = {
        "noretrain": first.accuracy(old, test_y), "static": second.accuracy(old, test_y),
        "whitebox": second.accuracy(new, test_y), "clean": second.accuracy(test, test_y),
    }  # fmt: skip
    settings = {"attacks": attack, "labels": labels, "epsilon": epsilon, "epochs": 1, "step_size": 0.1, "test_images": 0}
    found = adversarial_retraining({"target": network()}, pool(), "cpu", **settings)
    assert found == {f"{name}/{attack}": pytest.approx(value) for name, value in expected.items()}
    assert expected["static"] != expected["noretrain"]
    assert expected["static"] != expected["whitebox"] or labels == "true"


def test_each_attack_has_a_retrained_network_of_its_own_and_the_target_is_unchanged():
    target = network()
    before, curve = copy.deepcopy(target.bound.net.state_dict()), list(target.bound.curve)
    settings = {"epsilon": 0.05, "epochs": 1, "steps": 3}
    together = adversarial_retraining({"target": target}, pool(), "cpu", **settings)
    assert all(torch.equal(value, before[name]) for name, value in target.bound.net.state_dict().items())
    assert target.bound.curve == curve
    alone = [adversarial_retraining({"target": target}, pool(), "cpu", attacks=a, **settings) for a in ("deepfool", "fgsm", "pgd")]
    assert together == alone[0] | alone[1] | alone[2]


def test_only_the_first_test_images_are_evaluated():
    _, _, test, test_y = parts_by_hand()
    settings = {"attacks": "fgsm", "epsilon": 0.0, "epochs": 1, "test_images": 7}
    found = adversarial_retraining({"target": network()}, pool(), "cpu", **settings)
    assert found["noretrain/fgsm"] == pytest.approx(ByHand([16.0, -3.0], -6.5, 0.0).accuracy(test[:7], test_y[:7]))


def test_retraining_takes_the_members_and_their_crafted_versions_with_the_same_labels():
    config, bound = network()
    members = pool().at(np.arange(30))
    crafted = torch.rand(30, 2, 1, 1, generator=torch.Generator().manual_seed(1))
    net = retrain(config, bound, members, crafted, Retraining(epochs=1))
    both = np.concatenate([members.x.view(30, 2).numpy() / 255, crafted.view(30, 2).double().numpy()])
    expected = ByHand([16.0, -3.0], -6.5, 0.0).retrained(both, np.tile(members.y.numpy(), 2))
    head = linear(net)
    u = (head.weight[1] - head.weight[0]).detach().numpy()
    np.testing.assert_allclose(u, expected.u, rtol=1e-4)
    assert (head.bias[1] - head.bias[0]).item() == pytest.approx(expected.c, rel=1e-4)


def test_a_network_whose_epoch_was_chosen_is_retrained_to_the_last_epoch():
    config, bound = network()
    crafted = torch.zeros(30, 2, 1, 1)
    members, protocol = pool().at(np.arange(30)), Retraining(epochs=3)
    plain = retrain(config, bound, members, crafted, protocol)
    chosen = retrain(config.set({"selection": "accuracy"}), bound, members, crafted, protocol)
    assert torch.equal(linear(plain).weight, linear(chosen).weight)


def test_an_unknown_attack_is_rejected():
    with pytest.raises(InputError, match="unknown attack 'cw', expected one of: deepfool, fgsm, pgd"):
        Retraining(attacks="fgsm+cw")
