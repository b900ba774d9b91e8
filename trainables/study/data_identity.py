"""The identity of a study's images, by which later commands recognise them."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from core.data import Images
from trainables.study.records import record

LENGTH = 32
"""Number of hexadecimal digits of a fingerprint."""


@dataclass(frozen=True, kw_only=True)
class DataIdentity:
    """The properties that identify a pool of images, wherever they are stored."""

    images: int
    """Number of images."""
    channels: int
    height: int
    width: int
    classes: int
    labels: str
    """Fingerprint of the labels, in their order."""
    pixels: str
    """Fingerprint of the pixels, in the order of the images."""
    test_images: int
    """Number of images of the test file, which are the last ones; 0 if there is no such file."""

    @classmethod
    def of(cls, images: Images) -> "DataIdentity":
        """The identity of a pool."""
        labels, pixels = (hashlib.sha256(t.contiguous().numpy().data).hexdigest()[:LENGTH] for t in (images.y, images.x))
        channels, height, width = images.shape
        shape = {"channels": channels, "height": height, "width": width}
        test_images = 0 if images.in_test_file is None else int(images.in_test_file.sum())
        return cls(
            images=len(images.y), **shape, classes=images.classes, labels=labels, pixels=pixels, test_images=test_images
        )  # fmt: skip

    @classmethod
    def of_json(cls, plain: Mapping[str, Any]) -> "DataIdentity":
        """Restore an identity from its fields.

        Raises:
            InputError: a field is missing, unknown or of another type.
        """
        return record(cls, plain)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the whole pool."""
        return hashlib.sha256(repr(sorted(asdict(self).items())).encode()).hexdigest()[:LENGTH]

    def differences(self, now: "DataIdentity") -> str:
        """Describe how another pool differs from this one; empty if it does not."""
        before, after = asdict(self), asdict(now)
        names = ("images", "channels", "height", "width", "classes", "test_images")
        changed = [name for name in names if before[name] != after[name]]
        counts = [f"{name.replace('_', ' ')}: {before[name]} then, {after[name]} now" for name in changed]
        if counts:
            return ", ".join(counts)
        return " and ".join(f"other {name}" for name in ("pixels", "labels") if before[name] != after[name])
