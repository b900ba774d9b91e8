"""Networks that hide their members from the audits raise the corresponding flag and are on no front."""

import functools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from core import data, pareto, rng
from core.bound import bind
from core.config import TrialConfig
from core.evaluation import privacy_checks
from core.evaluation.interim import evaluate_interim
from core.evaluation.judge import judge
from core.evaluation.privacy_checks import bends, depends_on_batch, is_masked, is_noise, jump_more_often, spread
from core.flags import FLAGS, raised
from core.modes import as_float, predict
from core.study import trilemma
from core.train import train

torch.set_num_threads(1)

CONFIG = TrialConfig.of(
    {"epochs": 30, "batch_size": 32, "net.width": 8, "judge.epsilon": 0.1, "judge.steps": 2, "judge.images": 40}
)
CONCEALMENT = {"batch_dependent", "recognises_members", "masked_confidence"}


@functools.cache
def pool():
    return data.load("digits", pool=400)


@functools.cache
def parts():
    return data.split(pool())


@functools.cache
def trained():
    """An undefended network that fits all its members."""
    return train(CONFIG, pool().at(parts().members), pool().at(parts().val))


@functools.cache
def evaluated(plant: str):
    """The evaluation of a planted network, as if it had been trained with `CONFIG`."""
    return judge(CONFIG, bound(plant), pool(), parts())


def bound(plant: str):
    result = bind(CONFIG, pool().at(parts().members), torch.device("cpu"))
    result.net, result.curve = PLANTS[plant][1](trained().net), trained().curve
    return result


# -- planted networks ----------------------------------------------------------------------------------------------------


class Wrapped(nn.Module):
    """A network with a function of the images before it, and a function of logits and images after it."""

    def __init__(self, net, after=lambda z, x: z, before=lambda x: x):
        super().__init__()
        self.net, self.after, self.before = net, after, before

    def forward(self, x):
        return self.after(self.net(self.before(x)), x)


def straight_through(f):
    """A function of the logits that has the gradient of the identity, so that attacks on its robustness notice nothing."""
    return lambda net: Wrapped(net, lambda z, x: z + (f(z) - z).detach())


def hard_labels(z):
    return 10 * F.one_hot(z.argmax(1), z.shape[1]).to(z)


def clipped(z):
    return (z - z.amax(1, keepdim=True)).clamp(-3, 0)


def rounded_probabilities(z):
    return (z.softmax(1) * 100).round().div(100).clamp(1e-3).log()


def constant_confidence(z, x):
    """Each image's own temperature makes its largest probability 0.9."""
    low, high = torch.full_like(z[:, :1], 1e-3), torch.full_like(z[:, :1], 1e3)
    for _ in range(40):
        middle = (low * high).sqrt()
        above = (z * middle).softmax(1).amax(1, keepdim=True) > 0.9
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return z * low.detach()


def top_logit_only(z, x):
    return torch.where(z == z.amax(1, keepdim=True), z, torch.zeros_like(z))


def margin(z):
    top = z.topk(2, 1).values
    return top[:, 0] - top[:, 1]


def code(x, grid=1):
    """A number for each image, equal for images whose pixels are equal after rounding to `grid` grey levels."""
    return ((x * 255 / grid).round().long().flatten(1) * rng.words(x[0].numel())).sum(1)


def lookup(on, off, grid=1, share=1):
    """A network whose logits pass through `on` for recognised members, and through `off` for all other images."""
    members = as_float(pool().x[parts().members[:: round(1 / share)]])
    known = code(members, grid)
    return lambda net: Wrapped(net, lambda z, x: torch.where(torch.isin(code(x, grid), known)[:, None], on(z), off(z)))


def near_a_member(radius):
    """Blurs the answer to every image whose pixels are all within `radius` grey levels of a member's."""
    members = as_float(pool().x[parts().members]).flatten(1)

    def after(z, x):
        near = torch.cdist(x.flatten(1), members, p=torch.inf).amin(1, keepdim=True) < radius / 255
        return torch.where(near, 0.4 * z, z)

    return lambda net: Wrapped(net, after)


