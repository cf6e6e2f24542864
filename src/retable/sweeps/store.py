"""What has run: the run directories below multirun/, found by what they are."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from retable import atomic
from retable.config.identity import digest, same_run
from retable.run import files
from retable.run.files import BROKEN, ENDED, FAILED, INTERRUPTED, NEW, RUNNING


def is_locked(directory: Path) -> bool:
    """Whether a process trains this run now."""
    lock = directory / files.LOCK
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True


def status_of(directory: Path) -> str:
    """How far a run is, from its directory alone."""
    result = atomic.read_json(directory / files.RESULT)
    if result is not None and result.get("status") in ENDED:
        return result["status"]
    if result is not None or (directory / files.RESULT).exists():
        return BROKEN
    if is_locked(directory):
        return RUNNING
    return INTERRUPTED if (directory / files.CHECKPOINT).exists() else NEW


def clear_failure(directory: Path) -> None:
    """Forget that a run failed, unless another sweep tries it, or has finished it, by now."""
    if status_of(directory) not in (FAILED, BROKEN):
        return
    with contextlib.suppress(Timeout), FileLock(directory / files.LOCK, timeout=0):
        if status_of(directory) in (FAILED, BROKEN):
            files.remove([directory / files.RESULT])


@dataclass
class Stored:
    """A run directory and what it says it is."""

    directory: Path
    identity: dict[str, Any]
    fingerprint: str | None


class Store:
    """The runs of one task below a root; scanned once.

    Args:
        root: e.g. multirun/cifar.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: dict[Any, list[Stored]] = {}
        self._names: set[str] = set()
        for path in sorted(root.glob(f"*/{files.RUN}")) if root.exists() else []:
            run = atomic.read_json(path)
            if run is not None and isinstance(run.get("identity"), dict):
                self._add(Stored(path.parent, run["identity"], run.get("fingerprint")))
        self._names |= {path.name for path in root.iterdir()} if root.exists() else set()

    def find(self, identity: dict[str, Any], defaults: dict[str, Any], fingerprint: str | None) -> Path | None:
        """The directory of the run with this identity, made from this data or not begun yet."""
        for stored in self._known.get(identity.get("seed"), []):
            fits = stored.fingerprint is None or fingerprint is None or stored.fingerprint == fingerprint
            if fits and same_run(stored.identity, identity, defaults):
                return stored.directory
        return None

    def has_results(self) -> bool:
        """Whether any run here has read its data, so that the data's fingerprint matters."""
        return any(stored.fingerprint for group in self._known.values() for stored in group)

    def allocate(self, name: str, identity: dict[str, Any], fingerprint: str | None) -> Path:
        """A directory for a new run: its name, with a hash where another run has taken that."""
        if name in self._names:
            name = f"{name}__{digest(identity, fingerprint)}"
        directory = self.root / name
        self._add(Stored(directory, identity, None))
        self._names.add(name)
        return directory

    def _add(self, stored: Stored) -> None:
        self._known.setdefault(stored.identity.get("seed"), []).append(stored)
