"""Runs of Weights & Biases: its own run files (`wandb/offline-run-*/run-*.wandb`), or a project through its API.

A run file is a log in LevelDB's format whose records are protocol buffers. The package `wandb` has no reader of it that
could be called, and none is needed: the few fields of a record that matter are described here by their numbers
(wandb/proto/wandb_internal.proto), which a protocol buffer never changes.
"""

import functools
import json
import math
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from retable.errors import ConfigError, DataError, first_line
from retable.report.runs import RunRecord
from retable.report.sources.base import Row, Source, make_record, number_of
from retable.run.files import FAILED, FINISHED, UNFINISHED

_MAGIC, _BLOCK, _HEAD = b":W&B", 32768, 7
_FULL, _LAST = 1, 4  # kinds of a chunk that end a record; 0 is padding
_NO_NUMBERS = ("NaN", "Infinity", "-Infinity")
_STATES = {"finished": FINISHED, "crashed": FAILED, "failed": FAILED, "killed": FAILED}


class WandB(Source):
    title = "Weights & Biases"
    place = "a folder with W&B's run files (*.wandb) in it or below, or <entity>/<project> with the package wandb"

    def read(self, place: str) -> list[RunRecord]:
        path = Path(place)
        if not path.exists() and len(path.parts) == 2 and not path.is_absolute():
            return self.read_project(place)
        if path.suffix == ".csv" and path.is_file():
            raise DataError(f"{place}: a CSV file; accepted: an export of W&B with --from csv")
        files = [path] if path.is_file() else sorted(path.rglob("*.wandb"))
        if not files:
            raise DataError(f"{place}: no run file (*.wandb); accepted: {self.place}")
        found = {}
        for record_id, record in map(read_file, dict.fromkeys(file.resolve() for file in files)):
            found[record_id] = record  # a run that was resumed has several files, the later one with all of it
        return sorted(found.values(), key=lambda record: (record.name, record.path))

    def read_project(self, place: str) -> list[RunRecord]:
        """Runs of a project on a server, under its address `<entity>/<project>`."""
        try:
            import wandb
        except ImportError:
            raise ConfigError(
                f"{place}: no such folder, and a project is read through the package wandb: pip install wandb"
            ) from None
        try:
            runs = list(wandb.Api().runs(place))
        except Exception as error:  # of the network, the login or the project, in many types
            raise DataError(f"{place}: {first_line(error)}") from None
        records = [
            make_record(
                run.name,
                {key: value for key, value in run.config.items() if not key.startswith("_")},
                (numbers_of(row.items(), row.get("_step")) for row in run.scan_history()),
                _STATES.get(run.state, UNFINISHED),
                commit=str(getattr(run, "commit", None) or ""),
                seconds=run.summary.get("_runtime"),
            )
            for run in runs
        ]
        return sorted(records, key=lambda record: record.name)


def read_file(path: Path) -> tuple[str, RunRecord]:
    """(the run's id, the run) of one run file. A file that a killed run left cut off is read as far as it goes."""
    settings: dict[str, Any] = {}
    rows: list[Row] = []
    name = identity = commit = ""
    code = seconds = None
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            name, identity, commit = record.run.display_name, record.run.run_id, record.run.git.commit
            settings |= _settings(record.run.config)
        elif kind == "config":
            settings |= _settings(record.config)
        elif kind == "history":
            items = [(item.key or ".".join(item.nested_key), _value(item)) for item in record.history.item]
            rows.append(numbers_of(items, record.history.step.num))
        elif kind == "exit":
            code, seconds = record.exit.exit_code, float(record.exit.runtime)
    status = UNFINISHED if code is None else FAILED if code else FINISHED
    return identity or path.stem, make_record(
        name or path.stem,
        settings,
        rows,
        status,
        path=path.parent.as_posix(),
        commit=commit,
        seconds=seconds or None,
        reason=f"exit code {code}" if code else "",
    )


