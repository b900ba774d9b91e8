"""The search for the most similar image, against brute force."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from core import nets
from core.errors import InputError
from core.inversion.nearest import image_distances, iter_last_maps, iter_pixels, last_maps, nearest, same_class

torch.set_num_threads(1)


def vectors(n, d=12, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def pixels(n, shape=(3, 8, 8), seed=0):
    return torch.randint(256, (n, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def net_for(name, shape=(3, 8, 8), **knobs):
    torch.manual_seed(0)
    return nets.build(nets.NETS[name](**knobs), shape, 3)


@pytest.mark.parametrize("by", ["cosine", "l2"])
@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_the_chunked_search_equals_brute_force(by, batch_size):
    q, p = vectors(20), vectors(101, seed=1)
    result = nearest(q, p, by=by, batch_size=batch_size)
    if by == "cosine":
        values, rows = F.cosine_similarity(q[:, None].double(), p[None].double(), dim=2).max(1)
    else:
        values, rows = (q[:, None].double() - p[None].double()).norm(dim=2).min(1)
    assert torch.equal(result.rows, rows)
    torch.testing.assert_close(result.values, values)


@pytest.mark.parametrize("name", ["convnet", "allconv", "densenet"])
@pytest.mark.parametrize("centred", [False, True])
def test_a_member_is_found_with_cosine_one_and_distance_zero(name, centred):
    net, pool = net_for(name, **({"depth": 16} if name == "densenet" else {})), pixels(40)
    features = last_maps(net, pool)
    centre = features.mean(0) if centred else None
    rows = torch.tensor([3, 39, 0])
    by_features = nearest(features[rows], iter_last_maps(net, pool, batch_size=16), centre=centre)
    assert torch.equal(by_features.rows, rows)
    torch.testing.assert_close(by_features.values, torch.ones(3).double(), rtol=0, atol=1e-5)
    x = pool[rows].float() / 255
    by_pixels = nearest(x.flatten(1), iter_pixels(pool, batch_size=16), by="l2")
    assert torch.equal(by_pixels.rows, rows) and by_pixels.values.max() == 0
    assert all((d == 0).all() for d in image_distances(x, pool[by_features.rows].float() / 255, torch.ones(3)).values())


def test_a_centre_is_subtracted_from_queries_and_pool():
    q, p = vectors(30) + 5, vectors(60, seed=1) + 5
    raw, centred = nearest(q, p), nearest(q, p, centre=p.mean(0))
    assert torch.equal(centred.rows, nearest(q - p.mean(0), p - p.mean(0)).rows)
    assert (raw.values > 0.8).all() and centred.values.max() < raw.values.min()
    assert not torch.equal(raw.rows, centred.rows)


@pytest.mark.parametrize("by", ["cosine", "l2"])
def test_only_allowed_rows_are_found(by):
    q, p = vectors(9), vectors(50, seed=1)
    classes, labels = torch.arange(9) % 3, torch.arange(50) % 3
    result = nearest(q, p, by=by, allowed=same_class(classes, labels), batch_size=8)
    for c in range(3):
        of_class = (labels == c).nonzero().squeeze(1)
        alone = nearest(q[classes == c], p[of_class], by=by)
        assert torch.equal(result.rows[classes == c], of_class[alone.rows])
        torch.testing.assert_close(result.values[classes == c], alone.values)
    assert not torch.equal(result.rows, nearest(q, p, by=by).rows)


def test_a_query_without_candidates_and_an_unknown_similarity_are_rejected():
    allowed = torch.ones(4, 5, dtype=torch.bool)
    allowed[2] = False
    with pytest.raises(ValueError, match="has no nearest row"):
        nearest(vectors(4), vectors(5, seed=1), allowed=allowed)
    with pytest.raises(ValueError, match="has no nearest row"):
        nearest(vectors(4), vectors(0))
    with pytest.raises(InputError, match="unknown similarity 'l1'"):
        nearest(vectors(4), vectors(5), by="l1")  # pyright: ignore[reportArgumentType]


def test_a_zero_vector_has_cosine_zero():
    result = nearest(torch.zeros(2, 12), vectors(5))
    assert result.values.tolist() == [0.0, 0.0]


def test_last_maps_are_those_that_the_network_pools():
    net, x = net_for("convnet", width=2, hidden=4), pixels(5)
    net.train()
    body = net.body.eval()
    with torch.no_grad():
        expected = body[:6](x.float() / 255)
    net.train()
    assert expected.shape == (5, 4, 4, 4)
    torch.testing.assert_close(last_maps(net, x, batch_size=2), expected.flatten(1))
    torch.testing.assert_close(last_maps(net, x, pooled=True), expected.mean((2, 3)))
    assert last_maps(net, x[:0]).shape == (0, 64)
    assert all(module.training for module in net.modules())


@pytest.mark.parametrize(
    "name, shape, knobs, d",
    [
        ("allconv", (3, 8, 8), {"width": 2}, 4 * 2 * 2), ("mlenet", (1, 8, 8), {}, 64 * 4 * 4), ("net_a", (1, 9, 9), {}, 64),
        ("wrn", (3, 8, 8), {"depth": 10, "widen": 1}, 64 * 2 * 2), ("resnet18", (3, 16, 16), {}, 512 * 2 * 2),
        ("vgg11_bn", (3, 32, 32), {}, 512 * 2 * 2), ("mobilenet", (3, 16, 16), {"width": 0.125}, 128),
        ("googlenet", (3, 8, 8), {}, 1024 * 1), ("single_layer", (3, 8, 8), {"filters": 6}, 6 * 4 * 4),
    ],
)  # fmt: skip
def test_the_last_map_of_each_family_has_the_size_of_its_last_convolution(name, shape, knobs, d):
    net = net_for(name, shape, **knobs)
    maps = last_maps(net, pixels(3, shape))
    assert maps.shape == (3, d) and maps.std() > 0 and (maps >= 0).all()


def test_a_network_without_a_map_is_rejected():
    with pytest.raises(ValueError, match="no last map"):
        last_maps(nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.ReLU()), pixels(2))


def test_the_three_scales_of_a_distance():
    a, b = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    b[0, 0], b[1] = 0.5, 1.0
    distances = image_distances(a, b, torch.tensor([0.25, 0.5, 0.5]))
    assert distances["l2"].tolist() == pytest.approx([2.0, 48**0.5])
    assert distances["rmse_255"].tolist() == pytest.approx([255 * 2 / 48**0.5, 255.0])
    assert distances["l2_normalised"].tolist() == pytest.approx([8.0, (16 * (16 + 4 + 4)) ** 0.5])
