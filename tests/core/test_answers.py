"""What a network is asked for all images: each answer against the network itself, and pixels that are recognised."""

import functools
import io

import numpy as np
import pytest
import torch
from attack_contract import mlp, right
from torch import nn

from core import rng
from core.attacks.gradient import pgd
from core.audits.answers import ADVERSARIAL_STEPS, Answers, ask
from core.audits.scores import SCORES
from core.data import Images
from core.train import predict

torch.set_num_threads(1)

TRAINED, ASIDE = np.array([3, 17, 4, 30, 31, 32]), np.array([8, 9])
ATTACK = np.array([3, 5, 8, 20, 21, 40, 2])
BALL = {"epsilon": 0.06, "norm": "linf", "seed": 5}


@functools.cache
def pool(n=45):
    """Random images; 10 is the mirror image of 17, 11 a copy of 4, and 30 its own mirror image."""
    s = torch.Generator().manual_seed(0)
    x = torch.randint(256, (n, 1, 8, 8), generator=s, dtype=torch.uint8)
    x[10], x[11] = x[17].flip(2), x[4]
    x[30, :, :, 4:] = x[30, :, :, :4].flip(2)
    return Images(x, torch.randint(10, (n,), generator=s), 10)


@functools.cache
def net():
    return mlp(0, 10, (1, 8, 8))


def asked(**knobs):
    return ask(net(), pool(), TRAINED, ASIDE, **knobs)


def test_logits_are_the_networks_own_of_each_image_and_of_its_mirror_image():
    x = pool().x.float() / 255
    with torch.no_grad():
        plain, mirrored = net()(x).numpy(), net()(x.flip(3)).numpy()
    once, twice = asked(), asked(mirrored=True)
    assert (once.queries, twice.queries) == (1, 2) and once.logits.dtype == np.float32
    np.testing.assert_allclose(once.logits[:, 0], plain, atol=1e-6)
    np.testing.assert_allclose(twice.logits, np.stack([plain, mirrored], 1), atol=1e-6)
    assert np.abs(plain - mirrored).max() > 0.1


def test_states_say_who_was_trained_on_who_served_otherwise_and_who_not():
    state = asked().state
    assert set(np.flatnonzero(state == 1)) == set(TRAINED) and set(np.flatnonzero(state == 0)) == set(ASIDE)
    assert (state == -1).sum() == 45 - 8 and state.dtype == np.int8


def test_a_query_is_recognised_exactly_where_a_training_image_has_its_pixels():
    x = pool().x.numpy()
    expected = [[any(np.array_equal(query, x[t]) for t in TRAINED) for query in (image, image[..., ::-1])] for image in x]
    found = asked(mirrored=True).recognised
    assert np.array_equal(found, expected)
    assert found[11, 0] and found[10, 1] and found[30, 1] and not found[10, 0]
    assert np.array_equal(asked().recognised, found[:, :1])


