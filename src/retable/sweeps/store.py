"""What has run: the run directories below multirun/, found by what they are."""

import contextlib
import functools
import itertools
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retable import atomic
from retable.config import own_code
from retable.config.identity import digest, identity, same_run, settled
from retable.config.keys import compared, lookup
from retable.config.stepping import planned_epochs
from retable.config.weights_file import is_gone
from retable.errors import RetableError
from retable.run import files, index, lease
from retable.run.files import BROKEN, FAILED, INTERRUPTED, NEW, RUNNING

# What makes the state of a run that has ended, and what is listed of it.
_ENDED_BY = (files.RUN, files.RESULT, files.HISTORY)


def status_of(directory: Path) -> str:
    """How far a run is, from its directory alone."""
    return _state(directory)[0]


def broken(directory: Path) -> str:
    """What is wrong with a broken run's directory, in words."""
    return _state(directory)[1]


def _state(directory: Path) -> tuple[str, str]:
    """A run's status and, where that is broken, what is wrong."""
    found = summary(directory)
    return (found["status"], found["wrong"]) if found else _read_state(directory)


def summary(directory: Path) -> dict[str, Any] | None:
    """A run that has ended: status, wrong, epoch (the last one in its history), epochs, reason, seconds and final (its
    last metrics by name); None for any other. The files are read once for as long as they stay as they are."""
    if index.mark(directory / files.RESULT) is None:
        return None
    known = index.of(directory.parent)
    return known.fact(directory, "end", _ENDED_BY, lambda: _read_summary(directory))


def _read_summary(directory: Path) -> dict[str, Any]:
    status, wrong = _read_state(directory)
    result = files.read_result(directory) or {}
    return {
        "status": status,
        "wrong": wrong,
        "epoch": _last_epoch(directory / files.HISTORY),
        "epochs": result.get("epochs"),
        "reason": result.get("reason"),
        "seconds": (result.get("seconds") or {}).get("total"),
        "final": (result.get("metrics") or {}).get("final") or {},
    }


def _last_epoch(history: Path) -> int:
    try:
        return int(max((row["epoch"] for row in files.read_history(history)), default=0))
    except (OSError, ValueError, TypeError, KeyError, OverflowError):
        return 0


def _stated(directory: Path) -> dict[str, Any] | str:
    """What of run.json is asked for when many runs are listed; else what is wrong with that file, in words."""
    if index.mark(directory / files.RUN) is None:
        return files.described(directory)
    return index.of(directory.parent).fact(directory, "run", (files.RUN,), lambda: _read_stated(directory))


