"""Runs of TensorBoard: folders with event files, whoever wrote them.

A run is a folder with events; what lies below it (`train/`, `val/`, the folders of `add_hparams` and `add_scalars`) is
part of it. Folders called train, val or test without a run above them are parts of the folder that holds them, as Keras
leaves them. Settings come from the HParams tab's records, from Lightning's `hparams.yaml`, and from a path's
`key=value`; TensorBoard records nothing else of a run (what a name holds otherwise, `with_names` reads).
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from retable.atomic import read_yaml
from retable.errors import DataError
from retable.report.runs import RunRecord
from retable.report.sources.base import SPLITS, Source, by_step, make_record, value_of
from retable.run.files import FAILED, FINISHED

_TIME = re.compile(r"\d{9,}(\.\d+)?")  # how add_hparams names its folder
_START, _END = "_hparams_/session_start_info", "_hparams_/session_end_info"


class TensorBoard(Source):
    title = "TensorBoard"
    place = "a folder with event files (events.out.tfevents.*) in it or below"
    status_recorded = False

    def read(self, place: str) -> list[RunRecord]:
        root = Path(place)
        logs = {folder: Log(folder) for folder in sorted(folders_of(root))}
        logs = {folder: log for folder, log in logs.items() if log.scalars or log.settings}
        if not logs:
            raise DataError(f"{place}: no event file with scalars; accepted: {self.place}")
        runs: dict[Path, list[Path]] = {}
        for folder in logs:
            runs.setdefault(top(folder, root, logs), []).append(folder)
        return [self.record(run, root, {part: logs[part] for part in parts}) for run, parts in sorted(runs.items())]

    def record(self, run: Path, root: Path, parts: "dict[Path, Log]") -> RunRecord:
        settings: dict[str, Any] = from_path(run.relative_to(root))
        settings |= from_lightning(run / "hparams.yaml")
        points: list[tuple[str, float, float]] = []
        last: dict[str, float] = {}
        failed = False
        for folder, log in parts.items():
            settings |= log.settings
            failed |= log.failed
            inner = folder.relative_to(run).parts
            lasting = bool(inner) and bool(_TIME.fullmatch(inner[-1]))
            prefix = "" if lasting or not inner else "/".join(inner) + "/"
            for tag, found in log.scalars.items():
                if lasting:
                    last.update((tag, value) for _, value in found)
                else:
                    name = "epoch" if tag == "epoch" else f"{prefix}{tag}"
                    points += [(name, step, value) for step, value in found]
        rows = by_step(points)
        if last:  # recorded once of the run as a whole: with its last step
            rows[-1:] = [(rows[-1] if rows else {}) | last]
        return make_record(
            run.relative_to(root).as_posix() if run != root else run.name,
            settings,
            rows,
            FAILED if failed else FINISHED,
            path=run.as_posix(),
        )


class Log:
    """What one folder's event files hold: scalars as tag -> (step, value), and the HParams tab's settings."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.backend.event_processing import event_accumulator
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
        from tensorboard.util.tensor_util import make_ndarray

        log = event_accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0, "images": 1})
        log.Reload()
        self.settings: dict[str, Any] = {}
        self.scalars: dict[str, list[tuple[int, float]]] = {}
        self.failed = False
        for tag in log.Tags()["scalars"]:
            self.scalars[tag] = [(event.step, event.value) for event in log.Scalars(tag)]
        for tag in log.Tags()["tensors"]:  # TensorFlow 2 writes its scalars as tensors
            if log.SummaryMetadata(tag).plugin_data.plugin_name == "scalars":
                self.scalars[tag] = [(e.step, float(make_ndarray(e.tensor_proto))) for e in log.Tensors(tag)]
        try:
            hparams = log.PluginTagToContent("hparams")
        except KeyError:
            hparams = {}
        if _START in hparams:
            start = HParamsPluginData.FromString(hparams[_START]).session_start_info
            self.settings = {key: plain(value) for key, value in start.hparams.items()}
        if _END in hparams:
            self.failed = HParamsPluginData.FromString(hparams[_END]).session_end_info.status == 2


def plain(value: Any) -> Any:
    """A setting of the HParams tab, which knows no whole numbers: 3.0 is 3."""
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        return int(value.number_value) if value.number_value.is_integer() else value.number_value
    return value_of(value.string_value) if kind == "string_value" else bool(value.bool_value)


def folders_of(root: Path) -> Iterator[Path]:
    """The folders with event files at and below a place.

    Links to folders are followed, each folder is one once and by its own path where it has one there; a link to a
    folder that holds it, or the place, is not.
    """
    seen: set[Path] = set()
    waiting, links = [root], list[Path]()
    while waiting or links:
        folder = waiting.pop() if waiting else links.pop(0)
        real = folder.resolve()
        if real in seen:
            continue
        seen.add(real)
        try:
            inside = sorted(folder.iterdir())
        except OSError:  # not there, or not to be read
            continue
        if any("tfevents" in path.name and path.is_file() for path in inside):
            yield folder
        for path in inside:
            if path.is_symlink() and path.is_dir():
                target = path.resolve()
                links += [] if real.is_relative_to(target) or root.resolve().is_relative_to(target) else [path]
            elif path.is_dir():
                waiting.append(path)


def top(folder: Path, root: Path, logs: Any) -> Path:
    """The run that a folder of events is of: the topmost folder of events above it, below the place that was given."""
    above = [parent for parent in folder.parents if parent.is_relative_to(root)]
    runs = [parent for parent in above if parent in logs and parent != root]
    if runs:
        return runs[-1]
    if folder != root and (folder.name in SPLITS or _TIME.fullmatch(folder.name)):
        return folder.parent
    return folder


def from_path(path: Path) -> dict[str, Any]:
    """Settings in a path, as Hydra names folders: `dropout=0.3,seed=1`."""
    pairs = [text.partition("=") for part in path.parts for text in part.split(",")]
    return {key.lstrip("+"): value_of(value) for key, sign, value in pairs if sign and key}


def from_lightning(path: Path) -> dict[str, Any]:
    try:
        found = read_yaml(path)
    except (OSError, ValueError):  # not there, or with Python objects in it, which are not read
        return {}
    return found if isinstance(found, dict) else {}
