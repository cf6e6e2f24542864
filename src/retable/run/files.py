"""The files of a run directory, how far a run is, and its history.

run.json      what the run is: name, config, identity, data fingerprint (written when the run is planned)
config.yaml   the same config for people
log.txt       what the run printed
history.csv   one row an epoch
last.ckpt     model, optimizer, scheduler, epoch, random states after the last finished epoch
previous.ckpt the same of the epoch before, while the run is unfinished
images.json   how the model did on each image of the validation and the test set (retable.run.images)
best.ckpt     the same of the best epoch, where it is asked for (conf/checkpoint)
loggers.json  what loggers call the run, where it has any
result.json   how it ended; a directory without one is not finished
job.json      which job of a cluster is to train it, where it was given to one
train/, val/  TensorBoard events
figures/      PNG
"""

import contextlib
import csv
import functools
import io
import itertools
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from retable.atomic import read_bytes, read_json, write_text
from retable.config import weights_file
from retable.config.keys import is_foreign, lookup
from retable.config.validate import validate
from retable.errors import DataError, first_line

RUN, CONFIG, LOG, HISTORY, RESULT = "run.json", "config.yaml", "log.txt", "history.csv", "result.json"
CHECKPOINT, PREVIOUS, BEST = weights_file.CHECKPOINT, "previous.ckpt", weights_file.BEST
IMAGES, FIGURES, LOGGERS, JOB, LOCK = "images.json", "figures", "loggers.json", "job.json", ".lock"

# What becomes of a run. The first three stand in result.json; the others are read off what else there is.
FINISHED, DIVERGED, FAILED = "finished", "diverged", "failed"
NEW, INTERRUPTED, RUNNING, BROKEN = "new", "interrupted", "running", "broken"
ENDED = (FINISHED, DIVERGED, FAILED)
DONE = (FINISHED, DIVERGED)  # a diverged run is a result
STATUSES = (FINISHED, DIVERGED, FAILED, BROKEN, RUNNING, INTERRUPTED, NEW)  # in the order in which they are counted
UNFINISHED = "unfinished"  # of a run whose directory alone is read, or that is another program's: not ended

# Columns of a history that are no metric: where in training a row stands, how it went and how fast.
_NO_METRIC = ("epoch", "step", "lr", "images_per_second")
_NO_METRICS = ("grad_norm/", "seconds/")

_ABANDONED = 3600  # seconds after which a temporary file has lost its writer
_RUN_ENTRIES = {"name": str, "task": str, "config": dict, "identity": dict, "overrides": list}
_RUN_ENTRIES |= {"fingerprint": str | None, "code": dict, "code_changed": list}
_ABSENT = object()
# Of a config what nothing stands in for, and what it has beside where its module is no LightningModule of its own.
_NEEDED = ("seed", "task.name", "data._target_", "trainer.max_epochs", "trainer.device", "trainer.precision")
_NEEDED_OF_OURS = ("task.metric", "model", "loss", "optimizer", "scheduler", "init", "dropout", "activation")
_RESULT_ENTRIES = dict.fromkeys(("metrics", "seconds", "data", "peak_memory_mb"), dict | None)
_RESULT_ENTRIES |= {"reason": str | None, "epochs": int | None, "code": dict | None, "code_changed": list | None}


def read_run(directory: Path) -> dict[str, Any]:
    """What run.json says of a run, its config checked value by value.

    Raises:
        DataError: if it is not there or not whole, or its config lacks what every run's has.
        ConfigError: for a value that no run can have.
    """
    run = described(directory)
    if isinstance(run, str):
        raise DataError(f"{directory / RUN}: {run}")
    check(run["config"], directory / RUN)
    return run


def check(config: dict[str, Any], where: Path) -> None:
    """Refuse a config, read from the file `where`, that lacks what every run's has, or has a value that none can have.

    Raises:
        DataError, ConfigError: one line.
    """
    validate(config)
    for key in (*_NEEDED, *(() if is_foreign(config) else _NEEDED_OF_OURS)):
        if lookup(config, key, _ABSENT) is _ABSENT:
            raise DataError(f"{where}: its config has no {key}")


def described(directory: Path) -> dict[str, Any] | str:
    """What run.json says of a run, each entry of the type that it should be; else what is wrong with it, in words."""
    if not (directory / RUN).exists():
        return "is missing"
    run = read_json(directory / RUN)
    if run is None:
        return "is not whole"
    odd = [key for key, kind in _RUN_ENTRIES.items() if key in run and not isinstance(run[key], kind)]
    odd += [key for key in ("config", "identity") if key not in run]
    if not odd and isinstance(run["identity"].get("seed"), list | dict):
        odd = ["identity.seed"]
    return f"is odd: {', '.join(dict.fromkeys(odd))}" if odd else run


