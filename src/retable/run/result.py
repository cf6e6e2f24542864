"""What a run says of itself: run.json at its start, the checkpoint's own description, result.json at its end.

No torch is imported: the sweep marks what a dead worker left.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from retable import atomic
from retable.config import own_code, precisions
from retable.config.identity import identity
from retable.config.keys import own
from retable.errors import RetableError, first_line, in_words, out_of_memory
from retable.run import facts, files

if TYPE_CHECKING:
    from retable.run.record import Record
    from retable.tasks.base import Task


def write_plan(directory: Path, name: str, config: dict[str, Any], overrides: Sequence[str]) -> None:
    """Fix what a run is on disk, in run.json and for people in config.yaml; what it has noted of its data stays."""
    kept = own(config)
    known = files.described(directory)
    run = known if isinstance(known, dict) else {}
    run |= {"name": name, "task": config["task"]["name"], "overrides": list(overrides)}
    run |= {"config": kept, "identity": identity(kept)}
    atomic.write_json(directory / files.RUN, run)
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # libyaml's, ten times as fast
    atomic.write_text(directory / files.CONFIG, yaml.dump(kept, Dumper=dumper, sort_keys=False))


def note_start(directory: Path, run: dict[str, Any], config: dict[str, Any], data: Any) -> None:
    """Add to run.json what was unknown when the run was planned: its data."""
    run |= {"config": config, "identity": identity(config), "fingerprint": data.fingerprint, "counts": data.counts}
    run.setdefault("name", directory.name)
    _note_code(directory, run, own_code.versions(config))
    atomic.write_json(directory / files.RUN, run)
    atomic.sync(directory)  # what a run leaves is of no use without it


def _note_code(directory: Path, run: dict[str, Any], now: dict[str, str]) -> None:
    """Add the versions of the user's own modules that train from here on, and which of them had trained it before."""
    before = run.get("code", {})
    if not (directory / files.CHECKPOINT).exists():
        run.pop("code_changed", None)
    elif "code" in run and (others := own_code.changed(before, now)):
        print(f"code: {in_words(others)} changed since this run was begun", flush=True)
        run["code_changed"] = sorted({*run.get("code_changed", []), *others})
    if now or before:
        run["code"] = now


def about_data(data: Any) -> str:
    """What was read and what was left out and why, and what else a set has to say of itself."""
    counts = data.counts
    parts = ", ".join(f"{counts[split]:,} {split}" for split in ("train", "val", "test") if split in counts)
    lines = [f"data: {parts} ({data.source})"]
    lines += [f"left out: {count:,}, {reason}" for reason, count in counts.get("reasons", {}).items()]
    return "\n".join(lines + list(filter(None, [data.describe()])))


def portable(config: dict[str, Any], data: Any, name: str) -> dict[str, Any]:
    """What a checkpoint carries to be used without its directory: plain values only."""
    from retable.tasks.build import description

    return description(config, data) | {
        "name": name,
        "mean": [float(v) for v in data.mean],
        "std": [float(v) for v in data.std],
        "fingerprint": data.fingerprint,
    }


def phases(record: "Record") -> dict[str, float]:
    """Seconds of training and of validation."""
    return {split: sum(row.get(f"seconds/{split}") or 0.0 for row in record.rows) for split in ("train", "val")}


def result_of(
    config: dict[str, Any], run: dict[str, Any], record: "Record", task: "Task", data: Any, kind: str, steps: int
) -> dict[str, Any]:
    """What result.json holds beside the status: metrics, and where they come from."""

    def metrics_of(row: dict[str, Any]) -> dict[str, Any]:
        return {key: row[key] for key in ("epoch",) if key in row} | files.metrics_of(row)

    last, trainer = record.rows[-1] if record.rows else {}, config["trainer"]
    train_seconds = phases(record)["train"]
    return {
        "name": run.get("name"),
        "task": config["task"]["name"],
        "seed": config["seed"],
        **({"tags": config["tags"]} if config.get("tags") else {}),
        "epochs": record.epochs,
        "step": steps,
        **({} if record.early_stop is None else {"early_stop": record.early_stop.both_forms(record.rows)}),
        "metrics": {
            "final": metrics_of(last),
            "best": metrics_of(record.best),
            "best_by": record.metric,
            "higher_is_better": record.higher_is_better,
        },
        **(task.counts(data) if record.rows else {}),
        "parameters": facts.count_parameters(task.model),
        "weights": getattr(task.model, "weights_source", None),
        "steps_per_second": steps / train_seconds if train_seconds else None,
        "seconds_per_epoch": train_seconds / record.epochs if record.epochs else None,
        "peak_memory_mb": facts.peak_memory_mb(kind),
        "precision": precisions.of_unknown_work(trainer["precision"]),
        "device": facts.device(kind),
        "data": {
            "source": config["data"].get("source", "real"),
            "fingerprint": data.fingerprint,
            "counts": data.counts,
            "classes": list(data.classes),
            # Of whole volumes (A2); those of the patches are the rows of the confusion matrices.
            **{key: data.splits.extra[key] for key in ("class_counts",) if key in data.splits.extra},
        },
        **{key: run[key] for key in ("code", "code_changed") if run.get(key)},
        "git": facts.git(),
        "versions": facts.versions(),
    }


def write_failure(directory: Path, reason: str, config: dict[str, Any] | None = None) -> None:
    """Mark a run as failed with its reason, in its directory; on a full disk it stays unmarked."""
    kept = {"seed": config["seed"]} if config else {}
    failure = {"status": files.FAILED, "reason": reason, "log": str(directory / files.LOG), **kept}
    with contextlib.suppress(OSError):
        atomic.write_json(directory / files.RESULT, failure | {"git": facts.git(), "versions": facts.versions()})


def describe(error: BaseException) -> str:
    """An exception as a one-line reason."""
    if isinstance(error, SystemExit):
        return f"the run called sys.exit({error.code})"
    error = out_of_memory(error) or error
    line, kind = first_line(error), type(error).__name__
    if isinstance(error, RetableError):
        return line
    return f"{kind}: {'no message' if line == kind else line}"
