"""Run directories as records, and records as the cells of a table. Nothing else is read: no state, no engine.

A run directory holds run.json (name, task, resolved config), history.csv (a row an epoch) and, once it has ended,
result.json (status, planned epochs, data, seconds). A run without result.json is still running, or was interrupted:
unfinished.
"""

import csv
import io
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from retable.atomic import json_of, read_bytes
from retable.config.keys import SCALE, canonical, lookup
from retable.config.lightning_forms import settled
from retable.config.stepping import planned_epochs
from retable.errors import ConfigError, in_one_line
from retable.experiment.table import Table
from retable.run.files import ENDED, FINISHED, HISTORY, RESULT, RUN, UNFINISHED, history_fault, is_result

# What pages count with, and no metric is.
_CONFIG_NUMBERS = tuple(key for key in SCALE if key != "data.source")
_RESULT_NUMBERS = ("config_epochs", "step", "steps_per_second", "seconds.total", "seconds.train", "device.threads")
_MOST, _LONGEST = 1e15, 60


@dataclass(frozen=True)
class RunRecord:
    """One run. history: column -> a value a row, nan where the row has none; epochs are in the column `epoch`.

    identity: the part of the config that can change the result, where run.json states it.
    overrides: what was asked for, e.g. `experiment=cifar/dropout`, `dropout.p=0.3`.
    summary: whether its end alone was recorded, and no epoch on the way.
    seeded: whether it has a seed. Without one `seed` only numbers the runs of a cell, and pairs it with no other.
    spoilt: column -> the last epoch in which what was recorded is nan, as a loss that is none any more.
    """

    seed: int
    status: str
    history: Mapping[str, list[float]]
    result: Mapping[str, Any]
    config: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    task: str = ""
    path: str = ""
    identity: Mapping[str, Any] | None = None
    overrides: tuple[str, ...] = ()
    summary: bool = False
    seeded: bool = True
    spoilt: Mapping[str, int] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """real or sample: which data it is made from."""
        data = self.result.get("data")
        stated = data.get("source") if isinstance(data, Mapping) else None
        return str(stated or lookup(self.config, "data.source", "real"))

    @property
    def planned_epochs(self) -> int | None:
        """How many epochs were asked for; None where nothing says it."""
        planned = self.result.get("config_epochs") or planned_epochs(lookup(self.config, "trainer.max_epochs"))
        return int(planned) if planned else None

    @property
    def trained_epochs(self) -> int:
        """The last epoch of its history; 0 where it has none."""
        return int(max(self.history.get("epoch") or [0]))

    @property
    def precision(self) -> str:
        """What it was trained in, or is to be; "" where nothing says it."""
        return str(self.result.get("precision") or lookup(self.config, "trainer.precision") or "")

    @property
    def fingerprint(self) -> str:
        """The first eight digits of its data's; "" where it recorded none."""
        return str(lookup(self.result, "data.fingerprint") or "")[:8]


class Remark(str):
    """A sentence that a reader must know, and its kind.

    kind: data, scale, device, precision, commit, code, setting, left out, recorded, assumed, note, broken.
    """

    kind: str

    def __new__(cls, text: str, kind: str) -> "Remark":
        made = super().__new__(cls, text)
        made.kind = kind
        return made


@dataclass(frozen=True)
class Broken:
    path: str
    reason: str


@dataclass(frozen=True)
class Runs:
    records: tuple[RunRecord, ...]
    broken: tuple[Broken, ...]


@dataclass(frozen=True)
class Assigned:
    """Records by cell, each cell's ordered by seed; cells without a run are there with an empty list.

    others: runs of the same task that are in no cell (the other tables' runs, which `all runs` claims speak of).
    notes: what a reader must know of how these runs were chosen, a sentence each.
    alternatives: runs under another value of one assumed setting, by the override that sets it.
    foreign: whether another program made them.
    """

    cells: Mapping[str, list[RunRecord]]
    others: tuple[RunRecord, ...] = ()
    broken: tuple[Broken, ...] = ()
    notes: tuple[Remark, ...] = ()
    alternatives: Mapping[str, "Assigned"] = field(default_factory=dict)
    foreign: bool = False


def read_runs(paths: Iterable[Path | str]) -> Runs:
    """Every run directory at or below the paths, each once, ordered by path; broken ones are listed and left out."""
    found: dict[str, Path] = {}
    for path in paths:
        for folder, folders, files in os.walk(path):
            folders[:] = [] if RUN in files else sorted(folders)  # a run holds no further runs
            if {RUN, RESULT, HISTORY} & set(files):
                found.setdefault(os.path.realpath(folder), Path(folder))
    records, broken = [], []
    for folder in sorted(found.values()):
        try:
            records.append(read_run(folder))
        except (OSError, ValueError) as error:
            broken.append(Broken(folder.as_posix(), in_one_line(error)))
    return Runs(tuple(records), tuple(broken))


