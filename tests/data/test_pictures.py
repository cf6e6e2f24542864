"""Pictures and masks by hand: sizes, palettes, pairs, and every fault with its file's name."""

import re
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from retable.data.formats.pairs import Pair, disjoint, pair, pictures_in, read_pairs, size_of
from retable.data.formats.pictures import picture_size, read_image, read_labels
from retable.errors import DataError

BINARY = {0: 0, 255: 1}


def save(path: Path, values, mode: str | None = None) -> Path:
    image = Image.fromarray(np.asarray(values, np.uint8))
    (image if mode is None else image.convert(mode)).save(path)
    return path


def test_image_as_it_is(tmp_path):
    values = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    found = read_image(save(tmp_path / "a.png", values))
    assert found.dtype == np.uint8
    assert found.tolist() == values.transpose(2, 0, 1).tolist()


def test_grey_image_in_three_equal_channels_or_one(tmp_path):
    path = save(tmp_path / "a.png", [[1, 2, 3]])
    assert read_image(path).tolist() == [[[1, 2, 3]]] * 3
    assert read_image(path, mode="L").tolist() == [[[1, 2, 3]]]


@pytest.mark.parametrize("size", [(16, 16), (5, 9), (48, 70), (31, 47)])
def test_image_is_resized_as_torch_does_with_antialias(tmp_path, size):
    values = np.random.default_rng(0).integers(0, 256, (31, 47, 3), dtype=np.uint8)
    tensor = torch.from_numpy(values).permute(2, 0, 1)[None].float()
    expected = F.interpolate(tensor, size, mode="bilinear", antialias=True, align_corners=False)[0].numpy()
    found = read_image(save(tmp_path / "a.png", values), size)
    assert np.abs(found - expected).max() <= 1.01  # Pillow rounds after each of the two directions


def test_a_large_jpeg_decoded_small_is_still_the_picture(tmp_path):
    y, x = np.mgrid[:1200, :1600] / 200
    values = np.stack([np.sin(x), np.cos(y), np.sin(x + y)], -1) * 100 + 128
    save(tmp_path / "a.png", values)
    Image.open(tmp_path / "a.png").save(tmp_path / "a.jpg", quality=95)
    small, full = (read_image(tmp_path / name, (96, 128)).astype(int) for name in ("a.jpg", "a.png"))
    assert np.abs(small - full).mean() < 1.5


def test_mask_is_resized_by_nearest_neighbour(tmp_path):
    values = np.kron(np.array([[0, 255], [255, 0]]), np.ones((6, 6)))
    found = read_labels(save(tmp_path / "a.png", values), BINARY, (4, 4))
    assert found.dtype == np.uint8
    assert found.tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]]
    assert read_labels(tmp_path / "a.png", BINARY).tolist() == (values == 255).astype(int).tolist()


def test_palette_gives_indices_not_colours(tmp_path):
    image = Image.fromarray(np.array([[0, 1, 20, 255]], np.uint8))
    image.putpalette([(7 * value) % 256 for value in range(768)])
    image.save(tmp_path / "a.png")
    labels = {0: 0, 1: 1, 20: 20, 255: 255}
    assert read_labels(tmp_path / "a.png", labels).tolist() == [[0, 1, 20, 255]]


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "LA", "I;16"])
def test_one_channel_in_any_mode(tmp_path, mode):
    values = np.array([[0, 255], [255, 255]], np.uint8)
    image = Image.fromarray(values.astype(np.uint16) if mode == "I;16" else values)
    (image if mode == "I;16" else image.convert(mode)).save(tmp_path / "a.png")
    assert read_labels(tmp_path / "a.png", BINARY).tolist() == [[0, 1], [1, 1]]


def test_unknown_value_is_found_where_resizing_would_lose_it(tmp_path):
    values = np.zeros((64, 64))
    values[1, 1] = 7
    path = save(tmp_path / "a.png", values)
    with pytest.raises(DataError, match=rf"^{path}: unknown label value 7, accepted: 0 to 3, 255$"):
        read_labels(path, {0: 0, 1: 1, 2: 2, 3: 3, 255: 255}, (4, 4))


