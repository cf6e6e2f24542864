"""The files of a run directory, how far a run is, and its history.

run.json      what the run is: name, config, identity, data fingerprint (written when the run is planned)
config.yaml   the same config for people
log.txt       what the run printed
history.csv   one row an epoch
last.ckpt     model, optimizer, scheduler, epoch, random states after the last finished epoch
result.json   how it ended; a directory without one is not finished
train/, val/  TensorBoard events
figures/      PNG
"""

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from retable.atomic import read_json, write_text
from retable.config.validate import validate
from retable.errors import DataError

RUN, CONFIG, LOG, HISTORY, CHECKPOINT, RESULT, LOCK, FIGURES = (
    "run.json",
    "config.yaml",
    "log.txt",
    "history.csv",
    "last.ckpt",
    "result.json",
    ".lock",
    "figures",
)

# What becomes of a run. The first three stand in result.json; the others are read off what else there is.
FINISHED, DIVERGED, FAILED = "finished", "diverged", "failed"
NEW, INTERRUPTED, RUNNING, BROKEN = "new", "interrupted", "running", "broken"
ENDED = (FINISHED, DIVERGED, FAILED)
DONE = (FINISHED, DIVERGED)  # a diverged run is a result


def read_run(directory: Path) -> dict[str, Any]:
    """What run.json says of a run, its config checked value by value.

    Raises:
        DataError: if it is not there or not whole.
        ConfigError: for a value that no run can have.
    """
    run = read_json(directory / RUN)
    if run is None or not isinstance(run.get("config"), dict):
        raise DataError(f"{directory / RUN}: holds no run's config")
    validate(run["config"])
    return run


def write_history(path: Path, rows: list[dict[str, Any]]) -> None:
    """An epoch a row; columns are those of all rows in order of appearance; floats in full precision."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_history(path: Path) -> list[dict[str, float]]:
    """Rows of a history; cells that are empty are left out of their row.

    Raises:
        ValueError: for a cell that is no number.
        OSError: if there is no file.
    """
    with path.open(encoding="utf-8", newline="") as file:
        return [{key: float(cell) for key, cell in row.items() if cell} for row in csv.DictReader(file)]


def remove(paths: Iterable[Path]) -> None:
    """Delete files that may be there."""
    for path in paths:
        path.unlink(missing_ok=True)
