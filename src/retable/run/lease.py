"""Who trains a run now, where several hosts share a file system.

On one host a lock of the kernel's tells, and a dead process has none. Between hosts such locks can't be taken for
granted, so that whoever trains a run also has a lease on it: the file .lease-<number> in its directory with the highest
number. It says whose it is and counts heartbeats. To take a run is to create the file of the next number, which one
process alone can do; a lease that was given back, or whose heartbeat has not changed for `LEASE` seconds as this
process has watched it, may be followed by the next. Times are measured on the watcher's own clock, so that clocks which
differ do no harm. A process that was taken for dead and wakes up finds that its file is gone, and stops.

The environment may say RETABLE_HOST=<name>, then leases alone decide, for file systems whose locks lie; and
RETABLE_LEASE=<seconds>.
"""

import contextlib
import errno
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from retable.atomic import read_bytes
from retable.run import files

LEASE = float(os.environ.get("RETABLE_LEASE", "120"))  # seconds; some network file systems show a change a minute late
_BEATS = 8  # in the time of a lease
_PREFIX = ".lease-"
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
_seen: dict[Path, tuple[str, float]] = {}  # a lease's content, and since when this process has seen it so


class Taken(Exception):
    """Another process has the run."""


def host() -> str:
    """This host, and since when it runs."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    return os.environ.get("RETABLE_HOST") or f"{socket.gethostname()} {boot}".strip()


@contextlib.contextmanager
def lock(directory: Path) -> Iterator[bool]:
    """The kernel's lock of a run's directory; yields whether there is such a thing here.

    Raises:
        Taken: if another process has it.
        OSError: if there can't be a lock file.
    """
    if os.environ.get("RETABLE_HOST"):
        yield False
        return
    locked = FileLock(directory / files.LOCK, timeout=0)
    there = True
    try:
        locked.acquire()
    except Timeout as error:
        raise Taken(str(directory)) from error
    except NotImplementedError:
        there = False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        there = False
    try:
        yield there
    finally:
        if there:
            locked.release()


def is_taken(directory: Path) -> bool:
    """Whether a process trains a run now, on this host or, as far as has been seen from here, on another.

    Raises:
        OSError: if that can't be known.
    """
    number, content = _latest(directory)
    if content is None and not (directory / files.LOCK).exists():
        return False
    try:
        with contextlib.ExitStack() as stack:
            ours = (directory / files.LOCK).exists() and stack.enter_context(lock(directory))
            return not _is_free(directory, number, content, ours)
    except Taken:
        return True


def times_taken(directory: Path) -> int:
    """A number that goes up each time that somebody takes a run."""
    return _latest(directory)[0]


def expire(directory: Path) -> None:
    """Mark a lease as ended, for all hosts to see, once this process has watched it expire."""
    number, content = _latest(directory)
    if content and not content.get("released") and _has_expired(directory, number):
        with contextlib.suppress(OSError):
            _create(directory, number + 1, {"released": True})


class Lease:
    """A lease that this process has, and keeps by a heartbeat in a thread of its own, until it is given back.

    Args:
        directory: of the run.
        locked: whether this process has the kernel's lock: a lease from this host is then a dead process's.

    Raises:
        Taken: if another process has the run.
        OSError: if the file can't be written.
    """

    def __init__(self, directory: Path, locked: bool) -> None:
        number, content = _latest(directory)
        if not _is_free(directory, number, content, locked):
            raise Taken(str(directory))
        self._number = number + 1
        self._content: dict[str, Any] = {"host": host(), "pid": os.getpid(), "owner": uuid.uuid4().hex, "beat": 0}
        self._path = directory / f"{_PREFIX}{self._number}"
        if not _create(directory, self._number, self._content):
            raise Taken(str(directory))
        if _latest(directory)[0] != self._number:  # it had looked before others took, and gave back, the run
            files.remove([self._path])
            raise Taken(str(directory))
        for older in directory.glob(f"{_PREFIX}*"):
            if _number(older) < self._number:
                files.remove([older])
        self._mark = self._path.stat().st_ino
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    @property
    def holds(self) -> bool:
        """Whether the run is still this process's."""
        try:
            return self._path.stat().st_ino == self._mark
        except OSError:
            return False

    def give_back(self) -> None:
        """End the lease. Its file stays, so that numbers go up."""
        self._over.set()
        self._thread.join()
        if self.holds:
            with contextlib.suppress(OSError):
                self._write(self._content | {"released": True})

    def _keep(self) -> None:
        while not self._over.wait(LEASE / _BEATS):
            self._content["beat"] += 1
            with contextlib.suppress(OSError):
                if self.holds:
                    self._write(self._content)

    def _write(self, content: dict[str, Any]) -> None:
        """In place, so that it is the same file; none is made where it is gone."""
        with self._path.open("r+", encoding="utf-8") as file:
            file.write(json.dumps(content) + "\n")
            file.truncate()


@contextlib.contextmanager
def held(directory: Path, locked: bool) -> Iterator[Lease]:
    """A `Lease` for the time of a block."""
    lease = Lease(directory, locked)
    try:
        yield lease
    finally:
        lease.give_back()


def _is_free(directory: Path, number: int, content: dict[str, Any] | None, locked: bool) -> bool:
    if content is None or content.get("released"):
        return True
    if locked and content.get("host") == host():
        return True
    return _has_expired(directory, number)


def _has_expired(directory: Path, number: int) -> bool:
    path = (directory / f"{_PREFIX}{number}").absolute()
    try:
        now = read_bytes(path).decode("utf-8")
    except (OSError, ValueError):
        return False  # somebody has followed it
    if path not in _seen or _seen[path][0] != now:  # it may say nothing: a loss of power leaves empty files
        _seen[path] = now, time.monotonic()
    return time.monotonic() - _seen[path][1] > LEASE


def _latest(directory: Path) -> tuple[int, dict[str, Any] | None]:
    """The highest number of a lease and what it says; (-1, None) where there is none."""
    try:
        number = max((_number(Path(entry.name)) for entry in os.scandir(directory)), default=-1)
    except FileNotFoundError:
        number = -1
    if number < 0:
        return -1, None
    try:
        content = json.loads(read_bytes(directory / f"{_PREFIX}{number}"))
    except (OSError, ValueError, RecursionError):
        content = {}
    return number, content if isinstance(content, dict) else {}


def _number(path: Path) -> int:
    """The number in a lease's name; -1 for other names."""
    text = path.name.removeprefix(_PREFIX)
    return int(text) if path.name.startswith(_PREFIX) and text.isdecimal() else -1


def _create(directory: Path, number: int, content: dict[str, Any]) -> bool:
    """Create a lease's file, whole; false where it is there already."""
    path = directory / f"{_PREFIX}{number}"
    temporary = directory / f".lease.tmp-{uuid.uuid4().hex}"
    try:
        temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")
        try:
            os.link(temporary, path)
        except FileExistsError:
            return temporary.stat().st_nlink == 2  # over NFS the answer to a link that was made may be lost
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK):
                raise
            try:
                with path.open("x", encoding="utf-8") as file:  # a file system without links
                    file.write(json.dumps(content) + "\n")
            except FileExistsError:
                return False
        return True
    finally:
        files.remove([temporary])
