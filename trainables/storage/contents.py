"""The contents of stored files: JSON, arrays and checkpoints, and the error of a file that is damaged."""

import io
import json
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import numpy as np

from core.errors import InputError, first_line
from trainables.storage.arrays import of_npz

Record = TypeVar("Record")


class Damaged(InputError):
    """A stored file is truncated or has another content than it should. The message is one line with its path."""

    what: str = ""
    """The message without what the user can do."""
    reason: str = ""
    """Reason in the message, without the path."""


def damaged(path: str, reason: str, fix: str = "") -> Damaged:
    """The error of a damaged file; `fix` is what the user can do."""
    what = f"{path} is damaged ({reason})"
    error = Damaged(f"{what}; {fix}" if fix else what)
    error.what, error.reason = what, reason
    return error


def record_of(data: bytes, path: str, parse: Callable[[Any], Record], fix: str = "") -> Record:
    """The record in a JSON file.

    Args:
        data: content of the file.
        path: its path, for the message.
        parse: converts plain data; it may raise the errors of wrong types and missing keys.
        fix: what the user can do if the file is damaged.

    Raises:
        Damaged: the content is not JSON, or `parse` does not accept it.
    """
    try:
        return parse(json.loads(data, parse_constant=_refuse_constant))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise damaged(path, f"not JSON: {error}" if data else "it is empty", fix) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        raise damaged(path, f"{kind}{first_line(error)}", fix) from None


def _refuse_constant(name: str) -> NoReturn:
    raise InputError(f"{name} is not a number")


def arrays_of(data: bytes, path: str, fix: str = "") -> dict[str, np.ndarray]:
    """The arrays in a .npz file; see `record_of`."""
    try:
        return of_npz(data)
    except ValueError as error:
        raise damaged(path, first_line(error) if data else "it is empty", fix) from None


def state_of(data: bytes, path: str, fix: str = "") -> dict:
    """The checkpoint in a .pt file, without executing code in it; see `record_of`."""
    import torch

    try:
        state = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except Exception:  # of many kinds; the message of some advises to execute the code in the file
        reason = "it is truncated, or is not a file of tensors and plain data" if data else "it is empty"
        raise damaged(path, reason, fix) from None
    if not isinstance(state, dict):
        raise damaged(path, f"expected a dict, got {type(state).__name__}", fix)
    return state