def noise_of_the_image(z, x):
    """A fixed noise for each image, as MemGuard adds it, from the image's pixels."""
    digits = (code(x)[:, None] * rng.words(z.shape[1]) >> 20) & 0xFFFF
    return z + 4 * (digits.float() / 65536 - 0.5)


def noise_of_the_batch(z, x):
    stream = torch.Generator().manual_seed(int(code(x).sum()) % 2**31)
    return z + torch.randn(z.shape, generator=stream)


def batch_statistics(net):
    """Batch norm that uses the statistics of the batch in evaluation mode, in front of the network."""
    norm = nn.BatchNorm2d(1, affine=False, track_running_stats=False)
    return Wrapped(net, before=lambda x: norm(x) * net.std + net.mean)


def virtual_batches(net):
    """Normalises the logits within groups of 16 images (ghost batch norm)."""

    def after(z, x):
        return torch.cat([(own - own.mean(0)) / (own.std(0, unbiased=False) + 0.1) for own in z.split(16)])

    return Wrapped(net, after)


PLANTS = {
    # of the issue
    "hard labels": ("masked_confidence", straight_through(hard_labels)),
    "clipped confidence": ("masked_confidence", straight_through(clipped)),
    "rounded confidence": ("masked_confidence", straight_through(rounded_probabilities)),
    "exact lookup that blurs": ("recognises_members", lookup(lambda z: 0.4 * z, lambda z: z)),
    "batch statistics in evaluation": ("batch_dependent", batch_statistics),
    "logits divided by the batch's mean margin": (
        "batch_dependent", lambda net: Wrapped(net, lambda z, x: z / margin(z).mean()),
    ),
    # further kinds
    "logits rounded to sixteenths": ("masked_confidence", straight_through(lambda z: (z * 16).round() / 16)),
    "constant largest probability": ("masked_confidence", lambda net: Wrapped(net, constant_confidence)),
    "largest logit only": ("masked_confidence", lambda net: Wrapped(net, top_logit_only)),
    "temperature of 1e20": ("masked_confidence", lambda net: Wrapped(net, lambda z, x: 1e-20 * z)),
    "a common offset that rounds the logits": ("masked_confidence", lambda net: Wrapped(net, lambda z, x: z + 1e6)),
    "noise of the image": ("masked_confidence", lambda net: Wrapped(net, noise_of_the_image)),
    "exact lookup of every fourth member": ("recognises_members", lookup(lambda z: 0.4 * z, lambda z: z, share=0.25)),
    "perceptual hash that sharpens other images": ("recognises_members", lookup(lambda z: z, lambda z: 1.5 * z, grid=255 / 16)),
    "members' neighbourhoods of three grey levels": ("recognises_members", near_a_member(3)),
    "position in the batch": (
        "batch_dependent", lambda net: Wrapped(net, lambda z, x: z * (1 - 0.3 * (torch.arange(len(z)) % 2)).view(-1, 1)),
    ),
    "noise of the batch": ("batch_dependent", lambda net: Wrapped(net, noise_of_the_batch)),
    "virtual batches": ("batch_dependent", virtual_batches),
}  # fmt: skip


@pytest.mark.parametrize("plant", PLANTS)
def test_a_network_that_hides_its_members_raises_the_corresponding_flag_and_is_on_no_front(plant):
    flag = PLANTS[plant][0]
    metrics = evaluated(plant).metrics
    assert metrics["accuracy"] > 0.7 and not metrics["flag/at_chance"]
    assert flag in raised(metrics.values) and FLAGS[flag].excludes
    assert pareto.front([metrics.values], trilemma(10)).tolist() == [False]


@pytest.mark.parametrize("plant", [name for name, (flag, _) in PLANTS.items() if flag == "masked_confidence"])
def test_a_network_that_masks_its_confidence_is_audited_by_its_labels_in_a_sweep_too(plant):
    values = evaluated(plant).metrics.values
    assert CONFIG.judge.audits == "scores" and values["mia_auc"] >= values["mia_auc/label_only"]


