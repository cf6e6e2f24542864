"""What a data set is made of, in one sha256 - remembered, so that it is computed once and found again without torch.

Two kinds of notes lie in `<cache>/fingerprints`, both with each file's path, size and modification time, and both void
as soon as one of these has changed:
    files-<key>.json    the fingerprint of a list of files, so that they are not read again
    config-<key>.json   the fingerprint of what a data configuration last read, so that a planner can look it up
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from retable.atomic import write_text
from retable.config.keys import canonical, public_target
from retable.errors import DataError

# Keys that change neither which files are read nor how; seed and augment are handed to a DataModule beside its config.
USE = ("batch_size", "eval_batch_size", "cache", "resident", "seed", "augment")


def paths_in(found: Any) -> list[Path]:
    """Every path in a nesting of lists, tuples, mappings and dataclasses, each once, in order.

    >>> paths_in({"train": [("a", Path("a.png")), ("b", Path("b.png"))], "left_out": 3, "list": Path("a.png")})
    [PosixPath('a.png'), PosixPath('b.png')]
    """
    return list(dict.fromkeys(_paths(found)))


def _paths(found: Any) -> Iterator[Path]:
    if isinstance(found, Path):
        yield found
    elif isinstance(found, list | tuple):
        for item in found:
            yield from _paths(item)
    elif isinstance(found, Mapping):
        yield from _paths(list(found.values()))
    elif is_dataclass(found):
        yield from _paths(list(vars(found).values()))


def fingerprint(files: Iterable[Path], cache: Path, base: Path) -> str:
    """sha256 over the name below `base`, the size and the content of each file, in the order of the names.

    Raises:
        DataError: a file that cannot be read.
    """
    files = sorted(Path(file) for file in files)
    note = _note(cache, "files", [str(Path(base).absolute()), *(str(file.absolute()) for file in files)])
    known = _read(note)
    if known is not None:
        return known
    total = hashlib.sha256()
    try:
        before = _states(files)
        for file in files:
            with file.open("rb") as handle:
                content = hashlib.file_digest(handle, "sha256").hexdigest()
            name = Path(os.path.relpath(file, base)).as_posix()
            total.update(f"{name}\0{file.stat().st_size}\0{content}\n".encode())
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from error
    _write(note, before, total.hexdigest())
    return total.hexdigest()


def remember(cache: Path, data_config: Mapping[str, Any], files: Iterable[Path], fingerprint: str) -> None:
    """Note that `data_config` reads `files`, whose fingerprint is `fingerprint`."""
    _write(_note(cache, "config", _identity(data_config)), _states(sorted(Path(file) for file in files)), fingerprint)


def recall(cache: Path, data_config: Mapping[str, Any]) -> str | None:
    """The fingerprint of what `data_config` reads; None when it is not known, or any of its files has changed."""
    return _read(_note(cache, "config", _identity(data_config)))


def has_changed(cache: Path, data_config: Mapping[str, Any]) -> bool:
    """Whether the files that `data_config` once read are all there, and one of them is no longer what it was."""
    note = _note(cache, "config", _identity(data_config))
    try:
        there = all(os.path.exists(path) for path, *_ in json.loads(note.read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return there and _read(note) is None


def _identity(data_config: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in data_config.items() if key not in USE}
    kept["_target_"] = public_target(kept.get("_target_"))
    if "root" in kept:  # a relative root means another folder in another working directory
        kept["root"] = str(Path(os.path.expanduser(str(kept["root"]))).absolute())
    return kept


def _note(cache: Path, kind: str, identity: Any) -> Path:
    key = hashlib.sha256(canonical(identity).encode()).hexdigest()[:32]
    return Path(os.path.expanduser(cache)) / "fingerprints" / f"{kind}-{key}.json"


def _states(files: list[Path]) -> list[list[Any]]:
    return [[str(file.absolute()), (state := file.stat()).st_size, state.st_mtime_ns] for file in files]


def _write(note: Path, states: list[list[Any]], value: str) -> None:
    try:
        write_text(note, json.dumps({"fingerprint": value, "files": states}))
    except OSError:
        return  # a cache that cannot be written costs time, not correctness


def _read(note: Path) -> str | None:
    try:
        content = json.loads(note.read_text(encoding="utf-8"))
        for path, size, mtime_ns in content["files"]:
            state = os.stat(path)
            if (state.st_size, state.st_mtime_ns) != (size, mtime_ns):
                return None
        return str(content["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
