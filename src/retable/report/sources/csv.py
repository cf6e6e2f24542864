"""Runs in a CSV file, a row a run: columns of settings and of metrics, such as an export from a dashboard.

Any column may be named by a table, as a setting (`match`) or, where it holds numbers, as a metric (`column`).
"""

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from retable.config.keys import canonical, lookup
from retable.errors import DataError, first_line
from retable.report.runs import RunRecord
from retable.report.settings import settings_of
from retable.report.sources.base import Source, make_record, number_of, planned_epochs, value_of
from retable.run.files import FAILED, FINISHED, UNFINISHED

_NAMES = ("name", "run", "run_name", "id", "run_id")
_STATUS = ("state", "status")
_STOPPED, _GOING_ON = ("failed", "crashed", "killed", "error"), ("running", "unfinished", "pending", "queued")


class CSV(Source):
    title = "a CSV file"
    place = "a CSV file with a head and a row a run"

    def read(self, place: str) -> list[RunRecord]:
        path = Path(place)
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                text = file.read()
            between = delimiter(text)
            rows = list(csv.DictReader(io.StringIO(text), delimiter=between))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            reason = getattr(error, "strerror", None) or first_line(error)
            raise DataError(f"{place}: {reason}; accepted: {self.place}") from None
        if not rows:
            raise DataError(f"{place}: no row; accepted: {self.place}")
        head = [name.strip() for name in next(csv.reader(io.StringIO(text), delimiter=between)) if name.strip()]
        if twice := [name for name in head if head.count(name) > 1]:
            raise DataError(f"{place}: two columns are called {twice[0]}; accepted: a name for each")
        self.status_recorded &= any(key and key.strip().lower() in _STATUS for key in rows[0])
        for number, row in enumerate(rows, 1):
            if None in row or None in row.values():
                raise DataError(f"{place}: row {number} has not as many values as the head has names")
        for key in rows[0]:
            values = plain([row[key] for row in rows], decimal_comma=between == ";")
            for row, value in zip(rows, values, strict=True):
                row[key] = value
        return planned([self.record(row, number) for number, row in enumerate(rows, 1)])

    def record(self, row: dict[str, str], number: int) -> RunRecord:
        named = {key.strip().lower(): value for key, value in row.items()}
        name = next((named[key] for key in _NAMES if named.get(key)), f"row {number}")
        state = next((named[key].strip().lower() for key in _STATUS if named.get(key)), "")
        status = FAILED if state in _STOPPED else UNFINISHED if state in _GOING_ON else FINISHED
        settings = {key.strip(): value_of(value) for key, value in row.items() if value.strip()}
        numbers = {key.strip(): number_of(value) for key, value in row.items() if value.strip()}
        metrics = {key: value for key, value in numbers.items() if value == value}
        record = make_record(name, settings, [{"epoch": 1.0} | metrics] if metrics else [], status)
        return replace(record, summary=True)

    def doubts(self, place: str, records: Sequence[RunRecord]) -> list[str]:
        keys = settings_of(records)
        groups: dict[str, list[float]] = {}
        for record in records:
            setting = {key: lookup(record.config, key) for key in keys} | {"seed": record.seed}
            named = "" if record.name.startswith("row ") else record.name
            epochs = [value for key, value in record.config.items() if key.lower() == "epoch"]
            groups.setdefault(f"{named} {canonical(setting)}", []).extend(epochs)
        repeated = [epochs for epochs in groups.values() if len(epochs) > 1]
        if not repeated or any(len(set(epochs)) < len(epochs) for epochs in repeated):
            return []
        text = "differ in epoch alone, as in a file with a row an epoch: here each is taken for a run."
        return [f"Rows of {place} {text}"]


def planned(records: list[RunRecord]) -> list[RunRecord]:
    """The runs with the epochs that they were to have. Without such a setting a column `epoch` says how far each got,
    the longest of them so how far all were to get; without one nothing does."""
    last = max((epoch for record in records if (epoch := number_of(record.config.get("epoch"))) < math.inf), default=0)
    found = []
    for record in records:
        epochs = planned_epochs(record.config, {"epoch": []}) or int(last)
        result = {key: value for key, value in record.result.items() if key != "config_epochs"}
        found.append(replace(record, result=result | ({"config_epochs": epochs} if epochs > 0 else {})))
    return found


def plain(values: list[str], decimal_comma: bool) -> list[str]:
    """A column's values without what people write beside numbers, if all of them have it: `71.2 %`; `71,2` in sheets
    whose values stand between semicolons."""
    signed = all(value.strip().endswith("%") for value in values if value.strip())
    numbers = [value.strip().removesuffix("%").strip() if signed else value.strip() for value in values]
    pattern = r"[-+]?\d+([.,]\d+)?" if decimal_comma else r"[-+]?\d+(\.\d+)?"
    if not all(re.fullmatch(pattern, number) for number in numbers if number):
        return values
    return [number.replace(",", ".") for number in numbers] if decimal_comma else numbers


def delimiter(text: str) -> str:
    """Comma, semicolon or tab: whichever the head has most of."""
    head = text.partition("\n")[0]
    return max(",;\t", key=head.count)
