"""Encoded images as pixels. What changes the pixels is either an error or counted, and then noted once per data set."""

import io
import warnings
from collections import Counter

import numpy as np

from core.data.files import mistaken
from core.errors import InputError, first_line

MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")  # modes with 8 bits per channel; 16-bit grey would be truncated
MAX_SIDE = 1024  # pixels; a small image file may decode to far more
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")  # decoded by Pillow itself; other formats may start external programs
ORIENTATION = 0x0112
"""EXIF tag of the orientation."""
TURNS = {
    2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90",
}  # fmt: skip
"""Operation of Pillow that puts an image upright, by EXIF orientation (Exif 2.32, 4.6.4; 1 is upright)."""
TURNED = "were turned or mirrored as their EXIF orientation says"
TRANSPARENT = "have transparent pixels, whose colours are used without the alpha channel"
CMYK = "are CMYK and were converted to RGB without a colour profile"
PROFILE = "have a colour profile other than sRGB, which was not applied"
FRAMES = "have several frames, of which only the first is used"


def decode(data: bytes | None, place: str, remarks: Counter[str]) -> np.ndarray:
    """Decode an image: uint8 [1, H, W] if it is grey, otherwise RGB, [3, H, W].

    Args:
        data: the encoded image.
        place: the place of the image, for messages.
        remarks: counts the images that were converted, by the text of the remark.

    Raises:
        InputError: the image is missing, damaged, too large, in an unsupported format, or has more than 8 bits per channel.
    """
    from PIL import Image, UnidentifiedImageError

    if data is None:
        raise InputError(f"{place}: the image is missing (null); write the encoded image itself into the file, not only its path")
    try:
        with warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning):
            warnings.filterwarnings("ignore", message="Palette images with Transparency")
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return _pixels(image, data, place, remarks)
    except InputError:
        raise
    except UnidentifiedImageError:
        found = mistaken(data) or f"its first bytes are {data[:8].hex(' ')}"
        formats = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise InputError(f"{place}: the image cannot be decoded (it is not a {formats} file: {found})") from None
    except Exception as error:  # decoders raise many kinds of errors on malformed files
        raise InputError(f"{place}: the image cannot be decoded ({first_line(error)})") from None


def _pixels(image, data: bytes, place: str, remarks: Counter[str]) -> np.ndarray:
    from PIL import Image

    if max(image.size) > MAX_SIDE:
        raise InputError(f"{place}: image is {image.size[0]}x{image.size[1]}, at most {MAX_SIDE} a side")
    if image.mode not in MODES:
        raise InputError(f"{place}: image has mode {image.mode}, expected 8 bits a channel: {', '.join(MODES)}")
    if image.format == "PNG" and data[24] == 16:  # Pillow would silently drop 8 of them
        raise InputError(f"{place}: image has 16 bits a channel, expected 8; convert it")
    found = {
        CMYK: image.mode == "CMYK",
        PROFILE: b"sRGB" not in image.info.get("icc_profile", b"sRGB").replace(b"\0", b""),  # the name may be in UTF-16
        TRANSPARENT: image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema()[0] < 255,
    }
    turn = TURNS.get(_orientation(image))
    colours = image if image.mode in ("L", "RGB") else image.convert("RGB")
    pixels = np.asarray(colours.transpose(Image.Transpose[turn]) if turn else colours)
    remarks.update(text for text, applies in (found | {TURNED: turn, FRAMES: _has_frames(image)}).items() if applies)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _orientation(image) -> int:
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # other programs also show an image whose EXIF data are damaged as it is stored
        return 1


def _has_frames(image) -> bool:
    try:
        return getattr(image, "n_frames", 1) > 1
    except Exception:  # a later frame is damaged
        return True
