"""Outputs of a network for all images of a pool, against the network itself, and the recognition of pixels."""

import functools
import io

import numpy as np
import pytest
import torch
from attack_contract import correct, mlp
from torch import nn

from core import rng
from core.attacks.gradient import pgd
from core.audits.outputs import ADVERSARIAL_STEPS, ModelOutputs, query
from core.audits.scores import SCORES
from core.data import Images
from core.modes import predict

torch.set_num_threads(1)

TRAINED, REFERENCE = np.array([3, 17, 4, 30, 31, 32]), np.array([8, 9])
ATTACK = np.array([3, 5, 8, 20, 21, 40, 2])
BALL = {"epsilon": 0.06, "norm": "linf", "seed": 5}


@functools.cache
def pool(n=45):
    """Random images; 10 is the mirror image of 17, 11 is a copy of 4, and 30 is symmetric."""
    s = torch.Generator().manual_seed(0)
    x = torch.randint(256, (n, 1, 8, 8), generator=s, dtype=torch.uint8)
    x[10], x[11] = x[17].flip(2), x[4]
    x[30, :, :, 4:] = x[30, :, :, :4].flip(2)
    return Images(x, torch.randint(10, (n,), generator=s), 10)


@functools.cache
def net():
    return mlp(0, 10, (1, 8, 8))


def outputs_for(**knobs):
    return query(net(), pool(), TRAINED, REFERENCE, **knobs)


def test_logits_are_those_of_each_image_and_of_its_mirror_image():
    x = pool().x.float() / 255
    with torch.no_grad():
        plain, mirrored = net()(x).numpy(), net()(x.flip(3)).numpy()
    once, twice = outputs_for(), outputs_for(mirrored=True)
    assert (once.queries, twice.queries) == (1, 2) and once.logits.dtype == np.float32
    np.testing.assert_allclose(once.logits[:, 0], plain, atol=1e-6)
    np.testing.assert_allclose(twice.logits, np.stack([plain, mirrored], 1), atol=1e-6)
    assert np.abs(plain - mirrored).max() > 0.1


def test_states_distinguish_training_images_reference_images_and_others():
    state = outputs_for().state
    copy_of_4 = 11
    assert set(np.flatnonzero(state == 1)) == {*TRAINED, copy_of_4} and set(np.flatnonzero(state == 0)) == set(REFERENCE)
    assert (state == -1).sum() == 45 - 9 and state.dtype == np.int8


def test_an_image_that_is_trained_on_and_held_out_as_a_copy_is_a_training_image():
    state = query(net(), pool(), np.array([4, 9]), np.array([11, 8])).state
    assert np.flatnonzero(state == 1).tolist() == [4, 9, 11] and np.flatnonzero(state == 0).tolist() == [8]


def test_a_query_is_recognised_exactly_if_a_training_image_has_its_pixels():
    x = pool().x.numpy()
    expected = [[any(np.array_equal(query, x[t]) for t in TRAINED) for query in (image, image[..., ::-1])] for image in x]
    recognised = outputs_for(mirrored=True).recognised
    assert np.array_equal(recognised, expected)
    assert recognised[11, 0] and recognised[10, 1] and recognised[30, 1] and not recognised[10, 0]
    assert np.array_equal(outputs_for().recognised, recognised[:, :1])


