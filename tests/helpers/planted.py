"""Searching everything that a study leaves behind for a secret that was planted."""

import base64
import io
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote


def forms(secret: str) -> list[bytes]:
    """The forms in which a secret may have been stored: raw, percent-encoded, hexadecimal, and base64 at any alignment."""
    raw = secret.encode()
    encoded = [raw, quote(secret, safe="").encode(), quote(secret).encode(), raw.hex().encode()]
    for padding in range(3):
        text = base64.b64encode(b"x" * padding + raw)
        encoded.append(text[4 if padding else 0 : -4].rstrip(b"="))  # without the groups that also contain other bytes
    return list(dict.fromkeys(encoded))


def contents(data: bytes) -> Iterator[bytes]:
    """Some data, and what is compressed in it: the members of a zip file, or a gzip stream."""
    yield data
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                yield archive.read(name)
    if data[:2] == b"\x1f\x8b":
        yield zlib.decompressobj(wbits=31).decompress(data)


def files_below(*folders: Path) -> dict[str, bytes]:
    """The contents of all files in folders and below."""
    found = {}
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                found[str(path)] = path.read_bytes()
    return found


def places(secrets: Iterable[str], data: Mapping[str, bytes]) -> list[tuple[str, str]]:
    """The secrets that are found, and the names of the data that contain them."""
    wanted = {secret: forms(secret) for secret in secrets}
    return [
        (secret, name) for name, content in data.items() for secret, encoded in wanted.items()
        if any(form in part for part in contents(content) for form in encoded)
    ]  # fmt: skip
