"""What has run: the run directories below multirun/, found by what they are."""

import contextlib
import itertools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from retable.config.identity import digest, identity, is_gone, same_run, settled
from retable.config.keys import lookup
from retable.errors import RetableError
from retable.run import files, lease
from retable.run.files import BROKEN, FAILED, INTERRUPTED, NEW, RUNNING

_known_states: dict[Path, tuple[Any, tuple[str, str]]] = {}


def status_of(directory: Path) -> str:
    """How far a run is, from its directory alone."""
    return _state(directory)[0]


def broken(directory: Path) -> str:
    """What is wrong with a broken run's directory, in words."""
    return _state(directory)[1]


def _state(directory: Path) -> tuple[str, str]:
    """A run's status and, where that is broken, what is wrong."""
    marks = tuple(map(_mark, (directory / files.RUN, directory / files.RESULT, directory / files.HISTORY)))
    if marks[1] is None:
        return _read_state(directory)
    known = _known_states.get(directory)  # a run that has ended is read once for as long as its files stay as they are
    if known is None or known[0] != marks:
        known = _known_states[directory] = marks, _read_state(directory)
    return known[1]


def _mark(path: Path) -> tuple[int, int, int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size, state.st_ino


def _read_state(directory: Path) -> tuple[str, str]:
    run = files.described(directory)
    if isinstance(run, str) and _begun(directory):
        return BROKEN, f"{files.RUN} {run}"
    result = files.read_result(directory)
    if result is not None:
        odd = files.history_is_odd(directory / files.HISTORY)
        return (BROKEN, f"{files.HISTORY} {odd}") if odd else (result["status"], "")
    if (directory / files.RESULT).exists():
        return BROKEN, f"{files.RESULT} is not whole"
    try:
        if lease.is_taken(directory):
            return RUNNING, ""
    except OSError as error:
        return BROKEN, f"{files.LOCK} can't be locked: {error.strerror or error}"
    return (INTERRUPTED if (directory / files.CHECKPOINT).exists() else NEW), ""


def _begun(directory: Path) -> bool:
    """Whether anything stands in a directory that only a run leaves."""
    return any((directory / name).exists() for name in (files.RUN, files.RESULT, files.HISTORY, files.CHECKPOINT))


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        tables: experiments that asked for it.
        epoch, epochs: of these it has finished, and is to train.
        changed: when its history was last written, in seconds since 1970; None if it has none.
        reason: why it failed, or what is broken.
    """

    directory: Path
    task: str
    tables: tuple[str, ...]
    status: str
    epoch: int
    epochs: int | None
    changed: float | None
    reason: str


def runs_below(folder: Path) -> list[Progress]:
    """Every run at or below a folder, ordered by path."""
    found = []
    for path, folders, names in os.walk(folder):
        folders[:] = sorted(folders)
        if files.RUN in names or files.RESULT in names:
            folders.clear()  # a run holds no further runs
            found.append(_progress(Path(path)))
    return sorted(found, key=lambda run: run.directory)


def _progress(directory: Path) -> Progress:
    run = files.described(directory)
    run = run if isinstance(run, dict) else {}
    status, wrong = _state(directory)
    history = directory / files.HISTORY
    try:
        changed = history.stat().st_mtime
        epoch = int(max((row["epoch"] for row in files.read_history(history)), default=0))
    except (OSError, ValueError, TypeError, KeyError, OverflowError):
        changed, epoch = None, 0
    asked = [str(text).partition("=")[2] for text in run.get("overrides", []) if str(text).startswith("experiment=")]
    return Progress(
        directory,
        str(run.get("task", "?")),
        tuple(asked),
        status,
        epoch,
        lookup(run, "config.trainer.max_epochs"),
        changed,
        wrong or str((files.read_result(directory) or {}).get("reason") or ""),
    )


def clear_failure(directory: Path) -> None:
    """Forget that a run failed, unless another sweep tries it, or has finished it, by now."""
    if status_of(directory) not in (FAILED, BROKEN):
        return
    with contextlib.suppress(lease.Taken, OSError), lease.lock(directory):
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

    A directory whose run.json is damaged is known by its config.yaml, which holds the same config. Where that fails too
    it is `lost`: no run is taken for it, and none is written into it.

    Args:
        root: e.g. multirun/cifar.

    Raises:
        RetableError: if the root can't be read.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lost: dict[Path, str] = {}
        self._known: dict[frozenset[str], dict[frozenset[Any], list[tuple[int, Stored]]]] = {}
        self._count, self._has_results = 0, False
        try:
            folders = sorted(root.iterdir()) if root.exists() else []
        except OSError as error:
            raise RetableError(f"{root}: cannot be read ({error.strerror or error})") from error
        self._names = {
            folder.name for folder in folders if _begun(folder) or not folder.is_dir()
        }  # an empty one is free
        for folder in folders:
            run = files.described(folder)
            if isinstance(run, dict):
                self._add(Stored(folder, run["identity"], run.get("fingerprint")))
            elif _begun(folder):
                stated = _from_yaml(folder)
                if stated is None:
                    self.lost[folder] = f"{files.RUN} {run}"
                else:
                    self._add(Stored(folder, stated, None))

    def find(self, identity: dict[str, Any], defaults: dict[str, Any], fingerprint: str | None) -> Path | None:
        """The directory of the run with this identity, made from this data or not begun yet.

        It is looked up by its values, once for each set of keys that runs here have (`same_run` says what is the same).
        """
        found: list[tuple[int, Stored]] = []
        for keys, alike in self._known.items():
            if not keys <= identity.keys():
                continue
            if any(k not in defaults or settled(k, defaults[k]) != identity[k] for k in identity.keys() - keys):
                continue
            if any(is_gone(identity[key]) for key in keys):  # a weights file that can't be compared by its content
                stored = itertools.chain.from_iterable(alike.values())
                found += [entry for entry in stored if same_run(entry[1].identity, identity, defaults)]
            else:
                found += alike.get(_values({key: identity[key] for key in keys}), [])
        for _, stored in sorted(found, key=lambda entry: entry[0]):
            if stored.fingerprint is None or fingerprint is None or stored.fingerprint == fingerprint:
                return stored.directory
        return None

    def has_results(self) -> bool:
        """Whether any run here has read its data, so that the data's fingerprint matters."""
        return self._has_results

    def allocate(self, name: str, identity: dict[str, Any], fingerprint: str | None) -> Path:
        """A directory for a new run: its name, with a hash where another run has taken that."""
        if name in self._names:
            name = f"{name}__{digest(identity, fingerprint)}"
        directory = self.root / name
        self._add(Stored(directory, identity, None))
        self._names.add(name)
        return directory

    def _add(self, stored: Stored) -> None:
        values = {key: settled(key, value) for key, value in stored.identity.items()}
        alike = self._known.setdefault(frozenset(values), {})
        alike.setdefault(_values(values), []).append((self._count, stored))
        self._count += 1
        self._has_results |= bool(stored.fingerprint)


def _values(flat: dict[str, Any]) -> frozenset[Any]:
    """What is equal where two identities are: 1 and 1.0 are."""
    return frozenset((key, _hashable(value)) for key, value in flat.items())


def _hashable(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(map(_hashable, value))
    if isinstance(value, dict):
        return frozenset((key, _hashable(item)) for key, item in value.items())
    return value


def _from_yaml(directory: Path) -> dict[str, Any] | None:
    """A run's identity from its config.yaml, or None."""
    try:
        config = yaml.safe_load((directory / files.CONFIG).read_text(encoding="utf-8"))
        flat = identity(config) if isinstance(config, dict) else None
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return None
    return flat if flat and isinstance(flat.get("seed"), int) else None