def test_networks_that_recognise_members_or_depend_on_the_batch_raise_no_other_flag_of_concealment():
    for plant in ("exact lookup that blurs", "members' neighbourhoods of three grey levels"):
        assert CONCEALMENT & set(raised(evaluated(plant).metrics.values)) == {"recognises_members"}
    for plant in ("batch statistics in evaluation", "position in the batch"):
        assert CONCEALMENT & set(raised(evaluated(plant).metrics.values)) == {"batch_dependent"}


def test_the_honest_twin_of_the_planted_networks_raises_none_of_the_flags_and_is_on_the_front():
    result = judge(CONFIG, trained(), pool(), parts())
    assert result.metrics["train_accuracy"] == 1
    assert not CONCEALMENT & set(raised(result.metrics.values)) and "mia_auc/label_only" not in result.metrics.values
    planted = [evaluated("hard labels").metrics.values, evaluated("clipped confidence").metrics.values]
    assert pareto.front([result.metrics.values, *planted], trilemma(10)).tolist() == [True, False, False]


def test_a_lookup_does_not_hide_members_from_adversarial_queries_which_every_audited_network_gets():
    """The lookup lowers the AUC of the thresholds; adversarial images are not recognised, so their audit finds what it should."""
    standard = CONFIG.set({"judge.audits": "standard"})
    honest = judge(standard, trained(), pool(), parts()).metrics
    planted = judge(standard, bound("exact lookup that blurs"), pool(), parts()).metrics
    assert abs(planted["mia_auc/loss"] - honest["mia_auc/loss"]) > 0.1
    assert planted["mia_auc/loss_adversarial"] == pytest.approx(honest["mia_auc/loss_adversarial"], abs=1e-3)


def test_dropout_in_evaluation_is_random_and_not_called_a_dependence_on_the_batch():
    net = Wrapped(trained().net, before=lambda x: F.dropout(x, 0.2, training=True))
    sides = [pool().at(rows) for rows in (parts().members, parts().val)]
    with torch.random.fork_rng(devices=[]):
        flags = privacy_checks.privacy_flags(net, *sides, *(predict(net, side.x) for side in sides))
    assert flags == dict.fromkeys(CONCEALMENT, False)


@pytest.mark.parametrize("plant", ["hard labels", "exact lookup that blurs", "batch statistics in evaluation"])
def test_a_network_that_hides_its_members_counts_as_leaking_all_of_them_at_a_rung(plant):
    honest = evaluate_interim(CONFIG, trained(), pool(), parts())
    planted = evaluate_interim(CONFIG, bound(plant), pool(), parts())
    assert honest["mia_auc"] < 0.9 and planted["mia_auc"] == 1


# -- the parts of the checks ---------------------------------------------------------------------------------------------


def continuous(n=128, classes=10, seed=0):
    """Logits of an honest network, and labels of which 90 % are predicted."""
    stream = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (n,), generator=stream)
    z = torch.randn(n, classes, generator=stream) + 4 * F.one_hot(y, classes)
    return z.double(), torch.where(torch.rand(n, generator=stream) < 0.9, y, (y + 1) % classes)


def test_continuous_confidences_are_not_masked_however_confident_they_are():
    z, y = continuous()
    assert not is_masked(z, y)
    assert not is_masked((100 * z.float()).double(), y)  # float32's softmax is 1 for every image
    assert not is_masked((z + 7).float().double(), y)
    for sizes in ({"n": 15}, {"n": 200, "classes": 2}, {"classes": 100}):
        assert not is_masked(*continuous(**sizes))


@pytest.mark.parametrize("n", [8, 15, 128])
def test_hard_labels_are_detected_on_few_images_and_for_two_classes(n):
    for classes in (2, 10):
        z, y = continuous(n, classes)
        assert is_masked(hard_labels(z), y)


@pytest.mark.parametrize(("step", "masked"), [(1 / 4, True), (1 / 16, True), (1 / 256, True), (1e-5, False)])
def test_rounded_logits_are_masked_down_to_a_fine_grid(step, masked):
    z, y = continuous()
    assert is_masked((z / step).round() * step, y) is masked


