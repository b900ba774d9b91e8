"""Files that contain something else than their name says."""

import contextlib
from collections.abc import Iterable
from pathlib import Path

LFS_MARKER = b"version https://git-lfs.github.com/spec/"
"""First bytes of a pointer file (git-lfs, docs/spec.md)."""
MAX_POINTER = 1024
"""Size that a pointer file is below, in bytes."""


def mistaken(start: bytes) -> str:
    """Recognise from its first bytes what a file is instead of data, with the remedy; empty if it is not recognised."""
    if not start:
        return "the file is empty; download it again"
    if start.startswith(LFS_MARKER):
        return "it is a Git LFS pointer, not the data; run `git lfs pull` in its repository"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page, probably of a failed download or a login; download the raw file again"
    return ""


def pointer_in(paths: Iterable[Path]) -> str:
    """A clause about the first Git LFS pointer among some paths; empty if there is none."""
    for path in sorted(paths):
        with contextlib.suppress(OSError):  # unreadable files are reported by the reader of the data set
            if path.is_file() and path.stat().st_size < MAX_POINTER and (start := path.read_bytes()).startswith(LFS_MARKER):
                return f"{path}: {mistaken(start)}"
    return ""