def numbers_of(items: Any, step: Any) -> dict[str, float]:
    """The numbers of a row of W&B's history; a mapping's are called `val.accuracy`, as W&B calls them.

    What was logged as nan or infinite is one; W&B's server says it as a text. What is no number is left out.
    """
    row: dict[str, float] = {} if step is None else {"step": float(step)}
    for key, value in items:
        if isinstance(value, Mapping):
            row |= {f"{key}.{name}": number for name, number in numbers_of(value.items(), None).items()}
        elif not key.startswith("_") and (value in _NO_NUMBERS if isinstance(value, str) else _is_number(value)):
            row[key] = number_of(value)
    return row


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or not math.isnan(number_of(value))


def _settings(config: Any) -> dict[str, Any]:
    items = [(item.key or ".".join(item.nested_key), _value(item)) for item in config.update]
    return {key: value for key, value in items if not key.startswith("_")}


def _value(item: Any) -> Any:
    kinds = ("boolean", "integer", "number", "text")
    kind = next((name for name in kinds if name in item.DESCRIPTOR.fields_by_name and item.HasField(name)), None)
    if kind:
        return getattr(item, kind)
    try:
        return json.loads(item.value_json or getattr(item, "json", "") or "null")
    except ValueError:
        return None


def records(path: Path) -> Iterator[Any]:
    """The records of a run file.  Raises: DataError for another file."""
    from google.protobuf.message import DecodeError

    data = path.read_bytes()
    if not data.startswith(_MAGIC):
        raise DataError(f"{path}: is no run file of W&B")
    message, at = b"", _HEAD
    while at + _HEAD <= len(data):
        left = _BLOCK - at % _BLOCK
        if left < _HEAD:
            at += left
            continue
        _, size, kind = struct.unpack_from("<IHB", data, at)
        if not kind:
            at += left
            continue
        if at + _HEAD + size > len(data):
            return
        message += data[at + _HEAD : at + _HEAD + size]
        at += _HEAD + size
        if kind in (_FULL, _LAST):
            try:
                yield _record_class().FromString(message)
            except DecodeError:
                raise DataError(f"{path}: is damaged at byte {at}") from None
            message = b""


@functools.cache
def _record_class() -> Any:
    """The message `Record`, with those of its fields that are read."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = {"text": 9, "double": 1, "int32": 5, "int64": 3, "sint64": 18, "bool": 8}
    item = {"key": (1, "text"), "nested_key": (2, "*text"), "value_json": (16, "text")}
    typed = {"boolean": (4, "bool"), "integer": (5, "sint64"), "number": (6, "double"), "text": (7, "text")}
    fields: dict[str, dict[str, tuple[int, str]]] = {
        "Setting": item,
        "Item": item | {name: (number, f"?{kind}") for name, (number, kind) in typed.items()} | {"json": (8, "text")},
        "Step": {"num": (1, "int64")},
        "Git": {"commit": (2, "text")},
        "Config": {"update": (1, "*Setting")},
        "History": {"item": (1, "*Item"), "step": (2, "Step")},
        "Exit": {"exit_code": (1, "int32"), "runtime": (2, "int32")},
        "Run": {"run_id": (1, "text"), "config": (4, "Config"), "display_name": (8, "text"), "git": (21, "Git")},
        "Record": {
            "history": (2, "?History"),
            "config": (5, "?Config"),
            "run": (17, "?Run"),
            "exit": (18, "?Exit"),
        },
    }
    file = descriptor_pb2.FileDescriptorProto(name="retable_wandb.proto", package="retable_wandb", syntax="proto2")
    for name, members in fields.items():
        message = file.message_type.add(name=name)
        chosen = "record_type" if name == "Record" else "value"
        if any(kind.startswith("?") for _, kind in members.values()):
            message.oneof_decl.add(name=chosen)
        for member, (number, kind) in members.items():
            field = message.field.add(name=member, number=number, label=3 if kind.startswith("*") else 1)
            plain = kind.lstrip("*?")
            if plain in kinds:
                field.type = kinds[plain]
            else:
                field.type, field.type_name = 11, f".retable_wandb.{plain}"
            if kind.startswith("?"):
                field.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("retable_wandb.Record"))
