"""CIFAR-10's python batches: pickled dictionaries, read without letting the pickle call anything.

A pickle is a program: loading one calls whatever it names. The names that a CIFAR batch needs are answered by the few
functions below, which build uint8 arrays and strings; every other name is refused before it is looked up.

A batch:        {batch_label: str, labels: list of N ints 0-9, data: uint8 (N, 3072), filenames: list of str}
batches.meta:   {label_names: list of 10 str, num_cases_per_batch: int, num_vis: 3072}
A row of data is 1024 red, 1024 green and 1024 blue values, each row by row.
The official files were pickled by Python 2, so keys and names arrive as bytes or as str.
Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009; section "CIFAR-10" of its page.
"""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from retable.data.arrays import ImageSet
from retable.errors import DataError

SHAPE = (3, 32, 32)
ROW = 3 * 32 * 32
CLASSES = 10


class _Ndarray:
    """Stands for numpy.ndarray, which a batch only names as the type to be rebuilt, and never calls."""

    def __init__(self, *_: object) -> None:
        raise ValueError("calls numpy.ndarray")


def _reconstruct(kind: object, shape: tuple, _typecode: object) -> np.ndarray:
    if kind is not _Ndarray or shape != (0,):
        raise ValueError("rebuilds something other than an array")
    return np.empty(0, np.uint8)


def _dtype(name: str | bytes, _align: object = False, _copy: object = True) -> np.dtype:
    text = name.decode("latin1") if isinstance(name, bytes) else name
    if text not in ("u1", "|u1", "uint8"):
        raise ValueError(f"holds an array of {text}, not uint8")
    return np.dtype("u1", False, True)  # a copy, for the pickle goes on to set its state


def _encode(text: str, encoding: str | bytes = "latin1") -> bytes:
    if encoding not in ("latin1", b"latin1"):
        raise ValueError(f"encodes with {encoding!r}")
    return text.encode("latin1")


_ALLOWED = {
    ("numpy", "ndarray"): _Ndarray,
    ("numpy", "dtype"): _dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("_codecs", "encode"): _encode,
}


class _Forbidden(Exception):
    pass


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _Forbidden(f"{module}.{name}") from None


def _load(path: Path) -> dict[str, Any]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    try:
        content = _Unpickler(io.BytesIO(raw), encoding="bytes").load()
    except _Forbidden as error:
        raise DataError(f"{path}: not a CIFAR batch: its pickle names the forbidden global {error}") from None
    except Exception as error:  # a damaged pickle can raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: cut or damaged ({reason})") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds a {type(content).__name__}, not a dictionary")
    return {_text(key): value for key, value in content.items()}


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _require(path: Path, content: dict[str, Any], *keys: str) -> None:
    missing = [key for key in keys if key not in content]
    if missing:
        raise DataError(f"{path}: key {', '.join(missing)} missing; it has {', '.join(sorted(content)) or 'none'}")


def read_batch(path: Path) -> ImageSet:
    """Read one batch.

    Returns:
        Colour images (N, 3, 32, 32) with targets 0 to 9.

    Raises:
        DataError: missing, cut or damaged file, a pickle that names anything else, missing keys, data that are not
            uint8 (N, 3072), labels that are not N whole numbers 0 to 9.
    """
    content = _load(path)
    _require(path, content, "data", "labels")
    data, labels = content["data"], content["labels"]
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != ROW:
        found = f"{data.dtype} {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        raise DataError(f"{path}: data is {found}, expected uint8 (N, {ROW})")
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise DataError(f"{path}: labels are not a list of whole numbers")
    if len(labels) != len(data):
        raise DataError(f"{path}: {len(labels)} labels, but {len(data)} images")
    if not labels:
        raise DataError(f"{path}: holds no images")
    for place, label in enumerate(labels):
        if not 0 <= label < CLASSES:
            raise DataError(f"{path}: label {label} at position {place}, expected 0 to {CLASSES - 1}")
    return ImageSet(np.ascontiguousarray(data).reshape(-1, *SHAPE), np.asarray(labels, np.int64))


def read_names(path: Path) -> tuple[str, ...]:
    """Read the ten class names from batches.meta. Raises DataError as `read_batch`."""
    content = _load(path)
    _require(path, content, "label_names")
    names = content["label_names"]
    if not isinstance(names, list) or len(names) != CLASSES or not all(isinstance(n, bytes | str) for n in names):
        raise DataError(f"{path}: label_names is not a list of {CLASSES} names")
    return tuple(_text(name) for name in names)


def write_batch(path: Path, images: np.ndarray, targets: np.ndarray, label: str) -> None:
    """Write uint8 images (N, 3, 32, 32) and their targets as a batch."""
    assert images.dtype == np.uint8
    assert images.shape[1:] == SHAPE
    content = {
        "batch_label": label,
        "labels": [int(target) for target in targets],
        "data": images.reshape(-1, ROW),
        "filenames": [f"{index:05d}.png" for index in range(len(images))],
    }
    _dump(path, content)


def write_names(path: Path, names: tuple[str, ...], cases: int) -> None:
    """Write batches.meta for batches of `cases` images."""
    _dump(path, {"num_cases_per_batch": cases, "label_names": list(names), "num_vis": ROW})


def _dump(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps({key.encode(): value for key, value in content.items()}, protocol=2))