def read_result(directory: Path) -> dict[str, Any] | None:
    """What result.json says, each entry that others rely on of the type that it should be.

    Returns:
        None where there is none, or none that a run of this project can have written.
    """
    result = read_json(directory / RESULT)
    return result if result is not None and is_result(result) else None


def is_result(result: Mapping[str, Any]) -> bool:
    """Whether a run of this project can have written it."""
    if result.get("status") not in ENDED:
        return False
    if any(not isinstance(result.get(key), kind) for key, kind in _RESULT_ENTRIES.items()):
        return False
    metrics, seconds = result.get("metrics") or {}, result.get("seconds") or {}
    tables = (metrics.get("final") or {}, metrics.get("best") or {}, seconds)
    return all(isinstance(table, dict) and all(map(_is_number_or_none, table.values())) for table in tables)


def _is_number_or_none(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def write_history(path: Path, rows: list[dict[str, Any]]) -> None:
    """An epoch a row; columns are those of all rows in order of appearance; floats in full precision."""
    write_text(path, "".join(_lines(rows)))


def append_history(path: Path, rows: list[dict[str, Any]]) -> None:
    """Add the last row to a history that has the others; what a loss of power leaves of it is not certain.

    A history of other rows or columns, e.g. one that goes beyond the checkpoint that a run went on from, is written
    anew.
    """
    *before, last = _lines(rows)
    try:
        there = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        there = ""
    if there != "".join(before):
        write_history(path, rows)
        return
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(last)


def _lines(rows: list[dict[str, Any]]) -> list[str]:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().splitlines(keepends=True)


def history_is_odd(path: Path, finished: bool = False) -> str:
    """What is wrong with a history's epochs, in words; "" if they are numbers that go up.

    Args:
        finished: whether it is a finished run's, which has some.
    """
    try:
        state = path.stat()
        return _odd(path, state.st_size, state.st_mtime_ns, finished)
    except FileNotFoundError:
        return history_fault((), finished)
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"


@functools.cache
def _odd(path: Path, size: int, mtime_ns: int, finished: bool) -> str:
    try:
        epochs = [row.get("epoch", math.nan) for row in read_history(path)]
    except (ValueError, TypeError, csv.Error) as error:
        return f"is damaged ({first_line(error)})"
    return history_fault(epochs, finished)


def history_fault(epochs: Sequence[float], finished: bool) -> str:
    """What is wrong with a history, in words; "" if its epochs are numbers, each higher than the one before.

    Args:
        epochs: none where there is no history.
        finished: whether it is a finished run's, which has some.
    """
    if not all(map(math.isfinite, epochs)) or not all(a < b for a, b in itertools.pairwise(epochs)):
        return "has epochs that do not go up"
    return "is missing or empty, of a finished run" if finished and not epochs else ""


def read_history(path: Path) -> list[dict[str, float]]:
    """Rows of a history; cells that are empty are left out of their row.

    Raises:
        ValueError: for a cell that is no number.
        OSError: if there is no file.
    """
    rows = csv.DictReader(io.StringIO(read_bytes(path).decode("utf-8"), newline=""))
    return [{key: float(cell) for key, cell in row.items() if cell} for row in rows]


def metrics_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics of a history's row: `train/...`, `val/...`, `test/...`, or what a module of somebody's own logs.

    >>> metrics_of({"epoch": 1, "step": 9, "val/accuracy": 0.9, "lr": 0.1, "seconds/val": 2.0})
    {'val/accuracy': 0.9}
    """
    return {key: v for key, v in row.items() if key not in _NO_METRIC and not key.startswith(_NO_METRICS)}


def beside_training(metric: str) -> list[str]:
    """A metric, behind that of training which is named like it.

    >>> beside_training("val/accuracy"), beside_training("val_acc"), beside_training("recon")
    (['train/accuracy', 'val/accuracy'], ['train_acc', 'val_acc'], ['recon'])
    """
    name = metric.removeprefix("val")
    return [f"train{name}", metric] if name != metric and name.startswith(("/", "_")) else [metric]


def sweep_up(directory: Path) -> None:
    """Delete what writers that were killed have left in a run's directory."""
    for path in directory.glob(".*.tmp-*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _ABANDONED:
                path.unlink()


def leases(directory: Path) -> list[Path]:
    """The files that name who trains a run, or has trained it (retable.run.lease)."""
    return list(directory.glob(".lease-*"))


def remove(paths: Iterable[Path]) -> None:
    """Delete files that may be there."""
    for path in paths:
        path.unlink(missing_ok=True)
