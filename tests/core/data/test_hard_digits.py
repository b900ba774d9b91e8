"""The digits that are made harder: what they are made from, that they are always the same, and their geometry."""

import hashlib

import numpy as np

from core import data
from core.data.hard_digits import _transformed


def test_every_digit_is_there_twice_with_its_label_and_no_two_images_are_the_same():
    hard, digits = data.load("hard_digits"), data.load("digits")
    assert hard.x.shape == (3594, 1, 8, 8) and hard.classes == 10 and len(hard.ids.unique()) == 3594
    assert hard.y.tolist() == digits.y.tolist() * 2
    assert not set(hard.ids.tolist()) & set(digits.ids.tolist())


def test_the_images_are_the_same_on_every_machine():
    digest = hashlib.sha256(data.load("hard_digits").x.numpy().tobytes()).hexdigest()
    assert digest[:32] == "8013a276d0d6677dc7beff68d59d5558"


def test_contrast_and_noise_are_within_their_bounds():
    x = data.load("hard_digits").x[:, 0].numpy() / 255
    assert x.max() <= 1 and x.min() == 0
    brightest = x.max((1, 2))
    assert 0.5 < brightest.min() < 0.7 / 1.15 + 0.15  # a thin stroke between two pixels is fainter than its contrast
    assert 0.04 < np.median(x.min((1, 2)) + 0.15 / 1.15 / 2) < 0.08  # the darkest of 64 pixels has little noise


def test_a_quarter_turn_a_shift_and_a_scale_move_pixels_to_their_places():
    x = np.zeros((1, 8, 8))
    x[0, 1, 2] = 1.0
    none, one = np.zeros(1), np.ones(1)
    np.testing.assert_allclose(_transformed(x, none, one, np.zeros((1, 2))), x, atol=1e-12)
    shifted = _transformed(x, none, one, np.array([[2.0, 1.0]]))
    assert np.argwhere(shifted[0] > 0.99).tolist() == [[3, 3]] and shifted.sum() == 1
    np.testing.assert_allclose(_transformed(x, np.array([np.pi / 2]), one, np.zeros((1, 2)))[0], np.rot90(x[0], -1), atol=1e-9)
    halfway = _transformed(x, none, one, np.array([[0.5, 0.0]]))[0]
    assert np.argwhere(halfway > 0).tolist() == [[1, 2], [2, 2]] and np.allclose(halfway[halfway > 0], 0.5)
    square = np.zeros((1, 8, 8))
    square[0, 3:5, 3:5] = 1.0
    assert np.argwhere(_transformed(square, none, 2 * one, np.zeros((1, 2)))[0] > 0.74).tolist() == [
        [row, column] for row in range(2, 6) for column in range(2, 6) if (row in (3, 4)) or (column in (3, 4))
    ]


def test_what_lies_outside_of_an_image_is_black():
    white = np.ones((1, 8, 8))
    shifted = _transformed(white, np.zeros(1), np.ones(1), np.array([[3.0, 0.0]]))[0]
    assert (shifted[:2] == 0).all() and (shifted[3:] == 1).all()
