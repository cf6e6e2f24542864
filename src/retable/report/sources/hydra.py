"""Runs of a Hydra multirun: folders with `.hydra/config.yaml`, and a file of metrics that the script itself wrote.

The file is looked for below the run's folder: `metrics.csv` first, then the other names of `NAMES`, else the only CSV
or JSON file. A CSV or JSON-lines file has a row an epoch or step (Lightning's CSVLogger writes one), a JSON file holds
one mapping of metrics, or a list of them.
"""

import csv
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from retable.atomic import read_bytes, read_yaml
from retable.config.keys import flatten
from retable.errors import DataError, first_line
from retable.report.runs import RunRecord
from retable.report.sources.base import Row, Source, make_record, number_of
from retable.run.files import FINISHED, UNFINISHED

NAMES = ("metrics", "history", "results", "result", "scores", "summary", "log")
_ENDINGS = (".csv", ".json", ".jsonl")


class Hydra(Source):
    title = "Hydra"
    place = "a multirun folder: folders with .hydra/config.yaml in it or below"
    status_recorded = False

    def read(self, place: str) -> list[RunRecord]:
        folders = sorted(path.parents[1] for path in Path(place).rglob(".hydra/config.yaml"))
        if not folders:
            raise DataError(f"{place}: no run of Hydra; accepted: {self.place}")
        ordered = sorted(folders, key=lambda folder: (folder.parent, folder.name.zfill(9)))
        return [read_run(folder, Path(place)) for folder in ordered]


def read_run(folder: Path, root: Path) -> RunRecord:
    path = folder / ".hydra" / "config.yaml"
    try:
        config = read_yaml(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {first_line(error)}") from None
    file = metrics_file(folder)
    rows = list(read_metrics(file)) if file else []
    return make_record(
        folder.relative_to(root).as_posix() if folder != root else folder.name,
        config if isinstance(config, Mapping) else {},
        rows,
        FINISHED if rows else UNFINISHED,
        path=folder.as_posix(),
        reason="" if rows else "no file of figures",
    )


def metrics_file(folder: Path) -> Path | None:
    """The file of a run's metrics: by its name, else the only one there is; of several versions the last."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(place, name) for name in sorted(names) if name.endswith(_ENDINGS)]
    for name in NAMES:
        named = [path for path in found if path.stem == name]
        if named:
            return max(named, key=lambda path: (-len(path.parts), str(path)))
    return found[0] if len(found) == 1 else None


def read_metrics(path: Path) -> Iterable[Row]:
    """The rows of a file of metrics.  Raises: DataError for what is neither a table nor mappings of metrics."""
    try:
        text = read_bytes(path).decode("utf-8")
        if path.suffix == ".csv":
            lines: list[Any] = list(csv.DictReader(text.splitlines()))
        elif path.suffix == ".jsonl":
            lines = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            data = json.loads(text)
            lines = data if isinstance(data, list) else [data]
    except (OSError, ValueError, csv.Error, RecursionError) as error:
        raise DataError(f"{path}: {first_line(error)}") from None
    if not all(isinstance(line, Mapping) for line in lines):
        raise DataError(f"{path}: holds no mapping of figures; accepted: a row an epoch, or one mapping")
    for line in lines:
        found = {str(key): value for key, value in flatten(dict(line)).items() if value is not None}
        yield {key: number_of(value) for key, value in found.items() if is_figure(value)}


def is_figure(value: Any) -> bool:
    """Whether a cell holds a number, or says that it came out as none: `nan`."""
    said = isinstance(value, float) or (isinstance(value, str) and value.strip().lower().lstrip("+-") == "nan")
    return said or not math.isnan(number_of(value))
