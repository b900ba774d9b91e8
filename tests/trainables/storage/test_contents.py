"""Damaged files: each is reported in one line with its path, and nothing in it is executed."""

import io
import json
import pickle
import warnings

import numpy as np
import pytest
import torch

from trainables.storage.arrays import to_npz
from trainables.storage.contents import Damaged, arrays_of, record_of, state_of


def pt(state: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


GOOD = {
    "json": (json.dumps({"a": [1, 2, 3], "b": "text"}).encode(), lambda data: record_of(data, "there/x", lambda plain: {**plain})),
    "npz": (to_npz({"rows": np.arange(100)}), lambda data: arrays_of(data, "there/x")),
    "pt": (pt({"net": {"w": torch.arange(1000)}}), lambda data: state_of(data, "there/x")),
}
"""Content of each kind of file, with the function that reads it."""
OTHER = {
    "json": [b"null", b"[]", b"7", b"NaN", b'{"a": Infinity}', b"\xff", b"[" * 100_000, b"\x00", b"9" * 5000],
    "npz": [pickle.dumps({}), to_npz({"x": np.array([print], dtype=object)})],
    "pt": [pickle.dumps({"a": 1}), pt([1, 2]), pt(torch.zeros(3)), pt({"f": print}), b"PK\x03\x04", b"text"],
}
"""Other content than there should be."""


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_truncated_file_is_reported_in_one_line_with_its_path(kind, share):
    data, read = GOOD[kind]
    assert read(data)
    check(lambda: read(data[: int(share * len(data))]))


@pytest.mark.parametrize("kind, index", [(kind, i) for kind in OTHER for i in range(len(OTHER[kind]))])
def test_a_file_with_other_content_is_reported_in_one_line_with_its_path(kind, index):
    check(lambda: GOOD[kind][1](OTHER[kind][index]))


def check(read) -> None:
    """Assert that reading raises `Damaged` with one line, without advice to execute the file."""
    with warnings.catch_warnings(), pytest.raises(Damaged) as error_info:
        warnings.simplefilter("ignore")
        read()
    message = str(error_info.value)
    assert message.startswith("there/x is damaged (") and "\n" not in message and len(message) < 200, message
    assert "weights_only" not in message and "pickle" not in message, message


def test_what_the_user_can_do_follows_the_reason():
    with pytest.raises(Damaged) as error_info:
        record_of(b"{", "x.json", dict, "delete it")
    message, what = str(error_info.value), error_info.value.what
    assert message == f"{what}; delete it" and what.startswith("x.json is damaged (not JSON: ")
