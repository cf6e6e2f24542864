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
from retable.data.arrays import ImageSet, Splits
from retable.data.fingerprints import canonical
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
        build: gives the arrays by name, and a JSON-able dictionary that is kept with them.

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
        built = built or build()
        try:
            _discard_if_damaged(entry)
            with staged_folder(entry) as folder:
                _store(folder, *built, made_from)
        except OSError as error:
            raise DataError(f"data.cache={cache}: cannot be written ({error.strerror or error})") from error
    found = _load(entry)
    if found is None:
        raise DataError(f"{entry}: does not hold what was just written to it")
    return found


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
        array = np.ascontiguousarray(array)
        np.save(folder / f"{name}.npy", array)
        about[name] = {"shape": list(array.shape), "dtype": str(array.dtype), "crc32": _crc(array)}
    meta = {"made_from": json.loads(canonical(made_from)), "arrays": about, "extra": extra}
    (folder / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")


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
    same: dict[str, str] = {}
    for name, part in splits.parts.items():
        earlier = next((other for other, images in splits.parts.items() if images is part), name)
        if earlier != name:
            same[name] = earlier
            continue
        arrays |= {f"{name}_images": part.images, f"{name}_targets": part.targets}
        arrays |= {f"{name}_about_{key}": values for key, values in part.about.items()}
    rest = {
        "classes": list(splits.classes),
        "left_out": dict(splits.left_out),
        "codes": splits.codes,
        "extra": dict(splits.extra),
        "same": same,  # parts that are one of the others, e.g. {"test": "val"}
    }
    return arrays, rest


def unpack(arrays: Arrays, rest: dict[str, Any]) -> Splits:
    """What `pack` was given."""
    parts = {name: _part(arrays, name) for name in ("train", "val", "test") if f"{name}_images" in arrays}
    parts |= {name: parts[other] for name, other in rest["same"].items()}
    return Splits(
        parts["train"],
        parts["val"],
        tuple(rest["classes"]),
        parts.get("test"),
        rest["left_out"],
        rest["codes"],
        rest["extra"],
    )


def _part(arrays: Arrays, name: str) -> ImageSet:
    start = f"{name}_about_"
    about = {key.removeprefix(start): values for key, values in arrays.items() if key.startswith(start)}
    return ImageSet(arrays[f"{name}_images"], arrays[f"{name}_targets"], about)
