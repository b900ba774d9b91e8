"""Inversion by an AC-GAN: sizes, gradients, the effect of w, and determinism."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from core import rng
from core.errors import TrialError
from core.inversion import acgan
from core.inversion.acgan import Discriminator, Generator, train_generator

torch.set_num_threads(1)

SHAPE = (1, 8, 8)
SMALL = {"width": 4, "nz": 8, "batch_size": 20, "epochs": 1}


class Brightest(nn.Module):
    """A toy target whose class is the brightest quarter of the image."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(self, x):
        return self.scale * F.adaptive_avg_pool2d(x.mean(1, keepdim=True), 2).flatten(1)


def shadow(n=60, shape=SHAPE, seed=0):
    stream = torch.Generator().manual_seed(seed)
    return torch.randint(256, (n, *shape), generator=stream, dtype=torch.uint8), torch.randint(4, (n,), generator=stream)


def weights(net):
    return torch.cat([p.detach().reshape(-1) for p in net.parameters()])


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (1, 8, 8), (3, 5, 11), (1, 2, 2)])
def test_generator_and_discriminator_match_the_size_of_the_images(shape):
    torch.manual_seed(0)
    g, d = Generator(shape, 4, nz=8, width=4), Discriminator(shape, 4, width=4)
    generated = g(torch.tensor([0, 1, 3]), torch.randn(3, 8))
    assert generated.shape == (3, *shape) and generated.min() >= 0 and generated.max() <= 1 and generated.std() > 0.01
    real, kinds = d(generated)
    assert real.shape == (3,) and kinds.shape == (3, 4)


def test_the_layers_are_those_of_the_paper():
    g, d = Generator((3, 32, 32), 10), Discriminator((3, 32, 32), 10)
    up = [m for m in g.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert [m.in_channels for m in up] == [110, 512, 256, 128, 64, 64, 32] and up[-1].out_channels == 3
    assert [(m.kernel_size[0], m.stride[0]) for m in up] == [(4, 1), *[(4, 2)] * 3, *[(3, 1)] * 3]
    down = [m for m in d.modules() if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in down] == [16, 32, 64, 128, 256, 512, 512]
    assert [m.stride[0] for m in down] == [2, 1, 2, 1, 2, 1, 1] and {m.kernel_size for m in down} == {(5, 5)}
    assert sum(isinstance(m, nn.BatchNorm2d) for m in d.modules()) == 7


def test_images_of_an_untrained_generator_depend_on_noise_and_class():
    torch.manual_seed(0)
    g = Generator((3, 32, 32), 10)
    noise = torch.randn(4, 100)
    generated = g(torch.zeros(4, dtype=torch.long), noise)
    assert generated.std(0).mean() > 0.05
    assert (g(torch.ones(4, dtype=torch.long), noise) - generated).abs().max() > 0.01


def test_the_target_receives_no_gradient_and_keeps_its_statistics():
    torch.manual_seed(0)
    target = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 4)).train()
    target[0].bias.requires_grad_(False)
    required = [p.requires_grad for p in target.parameters()]
    before = {k: v.clone() for k, v in target.state_dict().items()}
    train_generator(target, *shadow(), 4, w=1.0, **SMALL)
    assert all(p.grad is None for p in target.parameters())
    assert all(torch.equal(v, before[k]) for k, v in target.state_dict().items())
    assert [p.requires_grad for p in target.parameters()] == required and all(m.training for m in target.modules())


def test_the_generator_depends_on_the_target_only_if_w_is_not_zero():
    other = Brightest()
    with torch.no_grad():
        other.scale *= -1
    x, y = shadow()
    for w, same in ((0.0, True), (1.0, False)):
        one, two = (weights(train_generator(target, x, y, 4, w=w, **SMALL)) for target in (Brightest(), other))
        assert torch.equal(one, two) == same


def test_the_class_head_of_the_discriminator_is_trained_on_real_images_only(monkeypatch):
    """With a single batch, labels reach the generator only through the discriminator's preceding step."""
    x, y = shadow(20)
    heads = []
    forward = Discriminator.forward

    def spy(self, images):
        real, kinds = forward(self, images)
        if kinds.requires_grad:
            kinds.register_hook(lambda grad: heads.append(grad))
        return real, kinds

    monkeypatch.setattr(acgan.Discriminator, "forward", spy)
    train_generator(Brightest(), x, y, 4, w=1.0, **SMALL)
    assert len(heads) == 1  # of three passes (real, generated, for the generator's step), only the first uses the class head
    assert heads[0].shape == (20, 4)


@pytest.mark.thorough
def test_the_accuracy_of_the_target_on_generated_images_rises_with_w():
    target, classes = Brightest(), torch.arange(4).repeat(50)
    x, y = shadow(200)
    draw = rng.per_image(0, "sample", ids=torch.arange(200))
    accuracy, loss = [], []
    for w in (0.0, 0.1, 1000.0):
        g = train_generator(target, x, y, 4, w=w, width=4, nz=8, batch_size=20, epochs=12, lr=2e-3)
        logits = target(g.sample(classes, draw.at(torch.arange(200)))).detach()
        accuracy.append((logits.argmax(1) == classes).float().mean().item())
        loss.append(F.cross_entropy(logits, classes).item())
    assert accuracy[0] < 0.45 and accuracy[0] < accuracy[1] < accuracy[2], accuracy
    assert accuracy[2] > 0.95 and loss[2] < 0.3 < loss[0], loss


def test_training_is_determined_by_the_seed_and_leaves_global_random_state_unchanged():
    x, y = shadow()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one = train_generator(Brightest(), x, y, 4, **SMALL)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    two = train_generator(Brightest(), x, y, 4, **SMALL)
    assert torch.equal(weights(one), weights(two))
    assert not torch.equal(weights(one), weights(train_generator(Brightest(), x, y, 4, seed=1, **SMALL)))


def test_a_sample_depends_on_its_draw_and_not_on_the_batch():
    g = train_generator(Brightest(), *shadow(), 4, **SMALL)
    draw, classes = rng.per_image(0, "sample", ids=torch.arange(6)), torch.tensor([0, 1, 2, 3, 0, 1])
    whole = g.sample(classes, draw.at(torch.arange(6)))
    assert torch.equal(g.sample(classes[2:4], draw.at(torch.arange(2, 4))).round(decimals=5), whole[2:4].round(decimals=5))
    assert (whole[0] - whole[4]).abs().max() > 1e-3  # two images of one class


def test_batches_are_full_unless_there_is_only_one(monkeypatch):
    sizes = []
    forward = Discriminator.forward
    monkeypatch.setattr(acgan.Discriminator, "forward", lambda self, x: sizes.append(len(x)) or forward(self, x))
    train_generator(Brightest(), *shadow(45), 4, **SMALL)
    train_generator(Brightest(), *shadow(3), 4, **SMALL)
    assert sizes == [20] * 6 + [3] * 3


def test_too_few_images_and_divergence_raise():
    with pytest.raises(ValueError, match="needs 2 images or more, got 1"):
        train_generator(Brightest(), *shadow(1), 4, **SMALL)
    with pytest.raises(TrialError, match="the generator diverged"):
        train_generator(Brightest(), *shadow(), 4, w=float("nan"), **SMALL)