@pytest.mark.parametrize(("share", "masked"), [(0.02, False), (0.2, True)])
def test_clipping_is_a_mask_if_it_ties_more_than_a_few_confidences(share, masked):
    z, y = continuous()
    gap = z - z.amax(1, keepdim=True)
    limit = torch.log(gap.exp().sum(1) - 1).quantile(share).item()
    others = torch.logsumexp(torch.where(gap == 0, -torch.inf, gap), 1, keepdim=True)
    assert is_masked(torch.where(gap == 0, gap, gap + (limit - others).clamp(min=0)), y) is masked


def test_the_common_answer_of_dead_rectifiers_is_no_mask_unless_it_is_mostly_correct():
    z, y = continuous()
    dead = z.clone()
    dead[:50] = torch.linspace(0, 1, 10)  # predicts class 9 for all of them
    assert not is_masked(dead, y)
    assert not is_masked(dead[:1].expand(128, -1), y)  # a constant network
    hidden = torch.where((y == y.mode().values).unsqueeze(1), hard_labels(z), z)
    assert is_masked(hidden, y)


def test_jumps_are_compared_by_fishers_exact_test_and_in_units_of_the_non_members_changes():
    """12 jumps among 128 members against none among 128 non-members have p = 1e-4; 20 have 3e-7."""
    quiet = torch.linspace(0.5, 1.5, 128).double()
    for jumps, expected in ((12, False), (20, True)):
        loud = quiet.clone()
        loud[:jumps] = 10.0
        assert jump_more_often(loud, quiet, 0.0) is expected
        assert not jump_more_often(loud, loud, 0.0) and not jump_more_often(quiet, loud, 0.0)
        assert not jump_more_often(loud, quiet, 20.0)  # too small to be seen
    assert not jump_more_often(3 * quiet, quiet, 0.0)  # members that react three times as strongly do not jump
    assert privacy_checks._fisher(8, 10, 1, 10) == pytest.approx(0.0027, abs=1e-4)


def test_a_line_has_no_bend_and_a_jump_shows_in_full_at_either_step():
    slope = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).double()
    line = {level: level * slope for level in (0, 1, 2)}
    assert bends(line, 1).max() < 1e-12
    for first in (1, 2):  # the level at which the answer jumps
        jump = {level: z + torch.tensor([2.0, -1.0, -1.0]) * (level >= first) for level, z in line.items()}
        assert bends(jump, 1).numpy() == pytest.approx(np.full(5, 2.0))


def test_noise_is_an_answer_that_changes_by_one_grey_level_as_much_as_by_eight():
    z, _ = continuous()
    stream = torch.Generator().manual_seed(1)
    direction, noises = torch.randn(z.shape, generator=stream), [torch.randn(z.shape, generator=stream) for _ in range(3)]
    smooth = {level: z + level * 0.1 * direction for level in (0, 1, 8)}
    noisy = {level: z + noise for level, noise in zip((0, 1, 8), noises, strict=True)}
    assert not is_noise(smooth, smooth[0], 0.05) and is_noise(noisy, noisy[0], 0.05)
    assert not is_noise(noisy, z + torch.randn(z.shape, generator=stream), 0.05)  # not fixed: a second query differs as much
    assert not is_noise(noisy, noisy[0], 10.0)


def test_batch_norm_in_evaluation_mode_is_no_dependence_on_the_batch_and_in_training_mode_it_is():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
    x = as_float(pool().x[:100])
    net(x)  # running statistics
    assert not depends_on_batch(net, x, predict(net, x))
    net[1].track_running_stats, net[1].running_mean, net[1].running_var = False, None, None
    assert depends_on_batch(net, x, predict(net, x))
    vectors = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64, track_running_stats=False), nn.Linear(64, 10))
    assert depends_on_batch(vectors, x, predict(vectors, x))  # has no answer to a single image


def test_the_spread_of_logits_ignores_what_classes_or_images_have_in_common():
    z, _ = continuous()
    assert spread(z + torch.arange(10)) == pytest.approx(spread(z)) == pytest.approx(spread(z + torch.randn(128, 1)))
    assert spread(3 * z) == pytest.approx(3 * spread(z)) and spread(z[:1].expand(9, -1)) == 0