def read_run(folder: Path) -> RunRecord:
    """A directory's record.  Raises: ValueError, with the reason, where it is broken or half-written; OSError."""
    run = read_json(folder / RUN)
    config = run.get("config")
    if not isinstance(config, Mapping):
        raise ValueError(f"{RUN} holds no config")
    result = read_json(folder / RESULT) if (folder / RESULT).exists() else {}
    status = result.get("status", UNFINISHED) if result else UNFINISHED
    if status not in (*ENDED, UNFINISHED):
        raise ValueError(f"{RESULT} has the unknown status {status!r}")
    if status in ENDED and not is_result(result):  # as a sweep has it
        raise ValueError(f"{RESULT} is odd")
    for name, values, keys in ((RUN, config, _CONFIG_NUMBERS), (RESULT, result, _RESULT_NUMBERS)):
        for key in keys:
            if not is_number(value := lookup(values, key)):
                raise ValueError(f"{name}: {key}={str(value)[:_LONGEST]!r} is no number")
    history, spoilt = read_history(folder / HISTORY) if (folder / HISTORY).exists() else ({}, {})
    if fault := history_fault(history.get("epoch", ()), status == FINISHED):
        raise ValueError(f"{HISTORY} {fault}")
    epochs = result.get("epochs")
    if status == FINISHED and epochs is not None and epochs != (last := history["epoch"][-1]):
        raise ValueError(f"{HISTORY} ends at epoch {last:g}, and {RESULT} says {epochs}")
    seed = result.get("seed", config.get("seed", 0))
    if not isinstance(seed, int):
        raise ValueError(f"the seed {seed!r} is no whole number")
    task = run.get("task") or lookup(config, "task.name", "")
    return RunRecord(
        seed=seed,
        status=status,
        history=history,
        result=result,
        config=config,
        name=str(run.get("name", folder.name)),
        task=str(task.get("name", "") if isinstance(task, Mapping) else task),
        path=folder.as_posix(),
        identity=run["identity"] if isinstance(run.get("identity"), Mapping) else None,
        overrides=tuple(map(str, run["overrides"])) if isinstance(run.get("overrides"), list) else (),
        spoilt=spoilt,
    )


def is_number(value: Any) -> bool:
    """Whether a value is a number that can be counted with, or none at all."""
    if isinstance(value, bool) or not isinstance(value, int | float | None):
        return False
    return value is None or abs(value) < _MOST


def read_json(path: Path) -> dict[str, Any]:
    try:
        data = json_of(read_bytes(path))
    except FileNotFoundError:
        raise ValueError(f"{path.name} is missing") from None
    except ValueError as error:
        raise ValueError(f"{path.name} is no JSON: {error}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path.name} is no mapping")
    return data


def read_history(path: Path) -> tuple[dict[str, list[float]], dict[str, int]]:
    """`RunRecord.history` and `RunRecord.spoilt` of a file.  Raises: ValueError, with the reason."""
    rows = list(csv.reader(io.StringIO(read_bytes(path).decode("utf-8"), newline="")))
    if not rows:
        return {}, {}
    columns: dict[str, list[float]] = {name: [] for name in rows[0]}
    if twice := [name for name in columns if rows[0].count(name) > 1]:
        raise ValueError(f"{path.name} has two columns {twice[0]}")
    if "epoch" not in columns:
        raise ValueError(f"{path.name} has no column epoch")
    spoilt: dict[str, int] = {}
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(rows[0]):
            raise ValueError(f"{path.name}, line {number}: {len(row)} values for {len(rows[0])} columns")
        for name, text in zip(rows[0], row, strict=True):
            try:
                columns[name].append(float(text) if text else math.nan)
            except ValueError:
                raise ValueError(f"{path.name}, line {number}: {name}={text!r} is no number") from None
        at = columns["epoch"][-1]
        nans = [name for name, text in zip(rows[0], row, strict=True) if text and math.isnan(columns[name][-1])]
        spoilt |= dict.fromkeys(nans, int(at)) if math.isfinite(at) else {}
    return columns, spoilt


def equal(left: Any, right: Any) -> bool:
    """As configs mean it: 1 is 1.0, but true is not 1."""
    if isinstance(left, bool) != isinstance(right, bool):
        return False
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(map(equal, left, right))
    return left == right


def cells_of(table: Table, config: Mapping[str, Any]) -> list[str]:
    """Names of the cells whose match a resolved config meets."""
    return [cell.name for cell in table.cells.values() if meets(config, cell.match)]


def meets(config: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a config has these values, by dotted key, in whatever form Lightning takes them."""
    absent = object()
    return all(equal(settled(key, lookup(config, key, absent)), settled(key, v)) for key, v in wanted.items())


def assign(table: Table, runs: Runs) -> Assigned:
    """Sort a table's runs into its cells.

    Args: runs: of this table's grid alone, since a cell's match names only how it differs from the other cells.

    Raises: ConfigError where one run meets two cells.
    """
    cells: dict[str, list[RunRecord]] = {name: [] for name in table.cells}
    others = []
    for record in runs.records:
        if record.task != table.task:
            continue
        names = cells_of(table, record.config)
        if len(names) > 1:
            raise ConfigError(
                f"{table.name}: {record.name} meets the cells {', '.join(names)}; accepted is one cell a run"
            )
        if names:
            cells[names[0]].append(record)
        else:
            others.append(record)
    return Assigned({name: settle(found) for name, found in cells.items()}, tuple(settle(others)), runs.broken)


def settle(records: list[RunRecord]) -> list[RunRecord]:
    """Ordered by seed and name. Of several runs with one identity (a run that was repeated) the finished one stays."""
    kept, seen = [], set()
    for record in sorted(records, key=lambda r: (r.seed, r.status != FINISHED, r.name, r.path)):
        key = canonical(record.identity) if record.identity else None
        if key is None or key not in seen:
            kept.append(record)
        seen.add(key)
    return sorted(kept, key=lambda r: (r.seed, r.name, r.path))


def group(records: Iterable[RunRecord]) -> dict[str, list[RunRecord]]:
    """Runs that differ in nothing but the seed, by their name without it."""
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        setting = {key: value for key, value in (record.identity or record.config).items() if key != "seed"}
        groups.setdefault(canonical(setting), []).append(record)
    named: dict[str, list[RunRecord]] = {}
    for found in groups.values():
        name = re.sub(r"_*seed-\d+$", "", found[0].name) or found[0].name
        while name in named:
            name += "'"
        named[name] = found
    return named
