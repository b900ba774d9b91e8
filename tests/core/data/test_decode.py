"""Decoded images: EXIF orientation against pictures that are turned by hand, and every silent change of pixels is noted."""

import io
from collections import Counter

import numpy as np
import pytest

from core.data import decode as decoding
from core.data.decode import decode
from core.data.files import LFS_MARKER
from core.errors import InputError

Image = pytest.importorskip("PIL.Image")
ImageOps = pytest.importorskip("PIL.ImageOps")

AS_STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),  # row 0 of the file is the right-hand side: the camera was held clockwise
    7: lambda upright: np.rot90(upright, 2).swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}
"""Pixels of the file by EXIF orientation, given those of the upright picture (Exif 2.32, 4.6.4: where row 0 and column 0 are)."""


def saved(pixels: np.ndarray, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, kind, **options)
    return buffer.getvalue()


def picture(shape, seed=0) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, shape).astype(np.uint8)


def exif(orientation: int) -> bytes:
    data = Image.Exif()
    data[0x0112] = orientation
    return data.tobytes()


def decoded(data: bytes | None) -> tuple[np.ndarray, list[str]]:
    """The pixels of an image as [H, W] or [H, W, C], and the remarks on it."""
    remarks = Counter()
    pixels = decode(data, "f row 0", remarks)
    assert set(remarks.values()) <= {1}
    return pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0), list(remarks)


def assert_rejected(data: bytes | None, *texts: str) -> None:
    with pytest.raises(InputError) as caught:
        decode(data, "f row 7", Counter())
    message = str(caught.value)
    assert message.startswith("f row 7: ") and "\n" not in message and "0x" not in message
    for text in texts:
        assert text in message, message


# -- orientation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6, 6, 3), (4, 7, 3), (5, 5), (3, 8)], ids=str)
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_upright_for_every_exif_orientation(orientation, kind, shape):
    if kind == "WEBP" and len(shape) == 2:
        pytest.skip("WEBP has no grey images")
    upright = picture(shape)
    options = {"lossless": True} if kind == "WEBP" else {}
    data = saved(AS_STORED[orientation](upright), kind, exif=exif(orientation), **options)
    pixels, remarks = decoded(data)
    assert np.array_equal(pixels, upright)
    assert remarks == ([] if orientation == 1 else [decoding.TURNED])
    assert np.array_equal(pixels, np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("more", [False, True], ids=["JPEG", "MPO"])
def test_a_photograph_is_upright_for_every_exif_orientation(orientation, more):
    stored = picture((8, 16, 3))
    options = {"save_all": True, "append_images": [Image.fromarray(stored)]} if more else {}
    data = saved(stored, "MPO" if more else "JPEG", exif=exif(orientation), **options)
    pixels, remarks = decoded(data)
    assert np.array_equal(pixels, np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))))
    assert pixels.shape == ((8, 16, 3) if orientation < 5 else (16, 8, 3))
    assert (decoding.TURNED in remarks) == (orientation > 1) and (decoding.FRAMES in remarks) == more


@pytest.mark.parametrize("bad", [exif(0), exif(9), b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b""])
def test_an_image_with_an_invalid_orientation_is_used_as_stored(bad):
    stored = picture((4, 7, 3))
    assert decoded(saved(stored, exif=bad)) == (pytest.approx(stored), [])


# -- other changes of pixels --------------------------------------------------------------------------------------------


def test_plain_images_have_no_remarks():
    for kind, shape in (("PNG", (4, 5, 3)), ("PNG", (4, 5)), ("BMP", (4, 5, 3)), ("WEBP", (4, 5, 3)), ("JPEG", (4, 5, 3))):
        assert decoded(saved(picture(shape), kind))[1] == []


