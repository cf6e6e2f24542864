"""NumPy's arrays and numbers of a checkpoint, read as data: nothing that a file says of memory is believed.

What NumPy itself unpickles with is no safe part of `torch.load(weights_only=True)`: a type whose fields lie outside its
elements, or whose bytes are taken for pointers to objects, ends the process, or worse, where an element is looked at.
Here a type is made by its code, of numbers, text, times and records of them; arrays of objects are refused.
"""

import contextlib
import math
import pickle
import re
from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np
import torch

_CODES = re.compile(r"b1|[iu][1248]|f(?:2|4|8|12|16)|c(?:8|16|24|32)|[mM]8|[SUV]\d{1,9}")


@contextlib.contextmanager
def accepted() -> Iterator[None]:
    """Let checkpoints hold NumPy's arrays and numbers where no code is executed (`torch.load(weights_only=True)`).

    A file with others than are read here is a pickle.UnpicklingError then.
    """
    modules = ("numpy._core.multiarray", "numpy.core.multiarray")  # of NumPy 2, and of files from before
    made = [(function, f"{name}.{known}") for name in modules for known, function in _FUNCTIONS.items()]
    made += [(_nothing, f"{name}.bytes") for name in ("builtins", "__builtin__")]  # what an empty array holds
    with torch.serialization.safe_globals([(_Type, "numpy.dtype"), (_Array, "numpy.ndarray"), *made]):
        yield


class _Type:
    """A type of elements, in the place of numpy.dtype."""

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or not _CODES.fullmatch(code):
            _refuse(code)
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        try:
            self.dtype = _completed(self.dtype, *state)
        except (TypeError, ValueError, LookupError, AttributeError, OverflowError):
            _refuse(state)


class _Array(np.ndarray):
    """An array as any other, but for how it is filled from a file; it is saved as one of NumPy's own class."""

    def __new__(cls, *given: object) -> "_Array":
        _refuse(given)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, by_columns, data = state
        sizes = isinstance(shape, tuple) and all(type(size) is int and size >= 0 for size in shape)
        if not sizes or type(data) is not bytes or math.prod(shape) * _plain(kind).itemsize != len(data):
            _refuse(shape)
        super().__setstate__((1, shape, kind.dtype, bool(by_columns), data))

    def __reduce__(self) -> Any:
        return self.view(np.ndarray).__reduce__()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.view(np.ndarray).__reduce_ex__(protocol)


def _completed(
    kind: np.dtype, _: int, order: str, repeated: Any, names: Any, fields: Any, size: int, *rest: Any
) -> np.dtype:
    if repeated is not None:
        inner, shape = repeated
        return np.dtype((_plain(inner), shape))
    if names is not None:
        kinds, places = zip(*(fields[name][:2] for name in names), strict=True)
        formats = [_plain(kind) for kind in kinds]
        # Told so, NumPy looks that each of them lies within its record.
        return np.dtype({"names": list(names), "formats": formats, "offsets": list(places), "itemsize": size})
    if kind.kind in "mM":
        unit, number, *_ = rest[2][1]
        kind = np.dtype(f"{kind.kind}8[{int(number)}{unit.decode()}]")
    return kind.newbyteorder(order)


def _plain(kind: object) -> np.dtype:
    return kind.dtype if type(kind) is _Type else _refuse(kind)


def _begin(kind: object, *_: object) -> np.ndarray:
    if kind is not _Array:
        _refuse(kind)
    return np.ndarray.__new__(_Array, 0)


def _scalar(kind: object, data: object) -> Any:
    if type(data) is not bytes or len(data) != _plain(kind).itemsize:
        _refuse(kind)
    return np.ndarray((), kind.dtype, data)[()]


def _nothing() -> bytes:
    return b""


def _refuse(given: object) -> NoReturn:
    raise pickle.UnpicklingError(
        f"NumPy's {given!r:.80}: accepted: arrays of numbers, text, times and records of these"
    )


_FUNCTIONS = {"_reconstruct": _begin, "scalar": _scalar}
