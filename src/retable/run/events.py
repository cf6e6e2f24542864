"""TensorBoard's events of a run: an epoch's row under train/ and val/. No torch is imported."""

import time
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

SPLITS = ("train", "val")


class Events:
    """Writes rows of a history as scalars.

    Args:
        directory: the run's.
        purge: None, or the first epoch that is written: what an earlier process wrote from it on is not shown.
    """

    def __init__(self, directory: Path, purge: int | None) -> None:
        self._writers = {split: EventFileWriter(str(directory / split)) for split in SPLITS}
        for writer in self._writers.values() if purge is not None else ():
            now = time.time()
            writer.add_event(Event(wall_time=now, step=purge, file_version="brain.Event:2"))
            writer.add_event(Event(wall_time=now, step=purge, session_log=SessionLog(status=SessionLog.START)))

    def write(self, row: dict[str, Any]) -> None:
        """Write a row, and have it on disk. train/loss and val/loss are one tag under two writers, and so one chart."""
        values: dict[str, list[Summary.Value]] = {split: [] for split in SPLITS}
        for key, value in row.items():
            split, _, name = key.partition("/")
            if split in values:
                values[split].append(_scalar(name, value))
            elif split not in ("epoch", "step"):
                values["train"].append(_scalar(key, value))
        for split, writer in self._writers.items():
            summary = Summary(value=values[split])
            writer.add_event(Event(wall_time=time.time(), step=row["epoch"], summary=summary))
            writer.flush()

    def close(self) -> None:
        """End the files."""
        for writer in self._writers.values():
            writer.close()


def _scalar(tag: str, value: float) -> Any:
    return Summary.Value(tag=tag, simple_value=float(value))
