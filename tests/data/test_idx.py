"""idx files: hand-made bytes, every fault, the real MNIST."""

import gzip
import struct

import numpy as np
import pytest

from retable.data.formats.idx import read_idx, read_pair, write_idx
from retable.errors import DataError

IMAGES = bytes.fromhex("00000803 00000002 00000002 00000003") + bytes([0, 1, 2, 3, 4, 5, 250, 251, 252, 253, 254, 255])
LABELS = bytes.fromhex("00000801 00000002") + bytes([7, 9])


@pytest.fixture
def pair(tmp_path):
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.write_bytes(IMAGES)
    labels.write_bytes(LABELS)
    return images, labels


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_reads_hand_made_bytes(pair, pack):
    for file in pair:
        file.write_bytes(pack(file.read_bytes()))
    found = read_pair(*pair)
    assert found.images.tolist() == [[[[0, 1, 2], [3, 4, 5]]], [[[250, 251, 252], [253, 254, 255]]]]
    assert found.targets.tolist() == [7, 9]
    assert (found.images.dtype, found.targets.dtype) == (np.uint8, np.int64)


def test_writes_the_same_bytes(tmp_path):
    values = np.array([0, 1, 2, 3, 4, 5, *range(250, 256)], np.uint8).reshape(2, 2, 3)
    write_idx(tmp_path / "a", values)
    assert (tmp_path / "a").read_bytes() == IMAGES


FAULTS = {
    "empty": ("images", b"", "0 bytes are too few"),
    "magic": ("images", b"\0\0\x08\x02" + IMAGES[4:], "magic number 2050, expected 2051"),
    "labels as images": ("images", LABELS, "magic number 2049, expected 2051"),
    "float": ("images", b"\0\0\x0d\x03" + IMAGES[4:], "magic number 3331"),
    "cut header": ("images", IMAGES[:9], "cut within the header of 16"),
    "cut": ("images", IMAGES[:-1], r"cut: 11 bytes of values, 12 expected for shape \(2, 2, 3\)"),
    "long": ("images", IMAGES + b"\0", "too long: 13 bytes"),
    "huge": ("images", IMAGES[:4] + b"\xff" * 12, "cut: 0 bytes of values"),
    "cut gzip": ("images", gzip.compress(IMAGES)[:-9], "cannot be read"),
    "no pixels": ("images", struct.pack(">4I", 2051, 0, 28, 28), "holds no pixels"),
    "counts": ("labels", struct.pack(">2I", 2049, 3) + b"\1\2\3", "3 labels, but images has 2 images"),
    "range": ("labels", LABELS[:-1] + b"\x0a", "label 10 at position 1, expected 0 to 9"),
}


@pytest.mark.parametrize(("which", "content", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_fault_is_one_line_naming_the_file(pair, which, content, message):
    file = pair[0] if which == "images" else pair[1]
    file.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_pair(*pair)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path / "nothing", 1)


def test_real_mnist(data_root):
    raw = data_root / "mnist" / "MNIST" / "raw"
    train = read_pair(raw / "train-images-idx3-ubyte", raw / "train-labels-idx1-ubyte")
    assert train.images.shape == (60000, 1, 28, 28)
    assert np.bincount(train.targets).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    test = read_pair(raw / "t10k-images-idx3-ubyte", raw / "t10k-labels-idx1-ubyte")
    assert np.bincount(test.targets).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
