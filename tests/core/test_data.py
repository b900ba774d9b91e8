"""Splits by their definition and against scikit-learn; parquet files that are right, and every way to be wrong."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from offline import nothing_can_be_downloaded
from shared_data import real

from core import data
from core.data import Images, load, split
from core.errors import InputError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
Image = pytest.importorskip("PIL.Image")

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("members", "val", "test", "shadow")


def pool(labels) -> Images:
    y = torch.as_tensor(np.asarray(labels), dtype=torch.int64)
    return Images(torch.zeros(len(y), 1, 2, 2, dtype=torch.uint8), y, int(y.max()) + 1)


def uneven(seed=0, sizes=(41, 8, 29, 104, 13)) -> Images:
    return pool(np.random.RandomState(seed).permutation(np.repeat(np.arange(len(sizes)), sizes)))


@st.composite
def pools(draw):
    sizes = draw(st.lists(st.integers(8, 40), min_size=2, max_size=6))
    return uneven(draw(st.integers(0, 99)), sizes)


# -- splits -----------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(pools(), st.sampled_from(["stratified", "paper"]), st.integers(0, 3))
def test_parts_are_disjoint_and_cover_the_pool(images, protocol, replicate):
    parts = split(images, protocol, replicate)
    together = np.concatenate([getattr(parts, name) for name in PARTS])
    assert sorted(together.tolist()) == list(range(len(images.y)))


@settings(deadline=None)
@given(pools(), st.integers(0, 3))
def test_parts_have_the_designed_sizes(images, replicate):
    n, parts = len(images.y), split(images, replicate=replicate)
    target = n - len(parts.shadow)
    assert abs(len(parts.shadow) - n / 2) <= 0.5
    assert abs(len(parts.members) - target / 2) <= 0.5
    assert abs(len(parts.val) - len(parts.test)) <= 1


@settings(deadline=None)
@given(pools(), st.integers(0, 3))
def test_every_class_is_shared_out_to_one_image(images, replicate):
    y, parts = images.y.numpy(), split(images, replicate=replicate)
    counts = {name: np.bincount(y[getattr(parts, name)], minlength=images.classes) for name in PARTS}
    assert np.abs(counts["shadow"] - np.bincount(y) / 2).max() < 1
    if replicate:
        opened = counts["members"] + counts["val"]
        assert np.abs(counts["members"] - opened * len(parts.members) / opened.sum()).max() < 1
    else:
        assert np.abs(counts["members"] - (np.bincount(y) - counts["shadow"]) / 2).max() < 1
        assert np.abs(counts["val"] - counts["test"]).max() <= 1
    assert all((count > 0).all() for count in counts.values())


@pytest.mark.parametrize("protocol", ["stratified", "paper"])
def test_no_replicate_ever_trains_on_test_or_shadow_images(protocol):
    images = uneven()
    first = split(images, protocol)
    drawn = set()
    for replicate in range(1, 6):
        parts = split(images, protocol, replicate)
        assert np.array_equal(parts.test, first.test)
        assert np.array_equal(parts.shadow, first.shadow)
        assert len(parts.members) == len(first.members)
        opened = set(first.members) | set(first.val)
        assert set(parts.members) | set(parts.val) == opened
        drawn.add(frozenset(parts.members))
    assert len(drawn | {frozenset(first.members)}) == 6  # and each one draws others


def test_a_split_depends_on_nothing_but_the_labels():
    images = uneven()
    first = split(images)
    torch.manual_seed(1)
    np.random.seed(1)
    again = split(Images(images.x + 1, images.y.clone(), images.classes))
    assert all(np.array_equal(getattr(first, name), getattr(again, name)) for name in PARTS)


@pytest.mark.parametrize("n", [200, 201, 202, 203])
def test_the_paper_split_is_scikit_learns_twice(n):
    selection = pytest.importorskip("sklearn.model_selection")
    images = pool(np.random.RandomState(1).permutation(np.arange(n) % 5))
    target, shadow = selection.train_test_split(np.arange(n), test_size=0.5, random_state=0)
    members, others = selection.train_test_split(target, test_size=0.5, random_state=0)
    parts = split(images, "paper")
    assert np.array_equal(parts.members, members)
    assert np.array_equal(parts.shadow, shadow)
    assert sorted(np.concatenate([parts.val, parts.test])) == sorted(others)


def test_judged_names_the_non_members():
    parts = split(uneven())
    assert np.array_equal(parts.judged("val"), parts.val)
    assert np.array_equal(parts.judged("test"), parts.test)
    assert sorted(parts.judged("both")) == sorted([*parts.val, *parts.test])


# -- named data sets --------------------------------------------------------------------------------------------------


def test_digits_are_the_real_ones_as_bytes():
    raw = pytest.importorskip("sklearn.datasets").load_digits()
    images = load("digits")
    assert images.x.dtype == torch.uint8 and images.y.dtype == torch.int64
    assert images.shape == (1, 8, 8) and images.classes == 10 and len(images.y) == 1797
    assert (images.x.min(), images.x.max()) == (0, 255)
    assert np.array_equal(images.y.numpy(), raw.target)
    assert np.abs(images.x[:, 0].numpy() / 255 - raw.images / 16).max() <= 0.5 / 255 + 1e-9


def test_a_smaller_pool_is_the_same_every_time_and_even_over_classes():
    whole, part = load("digits"), load("digits", pool=300)
    again = load("digits", pool=300)
    assert torch.equal(part.x, again.x) and torch.equal(part.y, again.y)
    assert len(part.y) == 300
    share = np.bincount(whole.y) * 300 / 1797
    assert np.abs(np.bincount(part.y) - share).max() < 1
    assert len({image.numpy().tobytes() for image in part.x} - {image.numpy().tobytes() for image in whole.x}) == 0


def test_images_and_labels_stay_together_in_a_smaller_pool():
    whole, part = load("digits"), load("digits", pool=80)
    labels = {image.numpy().tobytes(): int(label) for image, label in zip(whole.x, whole.y, strict=True)}
    assert [labels[image.numpy().tobytes()] for image in part.x] == part.y.tolist()


@pytest.mark.parametrize("size, text", [(2000, "more than the 1797 images"), (79, "at least 8 images for each of 10")])
def test_a_pool_that_cannot_be_drawn_is_refused(size, text):
    with pytest.raises(InputError, match=text):
        load("digits", pool=size)


def test_an_unknown_data_set_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match=r"did you mean 'cifar10'.*parquet:DIR"):
        load("cifar_10")


@pytest.mark.parametrize("name, epsilon", [("cifar10", 8 / 255), ("mnist", 0.3), ("parquet:mine", 8 / 255)])
def test_usual_epsilon_is_the_fields(name, epsilon):
    assert data.usual_epsilon(name) == epsilon


# -- parquet ----------------------------------------------------------------------------------------------------------


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def noise(n: int, shape=(6, 5, 3), seed=0) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, (n, *shape)).astype(np.uint8)


def write(path: Path, images, labels, *, column="img", kind=None) -> None:
    struct = pa.struct([("bytes", kind or pa.binary()), ("path", pa.string())])
    rows = [None if image is None else {"bytes": image, "path": None} for image in images]
    labels = labels if isinstance(labels, pa.Array) else pa.array(labels, pa.int64())
    pq.write_table(pa.table({column: pa.array(rows, struct), "label": labels}), path)


@pytest.fixture
def folder(tmp_path):
    """A legal data set: 20 train and 10 test images of two classes, 5 wide and 6 high."""
    pixels = noise(30)
    write(tmp_path / "train.parquet", [encoded(p) for p in pixels[:20]], [i % 2 for i in range(20)])
    write(tmp_path / "test.parquet", [encoded(p) for p in pixels[20:]], [i % 2 for i in range(10)])
    return tmp_path


def refused(folder: Path, *texts: str, **options) -> None:
    with pytest.raises(InputError) as caught:
        load(f"parquet:{folder}", **options)
    message = str(caught.value)
    assert "\n" not in message
    for text in texts:
        assert text in message, message


def test_parquet_images_come_back_as_written_train_before_test(folder):
    images = load(f"parquet:{folder}")
    assert images.shape == (3, 6, 5) and images.classes == 2
    assert images.x.dtype == torch.uint8 and images.y.dtype == torch.int64
    assert np.array_equal(images.x.numpy(), noise(30).transpose(0, 3, 1, 2))
    assert images.y.tolist() == [i % 2 for i in range(20)] + [i % 2 for i in range(10)]


def test_parquet_takes_the_column_name_image_grey_images_and_small_labels(tmp_path):
    pixels = noise(20, (4, 4))
    for name, part in (("train", pixels[:10]), ("test", pixels[10:])):
        labels = pa.array([i % 2 for i in range(10)], pa.uint8())
        write(tmp_path / f"{name}.parquet", [encoded(p) for p in part], labels, column="image")
    images = load(f"parquet:{tmp_path}")
    assert np.array_equal(images.x.numpy(), pixels[:, None])
    assert images.y.dtype == torch.int64


def test_parquet_reads_palette_and_transparent_images_as_rgb(tmp_path):
    pixels = noise(20, (4, 4), seed=3) // 64
    for name, part in (("train", pixels[:10]), ("test", pixels[10:])):
        images = []
        for i, p in enumerate(part):
            buffer = io.BytesIO()
            Image.fromarray(np.stack([p] * 3, 2)).convert("RGBA" if i % 2 else "P").save(buffer, "PNG")
            images.append(buffer.getvalue())
        write(tmp_path / f"{name}.parquet", images, [i % 2 for i in range(10)])
    assert load(f"parquet:{tmp_path}").shape == (3, 4, 4)


def test_parquet_pool_decodes_the_same_rows_every_time(folder):
    part, again = load(f"parquet:{folder}", pool=20), load(f"parquet:{folder}", pool=20)
    assert torch.equal(part.x, again.x)
    assert np.bincount(part.y).tolist() == [10, 10]
    whole = load(f"parquet:{folder}")
    rows = [int(np.flatnonzero((whole.x == image).flatten(1).all(1))[0]) for image in part.x]
    assert part.y.tolist() == whole.y[rows].tolist()


@pytest.mark.parametrize("name", ["train.parquet", "test.parquet"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    refused(folder, name, "parquet:DIR needs")


def test_a_missing_directory_is_named(tmp_path):
    refused(tmp_path / "nowhere", "nowhere")


@pytest.mark.parametrize("content", [b"", b"not parquet at all", b"PAR1" + b"\0" * 20 + b"PAR1"])
def test_a_corrupt_file_is_named(folder, content):
    (folder / "test.parquet").write_bytes(content)
    refused(folder, "cannot read", "test.parquet")


def test_a_truncated_file_is_named(folder):
    whole = (folder / "train.parquet").read_bytes()
    (folder / "train.parquet").write_bytes(whole[: len(whole) // 2])
    refused(folder, "cannot read", "train.parquet")


def test_a_damaged_page_is_named(folder):
    whole = bytearray((folder / "train.parquet").read_bytes())
    whole[4:400] = b"\xff" * 396
    (folder / "train.parquet").write_bytes(bytes(whole))
    refused(folder, "train.parquet")


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
    refused(folder, "train.parquet", text)


def test_encoded_images_stored_as_text_are_refused(folder):
    write(folder / "test.parquet", ["x"] * 10, [i % 2 for i in range(10)], kind=pa.string())
    refused(folder, "test.parquet")


@pytest.mark.parametrize("shape, size", [((5, 6, 3), "6x5 RGB"), ((6, 5), "5x6 grey")])
def test_an_image_of_another_size_or_mode_is_named_by_its_row(folder, shape, size):
    images = [encoded(p) for p in noise(9)] + [encoded(noise(1, shape)[0])]
    write(folder / "test.parquet", images, [i % 2 for i in range(10)])
    refused(folder, "test.parquet row 9", size, "the first one is 5x6 RGB")


@pytest.mark.parametrize(
    "bad", [b"", None, b"GIF89a", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, encoded(noise(1)[0])[:-40]],
    ids=["empty", "null", "gif-head", "png-head", "cut"],
)  # fmt: skip
def test_an_image_that_cannot_be_decoded_is_named_by_its_row(folder, bad):
    images = [encoded(p) for p in noise(10)]
    images[3] = bad
    write(folder / "test.parquet", images, [i % 2 for i in range(10)])
    refused(folder, "test.parquet row 3", "not an image that can be read")


def test_a_row_without_an_image_is_named(folder):
    images = [encoded(p) for p in noise(10)]
    images[4] = None
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = pa.array([None if i is None else {"bytes": i, "path": None} for i in images], struct)
    pq.write_table(pa.table({"img": rows, "label": pa.array([0, 1] * 5)}), folder / "test.parquet")
    refused(folder, "test.parquet row 4")


@pytest.mark.filterwarnings("ignore")  # Pillow's, about the damage
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP"])
def test_a_damaged_image_is_decoded_or_refused_and_nothing_else(kind, capfd):
    whole = encoded(noise(1, (8, 8, 3))[0], kind)
    stream = np.random.RandomState(0)
    refusals = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for place in stream.randint(0, min(len(whole), 200), stream.randint(1, 5)):
            damaged[place] = stream.randint(256)
        try:
            assert data._decode(bytes(damaged), Path("f"), 0).dtype == np.uint8
        except InputError as error:
            assert "\n" not in str(error)
            refusals += 1
    assert refusals
    capfd.readouterr()  # libtiff complains on its own


def tiff(offset_type: int) -> bytes:
    """One grey pixel; the place of its data is written as the TIFF type with this number (4 is right, 2 is text)."""
    import struct

    entries = [(256, 4, 1), (257, 4, 1), (258, 4, 8), (259, 4, 1), (262, 4, 1), (273, offset_type, 8), (277, 4, 1),
               (278, 4, 1), (279, 4, 1)]  # fmt: skip
    table = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<I", 10) + b"\7\0" + struct.pack("<H", len(entries)) + table + b"\0" * 4


@pytest.mark.parametrize("offset_type", [4, 2], ids=["sound", "offset is text"])
def test_a_tiff_is_refused_sound_or_not(offset_type):
    with pytest.raises(InputError, match="f row 0: not an image that can be read"):
        data._decode(tiff(offset_type), Path("f"), 0)


@pytest.mark.parametrize("width, height", [(1025, 1), (1, 1025)])
def test_a_too_large_image_is_named_by_its_row_before_it_is_unpacked(folder, width, height):
    images = [encoded(p) for p in noise(10)]
    images[7] = encoded(np.zeros((height, width, 3), np.uint8))
    write(folder / "test.parquet", images, [i % 2 for i in range(10)])
    refused(folder, "test.parquet row 7", f"image is {width}x{height}, at most 1024 a side")


def test_a_decompression_bomb_is_refused(folder):
    import struct
    import zlib

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", 10**6, 10**6, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 99)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    images = [encoded(p) for p in noise(10)]
    images[2] = bomb
    write(folder / "test.parquet", images, [i % 2 for i in range(10)])
    refused(folder, "test.parquet row 2")


@pytest.mark.parametrize(
    "labels, text",
    [
        ([3] * 10, "without gaps"),
        ([-1] * 10, "without gaps"),
        ([0, 1, None, 1, 0, 1, None, 1, 0, 1], "2 labels are missing"),
        ([0] * 9 + [2], "class 2 has 1 images; each needs at least 8"),
        ([10**12] * 10, "without gaps"),
    ],
    ids=["gap", "negative", "null", "too-few", "huge"],
)
def test_labels_that_are_not_classes_are_refused(folder, labels, text):
    write(folder / "test.parquet", [encoded(p) for p in noise(10)], pa.array(labels, pa.int64()))
    refused(folder, text)


@pytest.mark.parametrize("label, classes", [(0, 2), (2, 3)])
def test_a_file_may_hold_one_class_while_the_pool_has_several(folder, label, classes):
    write(folder / "test.parquet", [encoded(p) for p in noise(10)], [label] * 10)
    assert load(f"parquet:{folder}").classes == classes


def test_a_single_class_is_refused(folder):
    for name, n in (("train", 20), ("test", 10)):
        write(folder / f"{name}.parquet", [encoded(p) for p in noise(n)], [0] * n)
    refused(folder, "all 30 images have the same label; a classifier needs at least 2 classes")


def test_files_without_rows_are_refused(folder):
    for name in ("train", "test"):
        write(folder / f"{name}.parquet", [], [])
    refused(folder, "labels must be")


@pytest.mark.parametrize("size, text", [(31, "pool=31 is more than the 30 images"), (15, "pool=15 is too small")])
def test_a_parquet_pool_that_cannot_be_drawn_is_refused(folder, size, text):
    refused(folder, text, pool=size)


@pytest.mark.parametrize("name, shape", [("cifar10-jpeg", (3, 32, 32)), ("mnist", (1, 28, 28))])
def test_real_data_sets_load_from_parquet(name, shape):
    images = load(real(name), pool=200)
    assert images.shape == shape and images.classes == 10 and len(images.y) == 200
    assert images.x.float().std() > 20 and np.bincount(images.y).min() >= 10


def test_16_bit_grey_images_are_refused_rather_than_cut_off(folder):
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000).save(buffer, "PNG")
    with pytest.raises(InputError, match="f row 3: image has mode I;16, expected 8 bits"):
        data._decode(buffer.getvalue(), Path("f"), 3)


def test_a_failed_download_leaves_the_users_own_empty_folders(tmp_path, monkeypatch):
    nothing_can_be_downloaded(monkeypatch)
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="cannot read CIFAR10"):
        data.load("cifar10", tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"]
