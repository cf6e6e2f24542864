"""Files and folders that appear whole or not at all, whatever ends the process that writes them."""

import contextlib
import errno
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from retable.errors import in_one_line

MOST_VALUES = 2**20  # of a YAML file
MOST_LEVELS = 100  # of values within values in a JSON file
STALE = 24 * 3600  # seconds after which a temporary folder belongs to a process that was killed


def write_bytes(path: Path, content: bytes, durable: bool = True) -> None:
    """Replace a file's content in one step; what stands there after a loss of power is the old file or the new one.

    Args:
        durable: False for a file that can be made again: no wait for the disk, after a loss of power it may be empty.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.tmp-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's 0600 would lock others out
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_output(path: Path, content: bytes) -> None:
    """Write what a user has named: a file, or the one that a link leads to, whole or not at all; a pipe as it is."""
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            file.write(content)
    else:
        write_bytes(Path(os.path.realpath(path)), content)


def sync(folder: Path) -> None:
    """Have the system write all that a folder holds to the disk, names too, so that no loss of power takes any of it.

    A rename, a new name and a file's content are each on the disk at some time of their own until then.
    """
    for path, _, names in os.walk(folder, topdown=False):
        for name in [*names, "."]:
            try:
                handle = os.open(os.path.join(path, name), os.O_RDONLY | os.O_NONBLOCK)
            except (FileNotFoundError, PermissionError):
                continue  # a temporary file that has had its time, or nothing of ours
            try:
                os.fsync(handle)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # no such thing for folders, pipes
                    raise
            finally:
                os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Replace a text file's content in one step."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file in one step; NaN and infinities become null, which JSON has no words for."""
    write_text(path, json.dumps(_plain(value), indent=2, allow_nan=False) + "\n")


def read_bytes(path: Path, last: int | None = None) -> bytes:
    """A plain file's content, or its last bytes. Nothing is waited for: a pipe or a device is an OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(handle, "rb") as file:
        state = os.fstat(handle)
        if not stat.S_ISREG(state.st_mode):
            raise OSError(errno.EINVAL, "is no plain file", str(path))
        if last is not None:
            file.seek(max(0, state.st_size - last))
        return file.read()


def read_yaml(path: Path) -> Any:
    """What a YAML file holds.

    Raises:
        OSError: if it can't be read.
        ValueError: for what is no YAML, or holds far more than its length, by names for parts of it.
    """
    import yaml

    try:
        value = yaml.safe_load(read_bytes(path).decode("utf-8"))
    except (yaml.YAMLError, RecursionError, TypeError) as error:
        raise ValueError(in_one_line(error)) from None
    if (size := _size(value, {})) > MOST_VALUES:
        raise ValueError(f"holds {size:.2g} values once its names are written out, accepted: {MOST_VALUES:,}")
    return value


def _size(value: Any, known: dict[int, float]) -> float:
    """How many values a tree has, each part counted as often as it is there; infinite for one within itself."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        known[id(value)] = float("inf")
        known[id(value)] = 1 + sum(_size(i, known) for i in (value.values() if isinstance(value, dict) else value))
    return known[id(value)]


def json_of(raw: bytes) -> Any:
    """What JSON says. Raises ValueError, also for values within values that nobody could walk through."""
    try:
        value = json.loads(raw.decode("utf-8"))
    except RecursionError:
        raise ValueError("values within values without end") from None
    level, depth = [value], 0
    while level := [
        inner
        for outer in level
        if isinstance(outer, dict | list)
        for inner in (outer.values() if isinstance(outer, dict) else outer)
    ]:
        depth += 1
        if depth > MOST_LEVELS:
            raise ValueError("values within values without end")
    return value


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None where there is no file or no whole one."""
    try:
        value = json_of(read_bytes(path))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


@contextlib.contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `target`; rename it to `target` when the block ends without an error.

    If `target` exists by then, another process was faster: the copy made here is thrown away.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.tmp-"))
    temporary.chmod(0o755)  # mkdtemp's 0700 would lock others out of a shared cache
    try:
        yield temporary
        try:
            temporary.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def discard_folder(target: Path) -> None:
    """Take `target` out of the way in one step, then delete it."""
    try:
        aside = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.tmp-"))
        target.rename(aside)  # onto an empty folder, which rename may replace
    except FileNotFoundError:
        return
    shutil.rmtree(aside, ignore_errors=True)


def _sweep(target: Path) -> None:
    for left in target.parent.glob(f".{target.name}.tmp-*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > STALE:
                shutil.rmtree(left, ignore_errors=True)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value
