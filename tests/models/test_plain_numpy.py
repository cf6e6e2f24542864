"""NumPy in checkpoints: read as it was written where it is data, and refused where it could be more."""

import pickle

import numpy as np
import pytest
import torch

from retable.errors import DataError
from retable.models import weights

KEPT = {
    "float": np.arange(6.0).reshape(2, 3),
    "by columns": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
    "other order": np.array([1, 2, 3], ">i4"),
    "none": np.zeros((0, 4), np.float32),
    "one": np.array(2.5, np.float16),
    "yes": np.array([True, False]),
    "complex": np.array([1 + 2j]),
    "long": np.array([1], np.longdouble),
    "text": np.array(["a", "bcd"]),
    "bytes": np.array([b"ab", b"c"]),
    "days": np.array(["2020-01-02", "NaT"], "M8[D]"),
    "records": np.array([(1, 2.5, [1, 2]), (3, 4.5, [3, 4])], [("a", "i4"), ("b", "f8"), ("c", "u1", (2,))]),
    "gaps": np.array([(7,)], {"names": ["a"], "formats": ["i2"], "offsets": [6], "itemsize": 16}),
    "raw": np.array([b"\x01\x02"], "V2"),
    "steps": np.array([5], "m8[25s]"),
}
NUMBERS = [np.float32(1.5), np.int64(-3), np.bool_(True), np.str_("x"), np.str_(""), np.datetime64("2020-01-02")]


def test_what_was_written_is_read_and_may_be_written_again(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"arrays": KEPT, "numbers": NUMBERS}, path)
    for _ in range(2):
        found = weights.saved(path)
        for name, array in KEPT.items():
            assert found["arrays"][name].dtype == array.dtype.newbyteorder("=")  # as NumPy itself reads them
            assert found["arrays"][name].shape == array.shape
            np.testing.assert_array_equal(found["arrays"][name], array)
        assert [(type(number), number) for number in found["numbers"]] == [(type(n), n) for n in NUMBERS]
        found["arrays"]["float"][0, 0] += 0  # it may be written to
        torch.save(found, path)
    assert type(pickle.loads(pickle.dumps(found["arrays"]["float"]))) is np.ndarray


class Told:
    """What a file says, pickled: a function of NumPy's, its arguments and the state it is then given."""

    def __init__(self, *told):
        self.told = told

    def __reduce__(self):
        return self.told


MAKE = np._core.multiarray
FAR = ("a",), {"a": (np.dtype("f8"), 10**12)}  # a field a terabyte behind its element
POINTER = ("a",), {"a": (np.dtype("O"), 0)}


def void(names, fields):
    return Told(np.dtype, ("V8", False, True), (3, "|", None, names, fields, 8, 1, 0))


def array(kind, shape=(1,), data=b"A" * 8):
    return Told(MAKE._reconstruct, (np.ndarray, (0,), b"b"), (1, shape, kind, False, data))


HOSTILE = {
    "a field that lies outside": array(void(*FAR)),
    "bytes as pointers": array(void(*POINTER)),
    "a number of pointers": Told(MAKE.scalar, (void(*POINTER), b"A" * 8)),
    "an object": Told(MAKE.scalar, (np.dtype("O"), b"A" * 8)),
    "fields of a plain type": array(Told(np.dtype, ("f8", False, True), (3, "<", None, *FAR, 8, 1, 0))),
    "a subarray of objects": array(
        Told(np.dtype, ("V8", False, True), (3, "|", (np.dtype("O"), (1,)), None, None, 8, 1, 0))
    ),
    "a field before its element": array(void(("a",), {"a": (np.dtype("f8"), -8)})),
    "another class": Told(MAKE._reconstruct, (np.dtype, (0,), b"b")),
    "too few bytes": array(np.dtype("f8"), (10**6,)),
    "a negative length": array(np.dtype("f8"), (-1, -1)),
    "a size beyond memory": Told(np.ndarray, ((2**60,),)),
    "a type of a type": array(Told(np.dtype, ([("a", "f8")],))),
    "an array of objects": np.array([{}], object),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_could_be_more_than_data_is_refused(tmp_path, name):
    path = tmp_path / "a.pt"
    torch.save({"x": HOSTILE[name]}, path)
    with pytest.raises(DataError, match=r"a\.pt: refused, it is no plain checkpoint and could execute code$"):
        weights.saved(path)
