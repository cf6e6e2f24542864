"""Folders and files that appear whole or not at all, also when several processes make the same ones at once."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

STALE = 24 * 3600  # seconds after which a temporary folder belongs to a process that was killed


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


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a reader finds the old or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.tmp-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _sweep(target: Path) -> None:
    for left in target.parent.glob(f".{target.name}.tmp-*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > STALE:
                shutil.rmtree(left, ignore_errors=True)
