"""RSS against its definition, and FGSM training at weight zero."""

import copy

import pytest
import torch
from small_batches import classifier, context, grey_images
from tiny_training import draw, fit, weights
from torch import nn
from torch.nn import functional as F

from core import train
from core.attacks.gradient import fgsm
from core.bound import Bound
from core.config import TrialConfig
from core.errors import InputError
from core.losses.cross_entropy import CrossEntropy
from core.regularizers.rss import RSS
from core.slots import Part, Step

torch.set_num_threads(1)


class Normed(nn.Module):
    """Batch norm before a linear layer, in float64."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.norm = nn.BatchNorm2d(1, momentum=0.1).double()
        self.features, self.head = nn.Sequential(self.norm, nn.Flatten()), nn.Linear(16, 3).double()

    def forward(self, x):
        return self.head(self.features(x))


def rss_step(net, **knobs):
    """A step with FGSM images at 0.1, the regularizer, and the R-FGSM images by their definition."""
    x, y = grey_images()
    part = RSS(**{"lambda_": 2.0, "random_share": 0.5, **knobs}).bind(context(net))
    step = Step(net, x, y, fgsm(net, x, y, epsilon=0.1), draw(6), 1, radius=0.1)
    corner = x + 0.05 * draw(6).normal(1, 4, 4).sign()
    mode = net.training
    inputs = corner.clone().requires_grad_()
    (grad,) = torch.autograd.grad(F.cross_entropy(net.eval()(inputs), y, reduction="sum"), inputs)
    net.train(mode)
    return step, part, (corner + 0.1 * grad.sign()).clamp(0, 1)


def test_rss_is_lambda_times_the_mean_squared_distance_between_the_logits_of_fgsm_and_r_fgsm_images():
    net = classifier()
    step, part, rfgsm_images = rss_step(net)
    gap = net(step.perturbed) - net(rfgsm_images)
    value = part(step)
    assert value > 0
    torch.testing.assert_close(value, 2.0 * sum(gap[b] @ gap[b] for b in range(6)) / 6)
    expected = 2.0 * gap.square().sum() / 6
    gradients = (torch.autograd.grad(scalar, list(net.parameters())) for scalar in (value, expected))
    for grad, expected_grad in zip(*gradients, strict=True):
        torch.testing.assert_close(grad, expected_grad)


def test_the_r_fgsm_images_of_rss_may_leave_the_ball_of_fgsm(monkeypatch):
    """The steps have lengths 0.05 and 0.1; those of the R-FGSM attack together have length 0.1."""
    net = classifier()
    step, part, rfgsm_images = rss_step(net)
    inputs = []
    forward = Step.forward_with_adversarial
    monkeypatch.setattr(Step, "forward_with_adversarial", lambda self, images: inputs.append(images) or forward(self, images))
    part(step)
    torch.testing.assert_close(inputs[0], rfgsm_images)
    assert (inputs[0] - step.x).abs().max().item() == pytest.approx(0.15)
    assert not inputs[0].requires_grad


def test_rss_takes_one_forward_pass_of_fgsm_and_r_fgsm_images_together():
    net = Normed().train()
    with torch.no_grad():
        net.norm.running_mean.fill_(0.5)
    step, part, rfgsm_images = rss_step(net)
    both = torch.cat([step.perturbed, rfgsm_images])
    logits = copy.deepcopy(net)(both)
    no_update = torch.optim.SGD(net.parameters(), lr=0.0)
    adversary = Part()
    adversary.alpha = 0.0  # pyright: ignore[reportAttributeAccessIssue]
    bound = Bound(net, CrossEntropy().bind(context(net)), adversary, part, Part(), no_update)  # pyright: ignore[reportArgumentType]
    value, _ = train._update(bound, step, 6)
    assert net.norm.num_batches_tracked == 1  # the forward passes of the attack are in evaluation mode
    torch.testing.assert_close(net.norm.running_mean, 0.9 * torch.full((1,), 0.5).double() + 0.1 * both.mean().view(1))
    gap = logits[:6] - logits[6:]
    cross_entropy = F.cross_entropy(logits[:6], step.labels)  # of the same forward pass, without a clean term
    torch.testing.assert_close(value, cross_entropy + 2.0 * gap.square().sum() / 6)


def test_rss_of_weight_zero_is_bit_identical_to_fgsm_training():
    at = {"perturbation": "fgsm", "perturbation.epsilon": 0.1, "perturbation.alpha": 0.0}
    plain, rss = weights(fit(at).net), at | {"regularizer": "rss"}
    assert torch.equal(plain, weights(fit(rss | {"regularizer.lambda": 0.0}).net))
    assert not torch.equal(plain, weights(fit(rss | {"regularizer.lambda": 1.0}).net))
    assert not torch.equal(weights(fit(rss).net), weights(fit(rss | {"perturbation.epsilon": 0.2}).net))
    off = {"perturbation": "fgsm", "perturbation.epsilon": 0.0}
    assert torch.equal(weights(fit({}).net), weights(fit(off | {"regularizer": "rss"}).net))


@pytest.mark.parametrize(
    "params",
    [{}, {"perturbation": "pgd"}, {"perturbation": "rfgsm"}, {"perturbation": "fgsm", "perturbation.norm": "l2"}],
    ids=["none", "pgd", "rfgsm", "fgsm-l2"],
)
def test_rss_is_rejected_without_fgsm_in_linf(params):
    with pytest.raises(InputError, match=r"regularizer=rss .*perturbation=fgsm, perturbation\.norm=linf") as caught:
        TrialConfig.of({"regularizer": "rss", **params})
    assert "\n" not in str(caught.value)
