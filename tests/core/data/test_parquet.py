"""Data sets from parquet files: valid files are read as written, and each kind of invalid file or image is rejected by name."""

import io
import os
import struct
import zlib
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from parquet_sets import assert_rejected, encoded, noise, write
from PIL import Image
from shared_data import real

from core.data import load
from core.data.decode import decode
from core.errors import InputError

# -- valid files ------------------------------------------------------------------------------------------------------


def test_images_are_read_as_written_with_training_before_test_images(folder):
    images = load(f"parquet:{folder}")
    assert images.shape == (3, 6, 5) and images.classes == 2
    assert images.x.dtype == torch.uint8 and images.y.dtype == torch.int64
    assert np.array_equal(images.x.numpy(), noise(30).transpose(0, 3, 1, 2))
    assert images.y.tolist() == [i % 2 for i in range(20)] + [i % 2 for i in range(10)]


def test_the_column_may_be_named_image_with_grey_images_and_small_integer_labels(tmp_path):
    pixels = noise(20, (4, 4))
    for name, part in (("train", pixels[:10]), ("test", pixels[10:])):
        labels = pa.array([i % 2 for i in range(10)], pa.uint8())
        write(tmp_path / f"{name}.parquet", [encoded(p) for p in part], labels, column="image")
    images = load(f"parquet:{tmp_path}")
    assert np.array_equal(images.x.numpy(), pixels[:, None])
    assert images.y.dtype == torch.int64


def test_palette_and_transparent_images_are_read_as_rgb(tmp_path):
    pixels = noise(20, (4, 4), seed=3) // 64
    for name, part in (("train", pixels[:10]), ("test", pixels[10:])):
        images = []
        for i, p in enumerate(part):
            buffer = io.BytesIO()
            Image.fromarray(np.stack([p] * 3, 2)).convert("RGBA" if i % 2 else "P").save(buffer, "PNG")
            images.append(buffer.getvalue())
        write(tmp_path / f"{name}.parquet", images, [i % 2 for i in range(10)])
    assert load(f"parquet:{tmp_path}").shape == (3, 4, 4)


def test_a_smaller_pool_is_reproducible_and_stratified(folder):
    part, repeated = load(f"parquet:{folder}", pool=20), load(f"parquet:{folder}", pool=20)
    assert torch.equal(part.x, repeated.x)
    assert np.bincount(part.y).tolist() == [10, 10]
    full = load(f"parquet:{folder}")
    rows = [int(np.flatnonzero((full.x == image).flatten(1).all(1))[0]) for image in part.x]
    assert part.y.tolist() == full.y[rows].tolist()


@pytest.mark.parametrize("label, classes", [(0, 2), (2, 3)])
def test_a_file_may_have_one_class_if_the_pool_has_several(folder, label, classes):
    write(folder / "test.parquet", [encoded(p) for p in noise(10)], [label] * 10)
    assert load(f"parquet:{folder}").classes == classes


@pytest.mark.parametrize("name, shape", [("cifar10-jpeg", (3, 32, 32)), ("mnist", (1, 28, 28))])
def test_real_data_sets_load_from_parquet(name, shape):
    images = load(real(name), pool=200)
    assert images.shape == shape and images.classes == 10 and len(images.y) == 200
    assert images.x.float().std() > 20 and np.bincount(images.y).min() >= 10


# -- files and columns ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["train.parquet", "test.parquet"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    assert_rejected(folder, name, "parquet:DIR needs")


def test_a_missing_directory_is_named(tmp_path):
    assert_rejected(tmp_path / "nowhere", "nowhere")


@pytest.mark.parametrize("content", [b"", b"not parquet at all", b"PAR1" + b"\0" * 20 + b"PAR1"])
def test_a_corrupt_file_is_named(folder, content):
    (folder / "test.parquet").write_bytes(content)
    assert_rejected(folder, "cannot read", "test.parquet")