def identity_and_metrics(directory: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A run's identity and its last metrics, {} where nothing is known of them."""
    stated = _stated(directory)
    return stated["identity"] if isinstance(stated, dict) else {}, (summary(directory) or {}).get("final", {})


def other_code(directory: Path, config: Mapping[str, Any]) -> list[str]:
    """The user's own modules that are others now than those that a run was trained by, as far as it noted them."""
    stated = _stated(directory)
    code = stated.get("code") if isinstance(stated, dict) else None
    return [] if code is None else own_code.changed(code, own_code.versions(config))


def _read_stated(directory: Path) -> dict[str, Any] | str:
    run = files.described(directory)
    if isinstance(run, str):
        return run
    kept = {key: run.get(key) for key in ("identity", "fingerprint", "task", "code")}
    kept |= {"overrides": list(map(str, run.get("overrides", [])))}
    return kept | {"epochs": planned_epochs(lookup(run, "config.trainer.max_epochs"))}


def _read_state(directory: Path) -> tuple[str, str]:
    run = files.described(directory)
    if isinstance(run, str) and _begun(directory):
        return BROKEN, f"{files.RUN} {run}"
    result = files.read_result(directory)
    if result is not None:
        odd = files.history_is_odd(directory / files.HISTORY, result["status"] == files.FINISHED)
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
    for root in {run.directory.parent for run in found}:
        index.of(root).save()
    return sorted(found, key=lambda run: run.directory)


def _progress(directory: Path) -> Progress:
    run = _stated(directory)
    run = run if isinstance(run, dict) else {}
    end = summary(directory)
    status, wrong = (end["status"], end["wrong"]) if end else _state(directory)
    written = index.mark(directory / files.HISTORY)
    return Progress(
        directory,
        str(run.get("task") or "?"),
        tuple(text.partition("=")[2] for text in run.get("overrides", []) if text.startswith("experiment=")),
        status,
        end["epoch"] if end else _last_epoch(directory / files.HISTORY),
        run.get("epochs"),
        written[0] / 1e9 if written else None,
        wrong or str((end or {}).get("reason") or ""),
    )


def clear_failure(directory: Path) -> None:
    """Forget that a run failed, unless another sweep tries it, or has finished it, by now."""
    if status_of(directory) not in (FAILED, BROKEN):
        return
    with contextlib.suppress(lease.Taken, OSError), lease.lock(directory):
        if status_of(directory) in (FAILED, BROKEN):
            files.remove([directory / files.RESULT])


def start_over(directory: Path, config: Mapping[str, Any]) -> None:
    """Forget all that a run of other code has come to, unless another sweep is at it, or has trained it anew by now."""
    with contextlib.suppress(lease.Taken, OSError), lease.lock(directory):
        if not other_code(directory, config):
            return
        kept = {directory / name for name in (files.RUN, files.CONFIG, files.LOCK)} | {*files.leases(directory)}
        rest = sorted({*directory.iterdir()} - kept, key=lambda path: path.name != files.RESULT)
        files.remove(path for path in rest if not path.is_dir())
        for folder in filter(Path.is_dir, rest):
            shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Stored:
    """A run directory and what it says it is."""

    directory: Path
    identity: dict[str, Any]
    fingerprint: str | None
    overrides: Sequence[str] = ()


class Store:
    """The runs of one task below a root; scanned once.

    A directory whose run.json is damaged is known by its config.yaml, which holds the same config. Where that fails too
    it is `lost`: no run is taken for it, and none is written into it.

    Args:
        root: e.g. multirun/cifar.

    Attributes:
        has_results: whether any run here has read its data, so that the data's fingerprint matters.

    Raises:
        RetableError: if the root can't be read.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lost: dict[Path, str] = {}
        self.has_results = False
        self._known: dict[frozenset[str], dict[frozenset[Any], list[tuple[int, Stored]]]] = {}
        self._count = 0
        try:
            folders = sorted(root.iterdir()) if root.exists() else []
        except OSError as error:
            raise RetableError(f"{root}: cannot be read ({error.strerror or error})") from error
        self._names = {
            folder.name for folder in folders if _begun(folder) or not folder.is_dir()
        }  # an empty one is free
        for folder in folders:
            run = _stated(folder)
            if isinstance(run, dict):
                self._add(Stored(folder, run["identity"], run.get("fingerprint"), run["overrides"]))
            elif _begun(folder):
                stated = _from_yaml(folder)
                if stated is None:
                    self.lost[folder] = f"{files.RUN} {run}"
                else:
                    self._add(Stored(folder, stated, None))

    def find(
        self,
        identity: dict[str, Any],
        defaults: dict[str, Any],
        fingerprint: str | None,
        not_new: Callable[[Sequence[str]], Sequence[str]] = lambda overrides: (),
    ) -> Path | None:
        """The directory of the run with this identity, made from this data or not begun yet.

        It is looked up by its values, once for each set of keys that runs here have; `same_run` says what is the same.

        Args:
            not_new: `same_run`'s, of a stored run's overrides.
        """
        found: list[tuple[int, Stored]] = []
        for keys, alike in self._known.items():
            if not keys <= identity.keys() or any(key not in defaults for key in identity.keys() - keys):
                continue
            if any(is_gone(identity[key]) for key in keys):  # a weights file that can't be compared by its content
                found += itertools.chain.from_iterable(alike.values())
            else:
                found += alike.get(_values({key: identity[key] for key in keys}), [])
        found = [
            (number, stored)
            for number, stored in found
            if same_run(stored.identity, identity, defaults, functools.partial(not_new, stored.overrides))
        ]
        if len({stored.identity.get("model.weights") for _, stored in found}) > 1:
            return None  # files of one name that are gone: which of them it was can't be told
        for _, stored in sorted(found, key=lambda entry: entry[0]):
            if stored.fingerprint is None or fingerprint is None or stored.fingerprint == fingerprint:
                return stored.directory
        return None

    def save(self) -> None:
        """Note what was read of the runs, so that it need not be read again."""
        index.of(self.root).save()

    def allocate(
        self, name: str, identity: dict[str, Any], fingerprint: str | None, overrides: Sequence[str] = ()
    ) -> Path:
        """A directory for a new run: its name, with a hash where another run has taken that."""
        if name in self._names:
            name = f"{name}__{digest(identity, fingerprint)}"
        directory = self.root / name
        self._add(Stored(directory, identity, None, overrides))
        self._names.add(name)
        return directory

    def _add(self, stored: Stored) -> None:
        values = {key: settled(key, value) for key, value in stored.identity.items()}
        alike = self._known.setdefault(frozenset(values), {})
        alike.setdefault(_values(values), []).append((self._count, stored))
        self._count += 1
        self.has_results |= bool(stored.fingerprint)


def _values(flat: dict[str, Any]) -> frozenset[Any]:
    """What is equal where two identities are: 1 and 1.0 are, but of batches."""
    return frozenset((key, _hashable(compared(key, value))) for key, value in flat.items())


def _hashable(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(map(_hashable, value))
    if isinstance(value, dict):
        return frozenset((key, _hashable(item)) for key, item in value.items())
    return value


def _from_yaml(directory: Path) -> dict[str, Any] | None:
    """A run's identity from its config.yaml, or None."""
    try:
        config = atomic.read_yaml(directory / files.CONFIG)
        flat = identity(config) if isinstance(config, dict) else None
    except (OSError, ValueError, RecursionError):
        return None
    return flat if flat and isinstance(flat.get("seed"), int) else None
