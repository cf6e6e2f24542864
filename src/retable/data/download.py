"""Downloads that leave either the whole set or nothing where the readers look."""

import os
import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from retable.errors import DataError, in_one_line

TIMEOUT = 60  # seconds without an answer


def fetch(name: str, folder: Path, wanted: list[Path], get: Callable[[Path], Any]) -> None:
    """Fill `folder` with what `get` puts into an empty temporary folder below it.

    Files that are there already are kept. Processes that want the same set wait for the first one.

    Args:
        name: what the set is called in its error message.
        folder: the set's folder; made if needed.
        wanted: the files that make the set complete; nothing is fetched when all exist.
        get: downloads, unpacks and verifies into the folder it is given, or raises anything.

    Raises:
        DataError: the download failed; says which files are expected where, and what else to do.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".download.lock"):
            if not all(file.is_file() for file in wanted):
                _fill(folder, wanted, get)
    except Exception as error:  # torchvision, urllib, tarfile: anything can come
        reason = in_one_line(error)
        missing = [file for file in wanted if not file.is_file()]
        folders = ", ".join(sorted({str(file.parent) for file in missing}))
        raise DataError(
            f"{name}: the download failed ({reason}); expected in {folders}:"
            f" {', '.join(file.name for file in missing)};"
            f" put them there, or name the folder above {folder.name} with data.root=... or RETABLE_DATA,"
            " or try data=sample"
        ) from error


def _fill(folder: Path, wanted: list[Path], get: Callable[[Path], Any]) -> None:
    for left in folder.glob(".download-*"):  # by a process that was killed: nobody else has the lock
        shutil.rmtree(left, ignore_errors=True)
    temporary, before = Path(tempfile.mkdtemp(dir=folder, prefix=".download-")), socket.getdefaulttimeout()
    try:
        socket.setdefaulttimeout(TIMEOUT)  # torchvision sets none, and a dead connection would hang for ever
        get(temporary)
        absent = [file.name for file in wanted if not (temporary / file.relative_to(folder)).is_file()]
        if absent:
            raise RuntimeError(f"it brought no {', '.join(absent)}")
        for file in wanted:
            file.parent.mkdir(parents=True, exist_ok=True)
            if not file.exists():
                os.replace(temporary / file.relative_to(folder), file)
    finally:
        socket.setdefaulttimeout(before)
        shutil.rmtree(temporary, ignore_errors=True)
