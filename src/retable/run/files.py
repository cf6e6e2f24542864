"""The files of a run directory, and writing them so that a crash leaves the old file or the new one, never half of one.

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
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

RUN, CONFIG, LOG, HISTORY, CHECKPOINT, RESULT, LOCK = (
    "run.json",
    "config.yaml",
    "log.txt",
    "history.csv",
    "last.ckpt",
    "result.json",
    ".lock",
)


def write_text(path: Path, text: str) -> None:
    """Replace a file's content in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file in one step; NaN and infinities become null, which JSON has no words for."""
    write_text(path, json.dumps(_plain(value), indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None where there is no file or no whole one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


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


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value
