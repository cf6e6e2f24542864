"""Files from elsewhere: which are opened, how much of them is taken in, and what an archive may bring.

A file that is read may come from anybody. Only plain files are opened: a pipe may never end. What a header claims is
held against the file's own length and against a limit before memory is taken for it.
"""

import gzip
import io
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from retable.errors import DataError, first_line

MOST_BYTES = 2**33  # of one file's content, compressed or not
MOST_TEXT = 2**26  # bytes of a file of text
DEFLATED = 1032  # times as long as it was may what deflate has packed become, at most
MOST_UNPACKED = 200  # times an archive's own length may all that is unpacked from it be, beside SPARE
SPARE = 2**27

NO_PLAIN_FILE, LINK = "no plain file", "link out of its folder"


def open_plain(path: Path) -> BinaryIO:
    """Open a file for reading, if it is a plain one or a link to one.

    Raises:
        DataError: missing, unreadable, or a folder, pipe, device or socket.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise DataError(f"{path}: is no plain file, accepted: one")
        return open(path, "rb")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def content(path: Path, most: int = MOST_BYTES) -> bytes:
    """All of a plain file. Raises DataError, also for one of more than `most` bytes."""
    with open_plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise DataError(f"{path}: {size} bytes, accepted: at most {most}")
        try:
            return file.read()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def text(path: Path, expected: str, most: int = MOST_TEXT) -> str:
    """All of a file of UTF-8 text, of `most` bytes at most. Raises DataError, which says what was expected."""
    try:
        return content(path, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: cannot be read ({error}), expected: {expected}") from error


def is_gzip(raw: bytes) -> bool:
    """Whether a file's content is gzipped, by its first two bytes."""
    return raw.startswith(b"\x1f\x8b")


def unzipped(raw: bytes, most: int) -> bytes:
    """The first `most` bytes that a gzipped file holds; its checksum is looked at where that is all of it.

    Raises:
        OSError, EOFError, zlib.error: damaged or cut.
    """
    with gzip.GzipFile(fileobj=io.BytesIO(raw)) as file:
        return file.read(most)


def plain_files(found: Iterable[Path], folder: Path, left_out: Counter[str] | None = None) -> list[Path]:
    """Those of the paths that are plain files, or links to plain files in the folder.

    Args:
        left_out: counts the others, by reason.
    """
    kept, whole = [], folder.resolve()
    for path in found:
        reason = None
        if not path.is_file():
            reason = NO_PLAIN_FILE
        elif path.is_symlink() and not path.resolve().is_relative_to(whole):
            reason = LINK
        if reason is None:
            kept.append(path)
        elif left_out is not None and not path.is_dir():
            left_out[reason] += 1
    return kept


def is_archive(path: Path) -> bool:
    """Whether a plain file is a zip or tar archive, by its content."""
    with open_plain(path) as file:
        if zipfile.is_zipfile(file):
            return True
        file.seek(0)
        try:
            return tarfile.is_tarfile(file)
        except Exception:  # what only begins like a compressed archive can raise nearly anything
            return False


def unpack(path: Path, scratch: Path, wanted: Callable[[PurePosixPath], bool]) -> Path:
    """Unpack an archive into a new folder in `scratch`, and give that folder.

    Links, devices, and names that lead out of the folder are left out.

    Args:
        wanted: whether a member of that name is to be unpacked.

    Raises:
        DataError: a damaged archive, or one that holds far more than its own length.
    """
    folder = Path(tempfile.mkdtemp(dir=scratch))
    left = MOST_UNPACKED * path.stat().st_size + SPARE
    try:
        for name, size, member in _members(path):
            left -= size  # of those not wanted too: they take time
            if left < 0:
                raise ValueError(f"it holds more than {MOST_UNPACKED} times its own length")
            if not name.is_absolute() and ".." not in name.parts and wanted(name):
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as file:
                    shutil.copyfileobj(member, file)
    except Exception as error:  # a damaged archive can raise nearly anything
        shutil.rmtree(folder, ignore_errors=True)
        raise DataError(f"{path}: cannot be unpacked ({first_line(error)[:200]})") from error
    return folder


def _members(path: Path) -> Iterator[tuple[PurePosixPath, int, IO[bytes]]]:
    """Name, size and content of the plain files in an archive."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if not member.is_dir() and not stat.S_ISLNK(member.external_attr >> 16):
                    with archive.open(member) as file:
                        yield PurePosixPath(member.filename), member.file_size, file
    else:
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isfile():
                    yield PurePosixPath(member.name), member.size, archive.extractfile(member)