def test_images_that_differ_in_one_pixel_by_one_are_told_apart():
    x = torch.full((64 * 64, 3, 8, 8), 128, dtype=torch.uint8)
    flat = x.flatten(1)
    rows = torch.arange(1, 64 * 64)
    flat[rows, rows % 192] += (1 + rows // 192).to(torch.uint8)
    images = Images(flat.view_as(x), torch.arange(64 * 64) % 10, 10)
    blind = ask(mlp(0, 10, (3, 8, 8)), images, np.array([0]), np.array([], int))
    assert blind.recognised.sum() == 1 and blind.recognised[0, 0]


@pytest.mark.parametrize("name", SCORES)
def test_scores_are_of_the_images_as_they_are(name):
    answers, rows = asked(mirrored=True), np.array([5, 0, 44])
    logits = torch.from_numpy(answers.logits[:, 0])
    assert np.array_equal(answers.score(name, rows), SCORES[name](logits, pool().y).numpy()[rows])


def test_phi_is_the_log_odds_of_the_label_query_by_query():
    answers = asked(mirrored=True, attack=ATTACK, **BALL)
    p = torch.from_numpy(answers.logits).double().softmax(2).numpy()[np.arange(45), :, pool().y.numpy()]
    np.testing.assert_allclose(answers.phi, np.log(p / (1 - p)), rtol=1e-9)
    p = torch.from_numpy(answers.adversarial).double().softmax(1).numpy()[np.arange(45), pool().y.numpy()]
    np.testing.assert_allclose(answers.adversarial_phi[:, 0], np.log(p / (1 - p)), rtol=1e-9)
    assert asked().adversarial_phi is None


# ---- adversarial images


def test_adversarial_answers_are_those_on_pgds_images_and_only_where_asked():
    found = asked(attack=ATTACK, **BALL).adversarial
    assert set(np.flatnonzero(np.isfinite(found).all(1))) == set(ATTACK)
    assert np.isnan(np.delete(found, ATTACK, 0)).all()
    x, y = pool().x[ATTACK].float() / 255, pool().y[ATTACK]
    noise = rng.per_image(5, "adversarial_query", ids=torch.from_numpy(ATTACK))
    moved = pgd(net(), x, y, epsilon=0.06, steps=ADVERSARIAL_STEPS, restarts=1, draw=noise)
    np.testing.assert_allclose(found[ATTACK], predict(net(), moved).numpy(), atol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_adversarial_images_are_less_like_their_label_and_within_the_ball(norm):
    seen = []
    inner = net()

    class Noted(nn.Module):
        def forward(self, x):
            seen.append(x.detach().clone())
            return inner(x)

    every = np.arange(45)
    epsilon = 0.06 if norm == "linf" else 0.4
    answers = ask(Noted(), pool(), TRAINED, ASIDE, attack=every, epsilon=epsilon, norm=norm)
    assert (answers.adversarial_phi < answers.phi).mean() > 0.95
    offset = (seen[-1] - pool().x.float() / 255).flatten(1)
    lengths = offset.abs().amax(1) if norm == "linf" else offset.norm(dim=1)
    assert lengths.max() <= epsilon + 1e-6 and lengths.median() > 0.9 * epsilon
    assert right(inner, seen[-1], pool().y).sum() <= right(inner, pool().x.float() / 255, pool().y).sum()


def test_an_adversarial_answer_depends_on_its_image_alone_and_on_the_seed():
    alone, together = asked(attack=np.array([20]), **BALL), asked(attack=ATTACK, **BALL)
    np.testing.assert_allclose(alone.adversarial[20], together.adversarial[20], atol=1e-5)
    other = asked(attack=ATTACK, **(BALL | {"seed": 6}))
    assert np.abs(other.adversarial - together.adversarial)[ATTACK].max() > 1e-4


# ---- how it is asked, and how answers are kept


@pytest.mark.parametrize("batch_size", [1, 4, 45])
def test_answers_do_not_depend_on_the_batches(batch_size):
    whole, parts = (asked(mirrored=True, attack=ATTACK, batch_size=size, **BALL).arrays() for size in (2048, batch_size))
    for name in whole:
        np.testing.assert_allclose(parts[name], whole[name], atol=1e-5)


def test_a_network_is_asked_in_evaluation_mode_and_handed_back_as_it_came():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shaky = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Dropout(0.5), nn.Linear(64, 10))
    state = {k: v.clone() for k, v in shaky.state_dict().items()}
    one, two = (ask(shaky, pool(), TRAINED, ASIDE, attack=ATTACK, **BALL) for _ in range(2))
    assert np.array_equal(one.logits, two.logits) and np.array_equal(one.adversarial[ATTACK], two.adversarial[ATTACK])
    assert all(m.training for m in shaky.modules())
    assert all(torch.equal(v, state[k]) for k, v in shaky.state_dict().items())


@pytest.mark.parametrize("knobs", [{}, {"mirrored": True, "attack": ATTACK, **BALL}], ids=["plain", "all"])
def test_answers_come_back_from_a_file_as_they_were(knobs):
    answers, file = asked(**knobs), io.BytesIO()
    np.savez(file, **answers.arrays())
    file.seek(0)
    again = Answers.of(dict(np.load(file)), pool().y.numpy())
    assert again.arrays().keys() == answers.arrays().keys()
    for name, values in answers.arrays().items():
        assert again.arrays()[name].dtype == values.dtype
        np.testing.assert_array_equal(again.arrays()[name], values)
    np.testing.assert_array_equal(again.phi, answers.phi)


def test_answers_of_another_pool_or_with_something_missing_are_refused():
    arrays = asked().arrays()
    with pytest.raises(ValueError, match="45 images, the pool has 44"):
        Answers.of(arrays, pool().y.numpy()[:44])
    for name in ("logits", "state", "recognised"):
        with pytest.raises(KeyError, match=name):
            Answers.of({k: v for k, v in arrays.items() if k != name}, pool().y.numpy())
