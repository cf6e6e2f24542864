"""A table's file drafted from what varies among runs: rows, columns, metrics and cells, ready for published values."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from retable.config.keys import flatten
from retable.errors import ConfigError
from retable.experiment.fields import listed
from retable.report.layout import short
from retable.report.runs import RunRecord
from retable.report.settings import factors, is_measure, varied
from retable.report.sources.base import is_seed
from retable.run import files

_LESS = ("loss", "error", "err", "mse", "mae", "rmse", "perplexity", "ppl", "wer", "fid", "time", "seconds")
_MOST = 4  # metrics of a draft for which nobody asked
_HEAD = """\
# {runs} runs of {program}, grouped by everything but the seed.
# To do: source and title; each cell's published figures; the claims, for example
#   - {{text: {first} is best, kind: best, metric: {metric}, cell: {first}}}
# Then: {command}
"""
_HELD_OUT = {"val", "valid", "validation", "test", "eval"}
_TIMES = {"seconds", "time", "duration", "runtime"}  # how long something took is a metric of who asks for it


def draft(
    records: Sequence[RunRecord],
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    metrics: Sequence[str] = (),
    settings: Sequence[Mapping[str, Any]] | None = None,
    title: str = "What varied",
) -> dict[str, Any]:
    """The `table` of some runs, as plain data.

    Args:
        rows, columns: settings by their key or its last part; by default all that vary are rows. What else varies is
            added to the rows, so that no cell mixes two settings.
        metrics: columns of the runs' histories; by default those on validation or test data.
        settings: what varied of each run, where its config is not to be asked.

    Raises:
        ConfigError: for a name that is no setting that varies, or no metric; where nothing varies.
    """
    found = factors(records) if settings is None else varied(settings)
    if not found:
        raise ConfigError("the runs differ in nothing but the seed; accepted: runs of several settings")
    row_keys, column_keys = ([resolve(name, found) for name in names] for names in (rows, columns))
    row_keys += [key for key in found if key not in (*row_keys, *column_keys)]
    if not row_keys:
        row_keys, column_keys = column_keys, []
    keys = [*row_keys, *column_keys]
    cells: dict[str, Any] = {}
    flat = settings if settings is not None else [flatten(dict(record.config)) for record in records]
    settings = [{key: one.get(key) for key in keys} for one in flat]
    for setting in sorted(settings, key=lambda setting: [order_of(setting[key]) for key in keys]):
        label = " ".join(_label(key, value) for key, value in setting.items())
        while cells.setdefault(label, {"match": setting})["match"] != setting:  # other settings that read alike
            label += "'"
    epochs = [record.result["config_epochs"] for record in records if record.result.get("config_epochs")]
    table: dict[str, Any] = {"source": "runs", "title": title, "published_epochs": max(epochs, default=1)}
    table |= {"grid": [{key: found[key] for key in keys}], "rows": row_keys}
    table |= {"columns": column_keys} if column_keys else {}
    return table | {"metrics": metrics_of(records, metrics), "cells": cells, "claims": []}


def draft_text(table: dict[str, Any], runs: int, program: str, command: str, task: str = "") -> str:
    """The draft as YAML, with what is left to do.

    Args:
        command: makes the table's page from its file.
        task: of this project's own runs: the file is an experiment of this task then.
    """
    head = _HEAD.format(
        runs=runs,
        program=program,
        command=" ".join(command.splitlines()),  # a comment ends with its line
        first=next(iter(table["cells"])),
        metric=next(iter(table["metrics"])),
    )
    if task:
        head = f"# @package _global_\n{head}defaults:\n  - override /task: {task}\n"
    lines = ["table:"]
    for key, value in table.items():
        if key == "grid":
            lines += ["  grid:", *(f"    - {_flow(block)}" for block in value)]
        elif isinstance(value, dict):
            lines += [f"  {key}:", *(f"    {_flow({name: one})[1:-1]}" for name, one in value.items())]
        else:
            lines.append(f"  {_flow({key: value})[1:-1]}")
    return head + "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    """In one line, as the package's own tables are written."""
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**9, allow_unicode=True)
    return text.strip()


def resolve(name: str, found: dict[str, list[Any]]) -> str:
    """A setting by its dotted key, or by a part of it that no other has.  Raises: ConfigError."""
    if name in found:
        return name
    named = [key for key in found if name in key.split(".")]
    if len(named) != 1:
        what = "is not among what varies" if not named else f"may be {listed(named)}"
        raise ConfigError(f"{name}: {what}; accepted: {listed(named or found)}")
    return named[0]


def metrics_of(records: Sequence[RunRecord], asked: Sequence[str]) -> dict[str, Any]:
    """Metrics by name, of the columns that were asked for or, without, of those on validation or test data."""
    columns = list(dict.fromkeys(c for record in records for c in record.history if c != "epoch"))
    for name in asked:
        if name not in columns:
            raise ConfigError(f"--metric {name}: is no figure of the runs; accepted: {listed(columns)}")
    own = _judged_by(records)
    found = list(asked)
    if not found and own:
        columns = list(files.metrics_of(dict.fromkeys(columns)))
    elif not found:
        columns = [c for c in columns if is_measure(c, [record.config.get(c) for record in records])] or [
            c for c in columns if not is_seed(c)
        ]
    if not found:
        held_out = [
            c for c in columns if _HELD_OUT & (words := set(re.split(r"[/_.\s-]", c.lower()))) and not words & _TIMES
        ]
        rest = sorted(held_out or columns, key=_is_less)
        found = list(dict.fromkeys([*(c for c in own if c in columns), *rest]))[:_MOST]
    if not found:
        raise ConfigError("the runs have recorded no figure")
    metrics: dict[str, Any] = {}
    for column in found:
        spec: dict[str, Any] = {
            "column": column,
            "digits": digits([r.history[column][-1] for r in records if r.history.get(column)]),
        }
        less = _is_less(column) if own.get(column) is None else not own[column]
        name = column.replace("/", "_").replace(".", "_")
        while name in metrics:
            name += "'"
        metrics[name] = spec | ({"better": "lower"} if less else {})
    return metrics


def _judged_by(records: Sequence[RunRecord]) -> dict[str, bool | None]:
    """What this project's runs are judged by, and whether more of it is better; nothing of other programs' runs."""
    said: dict[str, bool | None] = {}
    for record in records:
        metrics = record.result.get("metrics")
        if isinstance(metrics, Mapping) and isinstance(metrics.get("best_by"), str):
            higher = metrics.get("higher_is_better")
            said[metrics["best_by"]] = higher if isinstance(higher, bool) else None
    return said


def digits(values: Sequence[float]) -> int:
    """Decimals that show four digits of values of this size."""
    largest = max((abs(value) for value in values if value == value), default=0.0)
    if 0 < largest < 0.01:
        return 3 - math.floor(math.log10(largest))
    return 4 if largest < 10 else 2 if largest < 1000 else 0


def _is_less(column: str) -> bool:
    words = column.lower().replace("-", "_").replace("/", "_").replace(".", "_").split("_")
    return any(word in _LESS for word in words)


def _label(key: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    return f"no {short(key)}" if value is None else f"{short(key)} {value}"


def order_of(value: Any) -> tuple[int, float, str]:
    """Numbers by size, then texts, then what is not set."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (0, float(value), "")
    return (2, 0.0, "") if value is None else (1, 0.0, str(value))
