"""What a weights file is known by: its name and its content, wherever it lies; and which file a run's weights are."""

import functools
import hashlib
import os
import re
from pathlib import Path
from typing import Any

CHECKPOINT, BEST = "last.ckpt", "best.ckpt"  # in a run's directory
_GONE = "missing"  # in place of a file's content
_KNOWN = re.compile(rf"[^/]*:([0-9a-f]{{12}}|{_GONE})")


def known_by_content(value: Any) -> Any:
    """A value of `model.weights` as it stands in an identity: a file or a run's directory as `<name>:<hash>`."""
    if isinstance(value, str | Path) and not _KNOWN.fullmatch(str(value)):
        path = Path(os.path.expanduser(value))  # as it is where there is no such home
        if path.is_dir():
            path = kept_checkpoint(path)  # another run's weights
        if path.suffix:
            return f"{path.name}:{_content(path)}"
    return value


def kept_checkpoint(directory: Path) -> Path:
    """The file of a run's weights: of its last epoch or, where it has kept the best epoch's alone, of that one."""
    last, best = directory / CHECKPOINT, directory / BEST
    return best if best.exists() and not last.exists() else last


def same_weights(wanted: Any, stored: Any) -> bool:
    """Whether two values name the same weights; of a file that is gone the name alone is compared."""
    if wanted == stored:
        return True
    return is_gone(wanted) and isinstance(stored, str) and wanted.partition(":")[0] == stored.partition(":")[0]


def is_gone(value: Any) -> bool:
    """Whether a value is that of a weights file which is not there."""
    return isinstance(value, str) and value.endswith(f":{_GONE}")


def _content(path: Path) -> str:
    try:
        state = path.stat()
        return _hashed(path, state.st_size, state.st_mtime_ns)
    except OSError:
        return _GONE


@functools.lru_cache
def _hashed(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]
