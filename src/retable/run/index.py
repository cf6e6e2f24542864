"""What the files of many runs say, kept in one file beside them, so that listing thousands does not read each of them.

A shortcut, and nothing more: an entry holds for as long as the files that it was read from have the size, the time of
change and the inode that they had then. Whatever differs is read anew, and an index that is missing, damaged or of
another version is as good as none. Of files that had changed within the last seconds nothing is written down, since a
next change within one tick of the file system's clock would not show. Folders of few runs have no index.

To plan 10,000 finished runs again takes 5.2 s of an AMD EPYC core with it, and 9.0 s where each is read
(benchmarks/README.md).
"""

import functools
import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from retable import atomic
from retable.version import __version__

FILE = ".index.json"
MIN_NEW = 100  # new entries for which the file is written: fewer are read more quickly than it is
_FORMAT = 2
_SETTLED = 3.0  # seconds; the coarsest clock of a file system in use ticks every two

Mark = list[int] | None


def mark(path: Path) -> Mark:
    """What changes when a file does: time of change, size, inode; None where there is none."""
    try:
        state = os.stat(path)
    except OSError:
        return None
    return [state.st_mtime_ns, state.st_size, state.st_ino]


class Index:
    """What is known of the runs in a folder.

    Args:
        root: the folder, e.g. multirun/cifar.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / FILE
        self._entries: dict[str, dict[str, list[Any]]] = _read(self._path)
        self._new = 0

    def fact(self, directory: Path, kind: str, names: Sequence[str], read: Callable[[], Any]) -> Any:
        """What `read` gives, without calling it while the run's files of these names are as they were.

        Args:
            directory: of a run in this folder.
            kind: names this fact among those of one run.
            read: gives what JSON can hold, which nobody is to change.
        """
        marks = [mark(directory / name) for name in names]
        known = self._entries.get(directory.name, {}).get(kind)
        if known is not None and known[0] == marks:
            return known[1]
        value = read()
        changed = max((found[0] for found in marks if found), default=0) / 1e9
        settled = changed < time.time() - _SETTLED
        self._entries.setdefault(directory.name, {})[kind] = [marks, value, settled]
        self._new += settled
        return value

    def save(self) -> None:
        """Write it down, where enough is new; where that can't be done, nothing is lost."""
        if self._new < MIN_NEW:
            return
        try:
            there = set(os.listdir(self._path.parent))
            kept = {
                name: {kind: known for kind, known in list(facts.items()) if known[2]}
                for name, facts in list(self._entries.items())
                if name in there
            }
            text = json.dumps(kept, separators=(",", ":"))
            atomic.write_text(self._path, f"{_head(text)}\n{text}\n")
            self._new = 0
        except (OSError, TypeError, ValueError):
            return


def of(root: Path) -> Index:
    """The index of a folder, read once by this process."""
    return _of(os.path.abspath(root))


@functools.cache
def _of(root: str) -> Index:
    return Index(Path(root))


def _read(path: Path) -> dict[str, dict[str, list[Any]]]:
    try:
        head, _, text = atomic.read_bytes(path).decode("utf-8").partition("\n")
        text = text.removesuffix("\n")
        found = json.loads(text) if head == _head(text) else {}
        whole = all(len(known) == 3 for facts in found.values() for known in facts.values())
        return found if whole else {}
    except (OSError, ValueError, RecursionError, AttributeError, TypeError):  # anybody can write a checksum
        return {}


def _head(text: str) -> str:
    """Who can have written what follows, and its checksum."""
    return f"retable {__version__} index {_FORMAT} {hashlib.sha256(text.encode()).hexdigest()}"