def test_a_truncated_file_is_named(folder):
    content = (folder / "train.parquet").read_bytes()
    (folder / "train.parquet").write_bytes(content[: len(content) // 2])
    assert_rejected(folder, "cannot read", "train.parquet")


def test_a_damaged_page_is_named(folder):
    content = bytearray((folder / "train.parquet").read_bytes())
    content[4:400] = b"\xff" * 396
    (folder / "train.parquet").write_bytes(bytes(content))
    assert_rejected(folder, "train.parquet")


@pytest.mark.parametrize(
    "table, text",
    [
        (lambda: {"pixels": pa.array([b"x"]), "label": pa.array([0])}, "has columns pixels, label; expected img"),
        (lambda: {"img": pa.array([{"bytes": b"x"}]), "fine_label": pa.array([0])}, "expected img"),
        (lambda: {"img": pa.array([b"x"]), "label": pa.array([0])}, "column img is binary, expected a struct"),
        (lambda: {"img": pa.array([{"path": "x"}]), "label": pa.array([0])}, "expected a struct with encoded images"),
        (lambda: {"img": pa.array([{"bytes": b"x"}]), "label": pa.array([0.5])}, "label is double"),
        (lambda: {"img": pa.array([{"bytes": b"x"}]), "label": pa.array(["cat"])}, "label is string"),
    ],
    ids=["no-image", "no-label", "bare-bytes", "no-bytes", "real-labels", "word-labels"],
)
def test_wrong_columns_are_named(folder, table, text):
    pq.write_table(pa.table(table()), folder / "train.parquet")
    assert_rejected(folder, "train.parquet", text)


def test_encoded_images_stored_as_text_are_rejected(folder):
    write(folder / "test.parquet", ["x"] * 10, [i % 2 for i in range(10)], kind=pa.string())
    assert_rejected(folder, "test.parquet")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 12345\n"


@pytest.mark.parametrize(
    "content, text",
    [
        (POINTER, "Git LFS pointer, not the data; run `git lfs pull`"),
        (b"", "the file is empty"),
        (b"<!DOCTYPE html><html>Sign in</html>", "a web page"),
        (b"\n <html><body>404</body></html>", "a web page"),
    ],
)
def test_a_file_that_is_something_else_is_recognised(folder, content, text):
    (folder / "test.parquet").write_bytes(content)
    assert_rejected(folder, f"cannot read {folder}/test.parquet", text)


def test_a_folder_in_place_of_a_file_and_a_file_in_place_of_the_folder_are_named(folder, tmp_path):
    assert_rejected(folder / "train.parquet", "train.parquet is a file; parquet:DIR needs DIR/train.parquet")
    (folder / "test.parquet").unlink()
    (folder / "test.parquet").mkdir()
    assert_rejected(folder, "cannot read", "test.parquet")


@pytest.mark.parametrize("name", ["validation.parquet", "val.parquet", "train-00000-of-00002.parquet", "data/dev.parquet"])
def test_other_parquet_files_of_the_folder_are_noted(folder, name):
    (folder / name).parent.mkdir(exist_ok=True)
    write(folder / name, [encoded(p) for p in noise(4)], [0, 1] * 2)
    images = load(f"parquet:{folder}")
    assert images.notes == (f"not used: {name} in {folder} (only train.parquet and test.parquet are read)",)
    assert len(images.y) == 30


def test_a_folder_with_the_two_files_alone_has_no_notes(folder):
    assert load(f"parquet:{folder}").notes == ()


def test_parts_of_a_missing_file_are_listed_with_the_remedy(folder):
    (folder / "data").mkdir()
    for i in range(7):
        write(folder / f"data/train-0000{i}-of-00007.parquet", [encoded(noise(1)[0])], [0])
    (folder / "train.parquet").unlink()
    listed = "data/train-00000-of-00007.parquet, data/train-00001-of-00007.parquet"
    assert_rejected(folder, "no file", "train.parquet", f"found {listed}", "(7 files): join the files of each part into one")


def test_a_file_that_may_not_be_read_is_named(folder, monkeypatch):
    if os.geteuid() == 0:
        pytest.skip("root may read every file")
    (folder / "train.parquet").chmod(0)
    assert_rejected(folder, "cannot read", "train.parquet", "Permission denied")


def test_a_page_that_is_damaged_is_named_when_images_are_read(folder):
    content = bytearray((folder / "train.parquet").read_bytes())
    content[4:60] = b"\xff" * 56  # the header of the first page; the footer and the labels are sound
    (folder / "train.parquet").write_bytes(content)
    assert_rejected(folder, "cannot read", "train.parquet")


# -- images -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape, size", [((5, 6, 3), "6x5 RGB"), ((6, 5), "5x6 grey")])
def test_an_image_of_another_size_or_mode_is_named_by_its_row(folder, shape, size):
    images = [encoded(p) for p in noise(9)] + [encoded(noise(1, shape)[0])]
    write(folder / "test.parquet", images, [i % 2 for i in range(10)])
    assert_rejected(folder, "test.parquet row 9", size, "the first one is 5x6 RGB")


@pytest.mark.parametrize(
    "bad", [b"", None, b"GIF89a", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, encoded(noise(1)[0])[:-40]],
    ids=["empty", "null", "gif-head", "png-head", "cut"],
)  # fmt: skip
def test_an_image_that_cannot_be_decoded_is_named_by_its_row(folder, bad):
    images = [encoded(p) for p in noise(10)]
    images[3] = bad
    write(folder / "test.parquet", images, [i % 2 for i in range(10)])
    assert_rejected(folder, "test.parquet row 3", "the image is missing (null)" if bad is None else "the image cannot be decoded")


def test_a_row_without_an_image_is_named(folder):
    images = [encoded(p) for p in noise(10)]
    images[4] = None
    image_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = pa.array([None if i is None else {"bytes": i, "path": None} for i in images], image_type)
    pq.write_table(pa.table({"img": rows, "label": pa.array([0, 1] * 5)}), folder / "test.parquet")
    assert_rejected(folder, "test.parquet row 4")


@pytest.mark.filterwarnings("ignore")  # from Pillow, about the damage
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP"])
def test_a_damaged_image_is_either_decoded_or_rejected(kind, capfd):
    original = encoded(noise(1, (8, 8, 3))[0], kind)
    stream = np.random.RandomState(0)
    rejections = 0
    for _ in range(150):
        damaged = bytearray(original)
        for place in stream.randint(0, min(len(original), 200), stream.randint(1, 5)):
            damaged[place] = stream.randint(256)
        try:
            assert decode(bytes(damaged), "f row 0", Counter()).dtype == np.uint8
        except InputError as error:
            assert "\n" not in str(error)
            rejections += 1
    assert rejections
    capfd.readouterr()  # discards the messages of libtiff


def tiff(offset_type: int) -> bytes:
    """An image of one grey pixel; the offset of its data is stored as the TIFF type with this number (4 is valid, 2 is text)."""
    entries = [(256, 4, 1), (257, 4, 1), (258, 4, 8), (259, 4, 1), (262, 4, 1), (273, offset_type, 8), (277, 4, 1),
               (278, 4, 1), (279, 4, 1)]  # fmt: skip
    table = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<I", 10) + b"\7\0" + struct.pack("<H", len(entries)) + table + b"\0" * 4


@pytest.mark.parametrize("offset_type", [4, 2], ids=["sound", "offset is text"])
def test_a_tiff_is_rejected_whether_valid_or_not(offset_type):
    with pytest.raises(InputError, match="f row 0: the image cannot be decoded"):
        decode(tiff(offset_type), "f row 0", Counter())


def test_16_bit_grey_images_are_rejected_instead_of_being_truncated():
    buffer = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000).save(buffer, "PNG")
    with pytest.raises(InputError, match="f row 3: image has mode I;16, expected 8 bits"):
        decode(buffer.getvalue(), "f row 3", Counter())


@pytest.mark.parametrize("width, height", [(1025, 1), (1, 1025)])
def test_an_image_that_is_too_large_is_named_by_its_row_before_it_is_decoded(folder, width, height):
    images = [encoded(p) for p in noise(10)]
    images[7] = encoded(np.zeros((height, width, 3), np.uint8))
    write(folder / "test.parquet", images, [i % 2 for i in range(10)])
    assert_rejected(folder, "test.parquet row 7", f"image is {width}x{height}, at most 1024 a side")


def test_a_decompression_bomb_is_rejected(folder):
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", 10**6, 10**6, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 99)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    images = [encoded(p) for p in noise(10)]
    images[2] = bomb
    write(folder / "test.parquet", images, [i % 2 for i in range(10)])
    assert_rejected(folder, "test.parquet row 2")


