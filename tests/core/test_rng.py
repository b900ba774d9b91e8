"""Random streams: independent of each other, of batches and of the device, with the stated distributions."""

import pytest
import scipy.stats
import torch

from core import rng

IDS = torch.arange(200)


def stream(ids=IDS, seed=0, name="x"):
    return rng.per_image(seed, name, ids=ids)


def test_every_name_and_every_seed_gives_a_different_stream():
    names = [("order", 1), ("order", 2), ("augment", 1), ("perturb", 1), ("weights",), ("order", 11), ("order", 1, 1)]
    assert len({rng.fold(0, *n) for n in names} | {rng.fold(1, *n) for n in names}) == 2 * len(names)
    seeds = [rng.fold(seed, "x") for seed in range(100)]
    assert len(set(seeds)) == 100
    assert all(0 <= seed < 2**31 for seed in seeds)  # accepted by the generators of NumPy and scikit-learn, too


@pytest.mark.parametrize("kind", ["uniform", "normal", "signs", "integers"])
def test_noise_depends_on_the_image_and_not_on_the_batch(kind):
    def draw(s):
        return s.integers(50, 4) if kind == "integers" else getattr(s, kind)(4)

    rows = torch.tensor([7, 199, 0])
    all_images = draw(stream())
    assert torch.equal(draw(stream(IDS[rows])), all_images[rows])
    assert torch.equal(draw(stream().at(rows)), all_images[rows])
    assert torch.equal(draw(stream().named("a", 3).at(rows)), draw(stream().named("a", 3))[rows])


def test_noise_depends_on_seed_name_call_and_image():
    repeated = stream()
    draws = [
        repeated.uniform(5), repeated.uniform(5), stream(seed=1).uniform(5), stream(name="y").uniform(5),
        stream().named(0).uniform(5), stream().named(1).uniform(5), stream().named(0).named(1).uniform(5),
        stream(IDS + 1000).uniform(5),
    ]  # fmt: skip
    assert len({tuple(d.flatten().tolist()) for d in draws}) == len(draws)
    rows = {tuple(row) for d in draws for row in d.tolist()}
    assert len(rows) == len(draws) * len(IDS)
    assert torch.equal(stream().uniform(5), draws[0])


def test_uniform_normal_signs_and_integers_have_their_distributions():
    u, n = stream().uniform(3, 10, 10).flatten(), stream().normal(3, 10, 10).flatten()
    assert u.min() >= 0 and u.max() < 1 and u.dtype == n.dtype == torch.float32
    assert scipy.stats.kstest(u.numpy(), "uniform").pvalue > 0.01
    assert scipy.stats.kstest(n.numpy(), "norm").pvalue > 0.01
    s, i = stream().signs(300), stream().integers(7, 300).flatten()
    assert set(s.unique().tolist()) == {-1.0, 1.0} and abs(s.mean()) < 4 / 60000**0.5
    assert i.min() == 0 and scipy.stats.chisquare(torch.bincount(i, minlength=7).numpy()).pvalue > 0.01


def test_neighbouring_images_entries_and_calls_are_uncorrelated():
    noise = stream()
    a, b = noise.normal(500), noise.normal(500)
    for left, right in ((a[:-1], a[1:]), (a[:, :-1], a[:, 1:]), (a, b)):
        correlation = torch.corrcoef(torch.stack([left.flatten(), right.flatten()]))
        assert abs(correlation[0, 1]) < 4 / left.numel() ** 0.5
