"""Fingerprints of everything that determines a training, so that nothing is trained twice."""

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
from trainables.study.data_identity import DataIdentity


def images_fingerprint(images: Images) -> str:
    """Fingerprint of a pool's pixels and labels, in their order."""
    return DataIdentity.of(images).fingerprint


@functools.cache
def code_fingerprint() -> str:
    """Fingerprint of `core`, which contains all training and evaluation code, and of PyTorch's version.

    Comments, docstrings and layout do not count.
    """
    digest = hashlib.sha256(torch.__version__.encode())
    root = Path(core.__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\n{ast_fingerprint(path.read_text(encoding='utf-8'))}".encode())
    return digest.hexdigest()[:32]


def ast_fingerprint(source: str) -> str:
    """The syntax tree of a module as text, without the strings that only document."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            kept = [line for line in body if not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))]
            setattr(node, "body", kept)  # noqa: B010
    return ast.dump(tree)


def content_key(params: Mapping[str, Value], content: str) -> str:
    """The key of a training in the cache.

    Args:
        params: complete configuration in flat form.
        content: fingerprint of images and code; see `trainables.execution.resources.to_shared`.
    """
    return hashlib.sha256(json.dumps([content, sorted(params.items())]).encode()).hexdigest()[:32]
