"""CIFAR-10's python batches: pickled dictionaries, read without Python's unpickler.

A pickle is a program: loading one calls whatever it names, and can set attributes of what it finds. A batch needs some
thirty of the unpickler's instructions and four names; these are carried out here, on lists, dictionaries, strings and
one uint8 array. Every other instruction and name is refused.

A batch:        {batch_label: str, labels: list of N ints 0-9, data: uint8 (N, 3072), filenames: list of str}
batches.meta:   {label_names: list of 10 str, num_cases_per_batch: int, num_vis: 3072}
A row of data is 1024 red, 1024 green and 1024 blue values, each row by row.
The official files were pickled by Python 2, so keys and names arrive as bytes or as str.
Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009; section "CIFAR-10" of its page.
"""

import pickle
import pickletools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retable.data.arrays import ImageSet
from retable.data.formats.files import content
from retable.errors import DataError, first_line, in_one_line

SHAPE = (3, 32, 32)
ROW = 3 * 32 * 32
CLASSES = 10
NAMES = {
    "numpy.ndarray": "ndarray",
    "numpy.dtype": "dtype",
    "numpy.core.multiarray._reconstruct": "array",
    "numpy._core.multiarray._reconstruct": "array",
    "_codecs.encode": "encode",
}


class _Forbidden(Exception):
    pass


@dataclass
class _Name:
    """A name that a pickle brings up: one of NAMES, and nothing but a name."""

    name: str


class _Dtype:
    """Stands for uint8's dtype."""


@dataclass
class _Array:
    """Stands for an array, at first without content."""

    values: np.ndarray | None = None


def _load(path: Path) -> dict[str, Any]:
    raw = content(path)
    try:
        found = _value(raw)
    except _Forbidden as error:
        raise DataError(
            f"{path}: not a CIFAR batch: its pickle names the forbidden global {first_line(error)}"
        ) from None
    except Exception as error:  # a damaged pickle can raise nearly anything
        reason = in_one_line(error, 200)
        raise DataError(f"{path}: cut or damaged ({reason})") from error
    if not isinstance(found, dict):
        raise DataError(f"{path}: holds a {type(found).__name__}, not a dictionary")
    return found


def _value(raw: bytes) -> Any:
    """What a pickle of a batch holds, by the instructions that one is made of. Raises for every other."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        start = marks.pop()
        found = stack[start:]
        del stack[start:]
        return found

    for opcode, argument, _ in pickletools.genops(raw):
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                (found,) = stack
                return found.values if isinstance(found, _Array) else found
            case "MARK":
                marks.append(len(stack))
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode.name])
            case "BININT" | "BININT1" | "BININT2" | "BINUNICODE" | "SHORT_BINUNICODE" | "BINBYTES" | "SHORT_BINBYTES":
                stack.append(argument)
            case "BINSTRING" | "SHORT_BINSTRING":  # of Python 2, whose strings are bytes
                stack.append(argument.encode("latin1"))
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(opcode.name[-1])
                stack[-count:] = [tuple(stack[-count:])]
            case "APPEND" | "APPENDS":
                items = [stack.pop()] if opcode.name == "APPEND" else since_mark()
                list.extend(stack[-1], items)
            case "SETITEM" | "SETITEMS":
                items = since_mark() if opcode.name == "SETITEMS" else [stack.pop(-2), stack.pop()]
                for key, value in zip(items[::2], items[1::2], strict=True):
                    dict.__setitem__(stack[-1], _text(key), value.values if isinstance(value, _Array) else value)
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL" | "STACK_GLOBAL":
                module, name = argument.split(" ") if argument else (stack.pop(-2), stack.pop())
                if f"{module}.{name}" not in NAMES:
                    raise _Forbidden(f"{module}.{name}"[:80])
                stack.append(_Name(NAMES[f"{module}.{name}"]))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(_called(function, arguments))
            case "BUILD":
                _set(stack[-2], stack.pop())
            case other:
                raise ValueError(f"has the instruction {other}, which no batch has")
    raise ValueError("has no end")


def _called(function: Any, arguments: Any) -> Any:
    """What the three functions that a batch names make of their arguments."""
    match function, arguments:
        case _Name("array"), (_Name("ndarray"), (0,), b"b" | "b"):
            return _Array()
        case _Name("dtype"), ("u1" | b"u1" | "|u1" | b"|u1" | "uint8" | b"uint8", *_):
            return _Dtype()
        case _Name("dtype"), (str() | bytes() as name, *_):
            raise ValueError(f"holds an array of {name[:20]!r}, not uint8")
        case _Name("encode"), (str() as text, "latin1" | b"latin1"):
            return text.encode("latin1")
    raise ValueError("calls what no batch calls")


def _set(target: Any, state: Any) -> None:
    """Give an array its content; the state of uint8's dtype adds nothing."""
    match target, state:
        case _Dtype(), tuple():
            return
        case _Array(None), (1, tuple() as shape, _Dtype(), bool() | 0 | 1 as columns_first, bytes() as raw):
            target.values = np.frombuffer(raw, np.uint8).reshape(shape, order="F" if columns_first else "C")
            return
    raise ValueError("sets what no batch sets")


def _text(value: Any) -> str:
    if not isinstance(value, bytes | str):
        raise ValueError(f"has a {type(value).__name__} for a name")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


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