@pytest.mark.parametrize("channels", [2, 4], ids=["LA", "RGBA"])
def test_transparent_pixels_are_noted_and_opaque_ones_are_not(channels):
    pixels = picture((4, 5, channels))
    pixels[..., -1] = 255
    expected = pixels[..., :3] if channels == 4 else np.repeat(pixels[..., :1], 3, 2)
    assert decoded(saved(pixels)) == (pytest.approx(expected), [])
    pixels[2, 3, -1] = 254
    assert decoded(saved(pixels)) == (pytest.approx(expected), [decoding.TRANSPARENT])


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
@pytest.mark.filterwarnings("error")
def test_a_transparent_colour_is_noted_if_a_pixel_has_it(mode):
    stored = Image.fromarray(np.arange(20, dtype=np.uint8).reshape(4, 5)).convert(mode)
    used, unused = ((3, 200) if mode != "RGB" else ((3, 3, 3), (200, 0, 0)))
    for colour, remarks in ((used, [decoding.TRANSPARENT]), (unused, [])):
        buffer = io.BytesIO()
        stored.save(buffer, "PNG", transparency=colour)
        pixels, found = decoded(buffer.getvalue())
        assert found == remarks
        assert np.array_equal(pixels, np.asarray(stored if mode == "L" else stored.convert("RGB")))


def test_a_palette_with_an_alpha_value_per_colour_is_noted():
    buffer = io.BytesIO()
    Image.fromarray(np.arange(20, dtype=np.uint8).reshape(4, 5)).convert("P").save(buffer, "PNG", transparency=bytes([255, 7]))
    assert decoded(buffer.getvalue())[1] == [decoding.TRANSPARENT]


def test_cmyk_images_are_noted():
    buffer = io.BytesIO()
    Image.fromarray(picture((8, 8, 4)), "CMYK").save(buffer, "JPEG")
    pixels, remarks = decoded(buffer.getvalue())
    assert pixels.shape == (8, 8, 3) and remarks == [decoding.CMYK]


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_the_first_frame_of_an_animation_is_used_and_noted(kind):
    frames = [Image.fromarray(np.full((4, 5, 3), grey, np.uint8)) for grey in (0, 255, 128)]
    buffer = io.BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:], **({"lossless": True} if kind == "WEBP" else {}))
    pixels, remarks = decoded(buffer.getvalue())
    assert (pixels == 0).all() and remarks == [decoding.FRAMES]


def test_a_colour_profile_is_noted_unless_it_is_srgb():
    cms = pytest.importorskip("PIL.ImageCms")
    for name, remarks in (("sRGB", []), ("LAB", [decoding.PROFILE])):
        profile = cms.ImageCmsProfile(cms.createProfile(name)).tobytes()
        assert decoded(saved(picture((4, 5, 3)), icc_profile=profile))[1] == remarks


def test_remarks_are_counted_over_images():
    remarks = Counter()
    for orientation in (1, 3, 3, 2):
        decode(saved(picture((4, 4, 3)), exif=exif(orientation)), "f", remarks)
    assert remarks == {decoding.TURNED: 3}


def png_16_bit_rgb() -> bytes:
    import struct
    import zlib

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    rows = b"".join(b"\0" + bytes(range(12)) for _ in range(2))  # two pixels of 3 channels of 2 bytes
    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_16_bit_colour_is_rejected_although_pillow_reads_it_as_8_bit():
    data = png_16_bit_rgb()
    assert Image.open(io.BytesIO(data)).mode == "RGB"
    assert_rejected(data, "16 bits a channel, expected 8")


# -- messages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data, text",
    [
        (None, "the image is missing (null)"),
        (b"", "the file is empty"),
        (LFS_MARKER + b"v1\noid sha256:0\n", "Git LFS pointer, not the data; run `git lfs pull`"),
        (b"<html>", "a web page"),
        (b"II*\0\x08\0\0\0", "its first bytes are 49 49 2a 00"),
    ],
)
def test_content_that_is_no_image_is_named_with_the_supported_formats(data, text):
    assert_rejected(data, text, *(() if data is None else ("PNG, JPEG, WEBP, BMP or GIF",)))
