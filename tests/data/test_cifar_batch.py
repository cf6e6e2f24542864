"""CIFAR batches: hand-made pickles, every fault, code that must not run, the real batch."""

import os
import pickle
import struct

import numpy as np
import pytest

from retable.data.formats.cifar_batch import read_batch, read_names, write_batch, write_names
from retable.errors import DataError

ROWS = np.arange(2 * 3072, dtype=np.int64).astype(np.uint8).reshape(2, 3072)


def batch(**changed) -> dict:
    return {"batch_label": "b", "labels": [3, 0], "data": ROWS, "filenames": ["a", "b"]} | changed


def python2_pickle() -> bytes:
    """Byte for byte how Python 2 and numpy 1 pickled {'labels': [3, 0], 'data': ROWS}, protocol 2."""
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\x01b\x87R"
    kind = b"cnumpy\ndtype\nU\x02u1K\0K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    state = b"(K\x01K\x02M\x00\x0c\x86" + kind + b"\x89T" + struct.pack("<i", ROWS.size) + ROWS.tobytes() + b"tb"
    return b"\x80\x02}(U\x06labels](K\x03K\0eU\x04data" + array + state + b"u."


@pytest.mark.parametrize("content", [python2_pickle(), pickle.dumps(batch(), 2), pickle.dumps(batch(), 4)])
def test_reads_pickles_of_python_2_and_3(tmp_path, content):
    (tmp_path / "b").write_bytes(content)
    found = read_batch(tmp_path / "b")
    assert found.targets.tolist() == [3, 0]
    assert found.images.shape == (2, 3, 32, 32)
    assert found.images[0, 0, 0, :3].tolist() == [0, 1, 2]  # red, first row
    assert found.images[0, 1, 2, 5] == (1024 + 2 * 32 + 5) % 256  # green, third row, sixth column
    assert found.images[1, 2, 31, 31] == 6143 % 256


def test_bytes_as_keys(tmp_path):
    (tmp_path / "b").write_bytes(pickle.dumps({key.encode(): value for key, value in batch().items()}, 2))
    assert read_batch(tmp_path / "b").targets.tolist() == [3, 0]


def test_written_batch_is_read_back_and_opens_as_torchvision_does(tmp_path):
    write_batch(tmp_path / "b", ROWS.reshape(2, 3, 32, 32), np.array([9, 1]), "one")
    assert read_batch(tmp_path / "b").targets.tolist() == [9, 1]
    with open(tmp_path / "b", "rb") as file:
        entry = pickle.load(file, encoding="latin1")
    assert {str(k, "ascii") if isinstance(k, bytes) else k for k in entry} == set(batch())
    names = tuple("abcdefghij")
    write_names(tmp_path / "batches.meta", names, 2)
    assert read_names(tmp_path / "batches.meta") == names


class Evil:
    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.mark.parametrize(("call", "name"), [(os.mkdir, "mkdir"), (eval, "eval"), (getattr, "getattr")])
def test_forbidden_global_does_not_run(tmp_path, call, name):
    target = tmp_path / "executed"
    argument = f"__import__('os').mkdir({str(target)!r})" if call is eval else str(target)
    arguments = (argument, "upper") if call is getattr else (argument,)
    (tmp_path / "b").write_bytes(pickle.dumps(batch(labels=Evil(call, *arguments)), 2))
    with pytest.raises(DataError, match=rf"{tmp_path / 'b'}.*forbidden global \w+\.{name}"):
        read_batch(tmp_path / "b")
    assert not target.exists()


def test_allowed_names_do_no_more_than_a_batch_needs(tmp_path):
    for evil in (Evil(np.ndarray, (10**15,)), np.array([object], dtype=object), np.zeros((2, 3072), np.float32)):
        (tmp_path / "b").write_bytes(pickle.dumps(batch(data=evil), 2))
        with pytest.raises(DataError, match=r"cut or damaged|forbidden"):
            read_batch(tmp_path / "b")


GOOD = pickle.dumps(batch(), 2)
FAULTS = {
    "empty": (b"", "cut or damaged"),
    "cut": (GOOD[:-500], "cut or damaged"),
    "cut early": (GOOD[:40], "cut or damaged"),
    "not a pickle": (b"hello", "cut or damaged"),
    "a list": (pickle.dumps([1]), "holds a list, not a dictionary"),
    "no labels": (pickle.dumps({"data": ROWS}, 2), "key labels missing; it has data"),
    "width": (pickle.dumps(batch(data=ROWS[:, :3071]), 2), r"data is uint8 \(2, 3071\)"),
    "data": (pickle.dumps(batch(data=[1, 2])), "data is list"),
    "counts": (pickle.dumps(batch(labels=[1]), 2), "1 labels, but 2 images"),
    "high": (pickle.dumps(batch(labels=[1, 10]), 2), "label 10 at position 1"),
    "low": (pickle.dumps(batch(labels=[-1, 1]), 2), "label -1 at position 0"),
    "text": (pickle.dumps(batch(labels=["1", 1]), 2), "labels are not a list of whole numbers"),
    "none": (pickle.dumps(batch(labels=[], data=ROWS[:0]), 2), "no images|forbidden global"),
}


@pytest.mark.parametrize(("content", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_fault_is_one_line_naming_the_file(tmp_path, content, message):
    (tmp_path / "b").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_batch(tmp_path / "b")
    assert str(caught.value).startswith(str(tmp_path / "b"))
    assert "\n" not in str(caught.value)


def test_names_fault(tmp_path):
    (tmp_path / "m").write_bytes(pickle.dumps({"label_names": ["a"] * 9}))
    with pytest.raises(DataError, match="not a list of 10 names"):
        read_names(tmp_path / "m")


def test_real_batch(data_root):
    folder = data_root / "cifar10" / "cifar-10-batches-py"
    found = read_batch(folder / "data_batch_1")
    assert found.images.shape == (10000, 3, 32, 32)
    assert found.targets[:5].tolist() == [6, 9, 9, 4, 1]
    assert np.bincount(found.targets).tolist() == [1005, 974, 1032, 1016, 999, 937, 1030, 1001, 1025, 981]
    # The first image (a frog) starts with red 59, 43, 50 and green 62: torchvision shows the same.
    assert found.images[0, 0, 0, :3].tolist() == [59, 43, 50]
    assert found.images[0, 1, 0, 0] == 62
    assert read_names(folder / "batches.meta")[:2] == ("airplane", "automobile")
