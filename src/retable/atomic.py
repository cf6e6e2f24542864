"""Files and folders that appear whole or not at all, whatever ends the process that writes them."""

import contextlib
import errno
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STALE = 24 * 3600  # seconds after which a temporary folder belongs to a process that was killed


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file's content in one step; what stands there after a loss of power is the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.tmp-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's 0600 would lock others out
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


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


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None where there is no file or no whole one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
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
