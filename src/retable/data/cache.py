"""Decoded arrays, kept as .npy files so that the second run of a task starts at once.

    <cache>/<name>-<key>/<array>.npy     loaded by memory mapping: processes share one copy of it in memory
    <cache>/<name>-<key>/meta.json       what it was made from; shape, type and crc32 of each array; extra values

The key is a hash of all that the arrays depend on, so an entry is never out of date, only unused. An entry that does
not match its own meta.json (a disk that was full, a file that was cut) is thrown away and built again.
"""

import hashlib
import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from retable.atomic import discard_folder, staged_folder
from retable.config.keys import canonical
from retable.data.arrays import ImageSet, Splits, large_ones_in
from retable.errors import DataError

FORMAT = 2  # raise it when the layout of an entry changes

Arrays = dict[str, np.ndarray]


def cached(
    cache: Path, name: str, made_from: Mapping[str, Any], build: Callable[[], tuple[Arrays, dict[str, Any]]]
) -> tuple[Arrays, dict[str, Any]]:
    """Load the arrays made from `made_from`, or build and store them.

    Args:
        cache: folder of all entries.
        name: start of the entry's name, for people.
        made_from: JSON-able; everything that the arrays depend on.
        build: gives the arrays by name, and a JSON-able dictionary that is kept with them; large arrays that it makes
            by `blank` are made in the entry's own files.

    Returns:
        Read-only memory-mapped arrays, and the dictionary.

    Raises:
        DataError: a cache that cannot be written; and what `build` raises.
    """
    entry = Path(cache) / f"{name}-{entry_key(made_from)}"
    built = None
    for _ in range(3):  # an entry that another process has just found damaged may vanish for a moment
        found = _load(entry)
        if found is not None:
            return found
        try:
            with staged_folder(entry) as folder:
                built = built or _built(folder, build)
                _discard_if_damaged(entry)
                _store(folder, *built, made_from)
        except _Unread as error:
            raise error.fault from error.fault.__cause__
        except OSError as error:
            raise DataError(f"data.cache={cache}: cannot be written ({error.strerror or error})") from error
    found = _load(entry)
    if found is None:
        raise DataError(f"{entry}: does not hold what was just written to it")
    return found


class _Unread(Exception):
    """A fault of the files that an entry was to be built from, not of the cache."""

    def __init__(self, fault: OSError) -> None:
        self.fault = fault


def _built(folder: Path, build: Callable[[], tuple[Arrays, dict[str, Any]]]) -> tuple[Arrays, dict[str, Any]]:
    try:
        with large_ones_in(folder):
            return build()
    except OSError as error:
        raise _Unread(error) from error


def entry_key(made_from: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that name an entry."""
    text = canonical({"format": FORMAT, **made_from})
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _discard_if_damaged(entry: Path) -> None:
    # Looked at again: another process may have replaced it while this one was building.
    if entry.exists() and _load(entry) is None:
        discard_folder(entry)


def _store(folder: Path, arrays: Arrays, extra: dict[str, Any], made_from: Mapping[str, Any]) -> None:
    about = {}
    for name, array in arrays.items():
        path, own = folder / f"{name}.npy", _file_of(array, folder)
        array = np.ascontiguousarray(array)
        if own is None:
            np.save(path, array)
        else:
            own.rename(path)
        about[name] = {"shape": list(array.shape), "dtype": str(array.dtype), "crc32": _crc(array)}
    meta = {"made_from": json.loads(canonical(made_from)), "arrays": about, "extra": extra}
    for left in set(folder.iterdir()) - {folder / f"{name}.npy" for name in arrays}:
        left.unlink()  # what a reader took and left again
    (folder / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")


def _file_of(array: np.ndarray, folder: Path) -> Path | None:
    """The file in a folder that holds this array and nothing else, where there is one."""
    if type(array) is not np.memmap or array.filename is None or not array.flags.c_contiguous:
        return None
    path = Path(array.filename)
    if path.parent != folder or not path.exists():
        return None
    array.flush()
    held = np.load(path, mmap_mode="r", allow_pickle=False)
    return path if (held.shape, held.dtype) == (array.shape, array.dtype) else None  # and no view of a part of it


def _load(entry: Path) -> tuple[Arrays, dict[str, Any]] | None:
    try:
        meta = json.loads((entry / "meta.json").read_text(encoding="utf-8"))
        arrays = {}
        for name, about in meta["arrays"].items():
            array = np.load(entry / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            if [list(array.shape), str(array.dtype), _crc(array)] != [about["shape"], about["dtype"], about["crc32"]]:
                return None
            arrays[name] = array
        return arrays, meta["extra"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError):
        return None


def _crc(array: np.ndarray) -> int:
    return zlib.crc32(array.reshape(-1).view(np.uint8)) if array.size else 0


def pack(splits: Splits) -> tuple[Arrays, dict[str, Any]]:
    """Arrays by name (`train_images`, `train_targets`, `train_about_<key>`, ...) and the JSON-able rest."""
    arrays: Arrays = {}
    for name, split in splits.distinct.items():
        arrays |= pack_split(name, split)
    names = {id(split): name for name, split in splits.distinct.items()}
    rest = {
        "classes": list(splits.classes),
        "left_out": dict(splits.left_out),
        "codes": splits.codes,
        "extra": dict(splits.extra),
        # Splits that are one of the others, e.g. {"test": "val"}.
        "same": {name: names[id(split)] for name, split in splits.by_name.items() if name not in splits.distinct},
    }
    return arrays, rest


def pack_split(name: str, split: ImageSet) -> Arrays:
    """A split's arrays by name."""
    about = {f"{name}_about_{key}": values for key, values in split.about.items()}
    return {f"{name}_images": split.images, f"{name}_targets": split.targets, **about}


def unpack(arrays: Arrays, rest: dict[str, Any]) -> Splits:
    """What `pack` was given."""
    splits = {name: unpack_split(name, arrays) for name in ("train", "val", "test") if f"{name}_images" in arrays}
    splits |= {name: splits[other] for name, other in rest["same"].items()}
    return Splits(
        splits["train"],
        splits["val"],
        tuple(rest["classes"]),
        splits.get("test"),
        rest["left_out"],
        rest["codes"],
        rest["extra"],
    )


def unpack_split(name: str, arrays: Arrays) -> ImageSet:
    """What `pack_split` was given."""
    start = f"{name}_about_"
    about = {key.removeprefix(start): values for key, values in arrays.items() if key.startswith(start)}
    return ImageSet(arrays[f"{name}_images"], arrays[f"{name}_targets"], about)
