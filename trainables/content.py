"""What decides a training's numbers, as one short name: so that nothing is trained twice."""

import ast
import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch

import core
from core.data import Images
from core.space import Value


def of_images(images: Images) -> str:
    """Of a pool's pixels and labels, in their order."""
    digest = hashlib.sha256(repr((tuple(images.x.shape), images.classes)).encode())
    for tensor in (images.x, images.y):
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()[:32]


@functools.cache
def of_code() -> str:
    """Of `core`, which is all that training and judging are made of, and of PyTorch's version. Comments, docstrings and layout
    do not count."""
    digest = hashlib.sha256(torch.__version__.encode())
    root = Path(core.__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\n{meaning(path.read_text(encoding='utf-8'))}".encode())
    return digest.hexdigest()[:32]


def meaning(source: str) -> str:
    """A module's syntax without the strings that only document."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            kept = [line for line in body if not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))]
            setattr(node, "body", kept)  # noqa: B010
    return ast.dump(tree)


def key(params: Mapping[str, Value], content: str) -> str:
    """The name of a training.

    Args:
        params: the whole flat configuration. content: of the images and the code, as `trainables.trial.pack` has it.
    """
    return hashlib.sha256(json.dumps([content, sorted(params.items())]).encode()).hexdigest()[:32]