def test_colours_are_no_labels(tmp_path):
    path = save(tmp_path / "a.png", [[[0, 0, 0], [255, 0, 255]]])
    with pytest.raises(DataError, match=rf"^{path}: a mask in colours, accepted: one channel, or a palette"):
        read_labels(path, BINARY)


def png16(path: Path, values) -> Path:
    """A PNG of 16 bits a channel in colour, which Pillow does not write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in np.asarray(values))
    header = struct.pack(">IIBBBBB", len(values[0]), len(values), 16, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_of_16_bits_the_upper_eight_count(tmp_path, name):
    Image.fromarray(np.array([[0, 255, 256, 300, 65535]], np.uint16)).save(tmp_path / name)
    assert read_image(tmp_path / name, mode="L").tolist() == [[[0, 0, 1, 1, 255]]]
    colours = read_image(png16(tmp_path / "b.png", [[[0, 255, 256], [300, 511, 65535]]]))
    assert colours.tolist() == [[[0, 1]], [[0, 1]], [[1, 255]]]


@pytest.mark.parametrize(("values", "mode"), [(np.int32, "I"), (np.float32, "F")])
def test_wider_pixels_are_refused_not_clipped(tmp_path, values, mode):
    Image.fromarray(np.array([[0, 300]], values)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=rf"a\.tif: pixels of type {mode}, accepted: images of 8 or 16 bits a channel$"):
        read_image(tmp_path / "a.tif")


def test_labels_of_16_bits_are_values_not_upper_halves(tmp_path):
    Image.fromarray(np.array([[0, 300]], np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: label values from 0 to 300, accepted: 0 to 255"):
        read_labels(tmp_path / "a.png", BINARY)


# What is stored for the seen picture [[1, 2, 3], [4, 5, 6]] under each value of the tag (EXIF 2.3, section 4.6.4 A).
STORED = {
    1: [[1, 2, 3], [4, 5, 6]],
    2: [[3, 2, 1], [6, 5, 4]],
    3: [[6, 5, 4], [3, 2, 1]],
    4: [[4, 5, 6], [1, 2, 3]],
    5: [[1, 4], [2, 5], [3, 6]],
    6: [[3, 6], [2, 5], [1, 4]],
    7: [[6, 3], [5, 2], [4, 1]],
    8: [[4, 1], [5, 2], [6, 3]],
}


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", STORED)
def test_a_picture_is_turned_as_its_exif_part_says(tmp_path, suffix, orientation):
    path, exif = tmp_path / f"a.{suffix}", Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(np.array(STORED[orientation], np.uint8) * 40)
    picture.save(path, exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    assert read_image(path, mode="L").tolist() == [[[40, 80, 120], [160, 200, 240]]]
    assert picture_size(path) == (2, 3)
    if suffix != "webp":
        table = {40 * value: value for value in range(7)}
        assert read_labels(path, table).tolist() == STORED[1]


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_jpeg_is_decoded_small_along_the_sides_that_are_seen(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    seen = np.repeat(np.arange(64, dtype=np.uint8) * 4, 16)[:, None].repeat(256, 1)  # 1024 rows, getting brighter
    Image.fromarray(seen if orientation == 1 else np.rot90(seen)).save(tmp_path / "a.jpg", exif=exif, quality=95)
    found = read_image(tmp_path / "a.jpg", (32, 8), "L")[0].astype(int)
    assert np.abs(found - (np.arange(32)[:, None] * 8 + 2)).max() <= 3


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_damaged_exif_part_is_no_damaged_picture(tmp_path):
    Image.new("L", (3, 2), 9).save(tmp_path / "a.jpg", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    assert read_image(tmp_path / "a.jpg", mode="L").tolist() == [[[9] * 3] * 2]


def test_colours_of_a_palette_and_what_lies_beneath_transparency(tmp_path):
    rgba = np.array([[[10, 20, 30, 255], [40, 50, 60, 0]]], np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").tolist() == [[[10, 40]], [[20, 50]], [[30, 60]]]
    palette = Image.fromarray(np.array([[0, 1]], np.uint8))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.save(tmp_path / "b.png", transparency=b"\xff\x00")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(tmp_path / "b.png").tolist() == read_image(tmp_path / "a.png").tolist()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.tif"])
@pytest.mark.parametrize("keep", [0, 10, 0.3, 0.9])
def test_cut_file_is_named_in_one_line(tmp_path, name, keep):
    path = save(tmp_path / name, np.random.default_rng(0).integers(0, 256, (40, 40)))
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(len(content) * keep)])
    for read in (lambda: read_image(path, (16, 16)), lambda: read_labels(path, dict.fromkeys(range(256), 0))):
        with pytest.raises(DataError, match=rf"^{path}: cut or damaged \(.+\), accepted: a picture") as caught:
            read()
        assert "\n" not in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"none\.png: no such file"):
        read_image(tmp_path / "none.png")


def names(*stems: str) -> list[Path]:
    return [Path("/set") / stem for stem in stems]


def test_pairs_by_stem_in_natural_order():
    images, masks = names("b_10.jpg", "b_9.jpg", "a.jpg"), names("a_m.png", "b_9_m.png", "b_10_m.png")
    found = pair(images, masks, mask="{}_m")
    assert [(item.name, item.mask.name) for item in found] == [
        ("a", "a_m.png"), ("b_9", "b_9_m.png"), ("b_10", "b_10_m.png")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("images", "masks", "message"),
    [
        (["x_1.png", "x_2.png"], ["y_1.png"], "/set/x_2.png: its mask is missing, expected: /set/y_2.*"),
        (["x_1.png"], ["y_1.png", "y_3.png"], "/set/y_3.png: the image of this mask is missing, expected: /set/x_3.*"),
        (["x_1.png", "x_1.jpg"], ["y_1.png"], "/set/x_1.jpg: x_1.png has the same name, accepted: one file of a name"),
        (["x_1.png", "z.png"], ["y_1.png"], "/set/z.png: accepted: a name like x_NN.png"),
    ],
)
def test_what_does_not_pair_is_named(images, masks, message):
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        pair(names(*images), names(*masks), "x_{}", "y_{}")


def test_image_in_two_parts():
    part = pair(names("a.png", "b.png"), names("a.png", "b.png"))
    disjoint(part[:1], part[1:])
    with pytest.raises(DataError, match=r"b\.png: is in two splits"):
        disjoint(part, part[1:])


def test_folder_of_pictures(tmp_path):
    with pytest.raises(DataError, match=r"none: cannot be read \(No such file"):
        pictures_in(tmp_path / "none")
    (tmp_path / "notes.txt").touch()
    (tmp_path / "._a.png").touch()
    with pytest.raises(DataError, match=rf"^{tmp_path}: holds no pictures, expected: files \.png"):
        pictures_in(tmp_path)
    (tmp_path / "b.PNG").touch()
    (tmp_path / "a.jpeg").touch()
    assert [file.name for file in pictures_in(tmp_path)] == ["a.jpeg", "b.PNG"]


def test_pairs_are_read_in_order(tmp_path):
    for number in range(20):
        save(tmp_path / f"i{number}.png", np.full((4, 6), number))
        save(tmp_path / f"m{number}.png", np.full((4, 6), number % 2 * 255))
    found = read_pairs(pair(tmp_path.glob("i*"), tmp_path.glob("m*"), "i{}", "m{}"), (2, 3), BINARY, "squares")
    assert found.images.shape == (20, 3, 2, 3)
    assert found.images[:, 0, 0, 0].tolist() == list(range(20))
    assert found.targets[:, 0, 0].tolist() == [0, 1] * 10
    assert found.names == [f"i{number}" for number in range(20)]


def test_size_mismatch_is_reported_before_resizing(tmp_path):
    save(tmp_path / "i.png", np.zeros((4, 6)))
    mask = save(tmp_path / "m.png", np.zeros((6, 4)))
    with pytest.raises(
        DataError, match=rf"^{mask}: 4x6 pixels, but its image i\.png has 6x4; accepted: the same size$"
    ):
        read_pairs([Pair("i", tmp_path / "i.png", mask)], (2, 2), BINARY, "x")


@pytest.mark.parametrize(("value", "size"), [(128, (128, 128)), ([180, 240], (180, 240))])
def test_size(value, size):
    assert size_of("size", value) == size


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "128", [128], [1, 2, 3], [1, 0], None])
def test_size_refused(value):
    with pytest.raises(ValueError, match=r"^size=.*: accepted: a whole number of at least 1, \[height, width\]$"):
        size_of("size", value)
