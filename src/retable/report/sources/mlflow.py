"""Runs of MLflow: a file store (`mlruns/`) or a sqlite database (`mlflow.db`, or `sqlite:///mlflow.db`).

Both are read as they lie, without MLflow, which would first bring a database to its own version: looking at somebody's
runs must not change them. The layout of both has been the same since MLflow 1.0 (mlflow/store/tracking/).
"""

import math
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from retable.atomic import read_yaml
from retable.errors import DataError, first_line
from retable.report.runs import RunRecord
from retable.report.sources.base import Source, by_step, make_record, value_of
from retable.run.files import FAILED, FINISHED, UNFINISHED

_STATUSES = {"FINISHED": FINISHED, "FAILED": FAILED, "KILLED": FAILED}
_NUMBERS = {3: "FINISHED", 4: "FAILED", 5: "KILLED"}  # as the file store keeps them
_COMMIT, _NAME = "mlflow.source.git.commit", "mlflow.runName"


class MLflow(Source):
    title = "MLflow"
    place = "a file store (mlruns) or a sqlite database (mlflow.db)"

    def read(self, place: str) -> list[RunRecord]:
        path = Path(place.removeprefix("sqlite:///") if place.startswith("sqlite:") else place.removeprefix("file://"))
        if path.is_file():
            found = read_database(path)
        elif (path / "mlruns").is_dir():
            found = read_store(path / "mlruns")
        else:
            found = read_store(path)
        if not found:
            raise DataError(f"{place}: no run of MLflow; accepted: {self.place}")
        return sorted(found, key=lambda record: (record.name, record.path))


def read_store(folder: Path) -> list[RunRecord]:
    """Runs of a file store: <experiment>/<run>/{meta.yaml, params/, metrics/, tags/}."""
    metas = sorted([*folder.glob("*/*/meta.yaml"), *folder.glob("*/meta.yaml")])
    return [record for meta in metas if (meta.parent / "metrics").is_dir() and (record := _read_run(meta)) is not None]


def _read_run(path: Path) -> RunRecord | None:
    try:
        meta = read_yaml(path)
        params, tags = _texts(path.parent / "params"), _texts(path.parent / "tags")
        points = [
            (key, *map(float, line.split()[1:3]))
            for key, text in _texts(path.parent / "metrics").items()
            for line in text.splitlines()
        ]
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {first_line(error)}") from None
    if meta.get("lifecycle_stage") == "deleted":
        return None
    status = meta.get("status")
    return _record(
        meta.get("run_name") or tags.get(_NAME) or path.parent.name,
        params,
        [(key, step, value) for key, value, step in points],
        _NUMBERS.get(status, status) if isinstance(status, int) else status,
        tags.get(_COMMIT, ""),
        meta.get("start_time"),
        meta.get("end_time"),
        path.parent.as_posix(),
    )


def _texts(folder: Path) -> dict[str, str]:
    """The files below a folder by their relative path; a metric's name may have slashes in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in files}


def read_database(path: Path) -> list[RunRecord]:
    """Runs of a sqlite database, opened for reading alone."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            runs = database.execute(
                "select run_uuid, name, status, start_time, end_time from runs where lifecycle_stage = 'active'"
            ).fetchall()
            params = _by_run(database, "select run_uuid, key, value from params order by key")
            tags = _by_run(database, "select run_uuid, key, value from tags")
            points = _by_run(
                database,
                "select run_uuid, key, step, case when is_nan then 'nan' else value end from metrics"
                " order by step, timestamp",
            )
    except sqlite3.Error as error:
        raise DataError(f"{path}: is no database of MLflow: {error}") from None
    return [
        _record(
            name or dict(tags.get(run, ())).get(_NAME) or run,
            dict(params.get(run, ())),
            [(key, step, _stored(value)) for key, step, value in points.get(run, [])],
            status,
            dict(tags.get(run, ())).get(_COMMIT, ""),
            begun,
            ended,
        )
        for run, name, status, begun, ended in runs
    ]


def _stored(value: float | str) -> float:
    """A value of the database, which has the largest number in place of an infinite one."""
    number = float(value)
    return math.copysign(math.inf, number) if abs(number) >= sys.float_info.max else number


def _by_run(database: sqlite3.Connection, query: str) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for run, *values in database.execute(query):
        found.setdefault(run, []).append(tuple(values))
    return found


def _record(
    name: str,
    params: dict[str, str],
    points: list[tuple[str, float, float]],
    status: Any,
    commit: str,
    begun: float | None,
    ended: float | None,
    path: str = "",
) -> RunRecord:
    return make_record(
        str(name),
        {key: value_of(value) for key, value in params.items()},
        by_step(points),
        _STATUSES.get(str(status), UNFINISHED),
        path=path,
        commit=commit,
        seconds=(ended - begun) / 1000 if begun and ended else None,
    )
