"""Messages of errors: suggestions for unknown names, first lines, and credentials that are removed."""

import io

import pytest

from core.errors import first_line, unknown
from core.redaction import redacted


def test_an_unknown_name_is_reported_with_the_most_similar_one_and_all_known_ones():
    assert str(unknown("loss", "crll", ["crl", "dmp"])) == "unknown loss 'crll' (did you mean 'crl'?), expected one of: crl, dmp"
    assert str(unknown("loss", "xyz", iter(["crl", "dmp"]))) == "unknown loss 'xyz', expected one of: crl, dmp"


@pytest.mark.parametrize(
    "error, line",
    [(OSError("\n no such file \nmore"), "no such file "), (OSError(" \n"), "OSError"), (ValueError(), "ValueError")],
    ids=["several-lines", "blank", "empty"],
)
def test_the_first_line_of_an_error_is_that_of_its_message_or_the_name_of_its_type(error, line):
    assert first_line(error) == line


@pytest.mark.parametrize(
    "text, expected",
    [
        ("postgresql://user:secret@host/db failed", "postgresql://***@host/db failed"),
        ("https://user:with/slash@host/path", "https://***@host/path"),
        ("https://host/path?Password=abc&x=1 token=def", "https://host/path?Password=***&x=1 token=***"),
        ("https://host/path", "https://host/path"),
    ],
    ids=["user", "slash", "query", "public"],
)
def test_credentials_are_removed(text, expected):
    assert redacted(text) == expected


def test_a_message_has_no_addresses_of_objects():
    error = ValueError(f"cannot identify image file {io.BytesIO()!r} of {object()!r}\nmore")
    assert first_line(error) == "cannot identify image file _io.BytesIO of object"
