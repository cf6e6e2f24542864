"""Zip and tar archives: the plain files in them, unpacked into one folder and nowhere else."""

import lzma
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from retable.errors import DataError

_FAULTS = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


def is_archive(path: Path) -> bool:
    """Whether a file is a zip or tar archive, by its content."""
    return zipfile.is_zipfile(path) or tarfile.is_tarfile(path)


def unpack(path: Path, scratch: Path, wanted: Callable[[PurePosixPath], bool]) -> Path:
    """Unpack an archive into a new folder in `scratch`, and give that folder.

    Links, devices, and names that lead out of the folder are left out.

    Args:
        wanted: whether a member of that name is to be unpacked.

    Raises:
        DataError: a damaged archive.
    """
    folder = Path(tempfile.mkdtemp(dir=scratch))
    try:
        for name, content in _members(path):
            if not name.is_absolute() and ".." not in name.parts and wanted(name):
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as file:
                    shutil.copyfileobj(content, file)
    except _FAULTS as error:
        raise DataError(f"{path}: cannot be unpacked ({error})") from error
    return folder


def _members(path: Path) -> Iterator[tuple[PurePosixPath, IO[bytes]]]:
    """The plain files in an archive."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if not member.is_dir() and not stat.S_ISLNK(member.external_attr >> 16):
                    with archive.open(member) as content:
                        yield PurePosixPath(member.filename), content
    else:
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isfile():
                    yield PurePosixPath(member.name), archive.extractfile(member)