def test_images_that_differ_by_one_in_one_pixel_are_distinguished():
    x = torch.full((64 * 64, 3, 8, 8), 128, dtype=torch.uint8)
    flat = x.flatten(1)
    rows = torch.arange(1, 64 * 64)
    flat[rows, rows % 192] += (1 + rows // 192).to(torch.uint8)
    images = Images(flat.view_as(x), torch.arange(64 * 64) % 10, 10)
    outputs = query(mlp(0, 10, (3, 8, 8)), images, np.array([0]), np.array([], int))
    assert outputs.recognised.sum() == 1 and outputs.recognised[0, 0]


@pytest.mark.parametrize("name", SCORES)
def test_scores_are_those_of_the_original_images(name):
    outputs, rows = outputs_for(mirrored=True), np.array([5, 0, 44])
    logits = torch.from_numpy(outputs.logits[:, 0])
    assert np.array_equal(outputs.score(name, rows), SCORES[name](logits, pool().y).numpy()[rows])


def test_phi_is_the_log_odds_of_the_label_for_each_query():
    outputs = outputs_for(mirrored=True, attack=ATTACK, **BALL)
    p = torch.from_numpy(outputs.logits).double().softmax(2).numpy()[np.arange(45), :, pool().y.numpy()]
    np.testing.assert_allclose(outputs.phi, np.log(p / (1 - p)), rtol=1e-9)
    p = torch.from_numpy(outputs.adversarial).double().softmax(1).numpy()[np.arange(45), pool().y.numpy()]
    np.testing.assert_allclose(outputs.adversarial_phi[:, 0], np.log(p / (1 - p)), rtol=1e-9)
    assert outputs_for().adversarial_phi is None


# ---- adversarial images


def test_adversarial_outputs_are_those_of_pgd_images_and_only_for_the_given_rows():
    adversarial = outputs_for(attack=ATTACK, **BALL).adversarial
    assert set(np.flatnonzero(np.isfinite(adversarial).all(1))) == set(ATTACK)
    assert np.isnan(np.delete(adversarial, ATTACK, 0)).all()
    x, y = pool().x[ATTACK].float() / 255, pool().y[ATTACK]
    noise = rng.per_image(5, "adversarial_query", ids=torch.from_numpy(ATTACK))
    adv = pgd(net(), x, y, epsilon=0.06, steps=ADVERSARIAL_STEPS, restarts=1, draw=noise)
    np.testing.assert_allclose(adversarial[ATTACK], predict(net(), adv).numpy(), atol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_adversarial_images_lower_the_log_odds_of_their_label_and_are_within_the_ball(norm):
    inputs = []
    inner = net()

    class Recorded(nn.Module):
        def forward(self, x):
            inputs.append(x.detach().clone())
            return inner(x)

    rows = np.arange(45)
    epsilon = 0.06 if norm == "linf" else 0.4
    outputs = query(Recorded(), pool(), TRAINED, REFERENCE, attack=rows, epsilon=epsilon, norm=norm)
    assert (outputs.adversarial_phi < outputs.phi).mean() > 0.95
    offset = (inputs[-1] - pool().x.float() / 255).flatten(1)
    lengths = offset.abs().amax(1) if norm == "linf" else offset.norm(dim=1)
    assert lengths.max() <= epsilon + 1e-6 and lengths.median() > 0.9 * epsilon
    assert correct(inner, inputs[-1], pool().y).sum() <= correct(inner, pool().x.float() / 255, pool().y).sum()


def test_an_adversarial_output_depends_on_its_image_and_the_seed_only():
    alone, together = outputs_for(attack=np.array([20]), **BALL), outputs_for(attack=ATTACK, **BALL)
    np.testing.assert_allclose(alone.adversarial[20], together.adversarial[20], atol=1e-5)
    other = outputs_for(attack=ATTACK, **(BALL | {"seed": 6}))
    assert np.abs(other.adversarial - together.adversarial)[ATTACK].max() > 1e-4


# ---- querying and storing


@pytest.mark.parametrize("batch_size", [1, 4, 45])
def test_outputs_do_not_depend_on_the_batches(batch_size):
    whole, parts = (outputs_for(mirrored=True, attack=ATTACK, batch_size=size, **BALL).arrays() for size in (2048, batch_size))
    for name in whole:
        np.testing.assert_allclose(parts[name], whole[name], atol=1e-5)


def test_a_network_is_queried_in_evaluation_mode_and_unchanged():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Dropout(0.5), nn.Linear(64, 10))
    state = {k: v.clone() for k, v in net.state_dict().items()}
    one, two = (query(net, pool(), TRAINED, REFERENCE, attack=ATTACK, **BALL) for _ in range(2))
    assert np.array_equal(one.logits, two.logits) and np.array_equal(one.adversarial[ATTACK], two.adversarial[ATTACK])
    assert all(m.training for m in net.modules())
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())


@pytest.mark.parametrize("knobs", [{}, {"mirrored": True, "attack": ATTACK, **BALL}], ids=["plain", "all"])
def test_outputs_survive_a_file_unchanged(knobs):
    outputs, file = outputs_for(**knobs), io.BytesIO()
    np.savez(file, **outputs.arrays())
    file.seek(0)
    again = ModelOutputs.of(dict(np.load(file)), pool().y.numpy())
    assert again.arrays().keys() == outputs.arrays().keys()
    for name, values in outputs.arrays().items():
        assert again.arrays()[name].dtype == values.dtype
        np.testing.assert_array_equal(again.arrays()[name], values)
    np.testing.assert_array_equal(again.phi, outputs.phi)


def test_outputs_of_another_pool_or_with_a_missing_array_are_rejected():
    arrays = outputs_for().arrays()
    with pytest.raises(ValueError, match="45 images, the pool has 44"):
        ModelOutputs.of(arrays, pool().y.numpy()[:44])
    for name in ("logits", "state", "recognised"):
        with pytest.raises(KeyError, match=name):
            ModelOutputs.of({k: v for k, v in arrays.items() if k != name}, pool().y.numpy())
