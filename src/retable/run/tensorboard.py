"""TensorBoard beside a run's curves: its figures as images, and the HParams tab over all runs of a sweep.

In the tab each run's hyperparameters stand beside its final metrics. A run leaves a session (its start with its
hyperparameters, and its end); a sweep leaves one description of all sessions below its folder, which names what varies
and the metrics. The tab takes the first description that it finds for the whole, and drops every hyperparameter that
this one does not name; so there is one, and runs have none of their own.
Without one (single runs, a sweep that is still going) the tab shows every key of every run; only for a run's own
directory, by itself, it then finds no metrics.

The records are those of tensorboard's own `hparams` API, made from its protocol buffers, because its helper functions
need TensorFlow. Files have a fixed name and no time in them: the same runs give the same bytes. No torch is imported.
"""

import io
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from retable import atomic
from retable.config.keys import differing, lookup
from retable.run import files

FIXED = "settings that all runs share"
EVENTS = "events.out.tfevents.0.hparams"  # a name by which TensorBoard takes it for events


def write_images(directory: Path, epoch: int) -> None:
    """Add every PNG of the run's figures to its validation events, under the figure's name, at an epoch."""
    from PIL import Image
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    values = []
    for path in sorted((directory / files.FIGURES).glob("*.png")):
        with Image.open(path) as picture:
            width, height, channels = *picture.size, len(picture.getbands())
        # The file's own bytes: SummaryWriter.add_image would decode and compress them again.
        image = Summary.Image(width=width, height=height, colorspace=channels, encoded_image_string=path.read_bytes())
        values.append(Summary.Value(tag=path.stem, image=image))
    writer = EventFileWriter(str(directory / "val"), filename_suffix=".figures")
    writer.add_event(Event(wall_time=time.time(), step=epoch, summary=Summary(value=values)))
    writer.close()


def write_hparams(directory: Path, hyperparameters: Mapping[str, Any]) -> None:
    """Write a run's session: values by dotted key.

    The metrics are those of the run's curves under train/ and val/. Lists and None are written as text, since the tab
    knows numbers, truth values and strings. The tab names the run by its path.
    """
    from tensorboard.plugins.hparams import api_pb2
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo

    start = SessionStartInfo()
    for key, value in sorted(hyperparameters.items()):
        _set(start.hparams[key], plain(value))
    end = SessionEndInfo(status=api_pb2.Status.Value("STATUS_SUCCESS"))
    _write(
        directory / EVENTS,
        {
            "_hparams_/session_start_info": HParamsPluginData(session_start_info=start),
            "_hparams_/session_end_info": HParamsPluginData(session_end_info=end),
        },
    )


RunSummary = tuple[Mapping[str, Any], Mapping[str, Any]]


def run_summary(run: Path) -> RunSummary:
    """A run's identity and its final metrics, from its files."""
    return _mapping(run / files.RUN, "identity"), _mapping(run / files.RESULT, "metrics.final")


def describe_sweep(folder: Path, summary_of: Callable[[Path], RunSummary] = run_summary) -> Path | None:
    """Write the description of every session below a sweep's folder (<folder>/<task>/<run>); None where there is none.

    The same is written into `tables`, below which sweeps keep links to their runs under short names.

    Args:
        known: gives a run's identity and final metrics.
    """
    runs = [path.parent for path in sorted(folder.glob(f"*/*/{files.RUN}"))]
    if (folder / "tables").is_dir():
        describe(folder / "tables", runs, summary_of)
    return describe(folder, runs, summary_of)


def describe(folder: Path, runs: Sequence[Path], summary_of: Callable[[Path], RunSummary] = run_summary) -> Path | None:
    """Write the description of runs' sessions into the folder that TensorBoard is shown; None where there is none.

    Named are the hyperparameters that differ between runs or that only some of them have, and the final metrics. What
    all runs have alike is written once, as a text. Args: known: as for `describe_sweep`.
    """
    runs = [run for run in runs if (run / EVENTS).exists()]
    if not runs:
        return None
    summaries = [summary_of(run) for run in runs]
    settings = [identity for identity, _ in summaries]
    named = {key: None for _, final in summaries for key in final}
    records = {"_hparams_/experiment": _experiment(settings, [key for key in named if "/" in key])}
    _write(folder / EVENTS, records, {FIXED: _table(fixed(settings))})
    return folder / EVENTS


def _mapping(path: Path, key: str) -> dict[str, Any]:
    """The mapping at a dotted key of a JSON file; {} where there is none, whatever stands there."""
    found = lookup(atomic.read_json(path) or {}, key)
    return found if isinstance(found, dict) else {}


def fixed(settings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all settings have alike.

    >>> fixed([{"lr": 0.1, "seed": 0}, {"lr": 0.1, "seed": 1, "momentum": 0.9}])
    {'lr': 0.1}
    """
    varied = differing(settings)
    return {key: plain(value) for key, value in sorted(settings[0].items()) if key not in varied}


def _table(settings: Mapping[str, Any]) -> str:
    rows = [f"| {key} | {str(value).replace('|', '&#124;')} |" for key, value in settings.items()]
    return "\n".join(["| setting | value |", "|---|---|", *rows])


def plain(value: Any) -> bool | float | str:
    return value if isinstance(value, bool | int | float | str) else str(value)


def _experiment(settings: Sequence[Mapping[str, Any]], metrics: Iterable[str]) -> Any:
    from tensorboard.plugins.hparams import api_pb2
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    # The tab shows the first five metrics at once: validation before training, scores before losses.
    order = sorted(metrics, key=lambda key: (key.endswith("/loss"), not key.startswith("val/"), key))
    pairs = [key.split("/", 1) for key in order if key.startswith(("train/", "val/"))]
    return HParamsPluginData(
        experiment=api_pb2.Experiment(
            hparam_infos=[
                _info(key, [plain(setting[key]) for setting in settings if key in setting])
                for key in sorted(differing(settings))
            ],
            metric_infos=[
                api_pb2.MetricInfo(name=api_pb2.MetricName(group=split, tag=tag), display_name=f"{split}/{tag}")
                for split, tag in pairs
            ],
        )
    )


def _info(key: str, values: Sequence[Any]) -> Any:
    """A hyperparameter's type and what values it takes, as the tab's filters need them."""
    from tensorboard.plugins.hparams import api_pb2

    info = api_pb2.HParamInfo(name=key, differs=True)
    if all(isinstance(value, bool) for value in values):
        info.type = api_pb2.DataType.Value("DATA_TYPE_BOOL")
        info.domain_discrete.extend(sorted(set(values)))
    elif all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        info.type = api_pb2.DataType.Value("DATA_TYPE_FLOAT64")
        info.domain_interval.min_value, info.domain_interval.max_value = min(values), max(values)
    else:
        info.type = api_pb2.DataType.Value("DATA_TYPE_STRING")
        info.domain_discrete.extend(sorted({str(value) for value in values}))
    return info


def _write(path: Path, records: Mapping[str, Any], texts: Mapping[str, str] | None = None) -> None:
    """An event file with a record a tag, and Markdown a tag; left as it is where nothing has changed."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    data = io.BytesIO()
    writer = RecordWriter(data)
    events = [Event(file_version="brain.Event:2")]
    events += [Event(summary=_summary(tag, record)) for tag, record in records.items()]
    events += [Event(summary=_text(tag, text)) for tag, text in (texts or {}).items()]
    for event in events:
        writer.write(event.SerializeToString(deterministic=True))
    if not path.exists() or path.read_bytes() != data.getvalue():
        atomic.write_bytes(path, data.getvalue(), durable=False)  # made again from the run's own files


def _summary(tag: str, data: Any) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata

    content = data.SerializeToString(deterministic=True)
    plugin = SummaryMetadata.PluginData(plugin_name="hparams", content=content)
    return Summary(value=[Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin))])


def _text(tag: str, text: str) -> Any:
    """What the Text tab shows."""
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboard.plugins.text.plugin_data_pb2 import TextPluginData

    content = TextPluginData(version=0).SerializeToString(deterministic=True)
    plugin = SummaryMetadata.PluginData(plugin_name="text", content=content)
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    tensor = TensorProto(dtype="DT_STRING", string_val=[text.encode()], tensor_shape=shape)
    value = Summary.Value(tag=f"{tag}/text_summary", metadata=SummaryMetadata(plugin_data=plugin), tensor=tensor)
    return Summary(value=[value])


def _set(field: Any, value: Any) -> None:
    if isinstance(value, bool):
        field.bool_value = value
    elif isinstance(value, str):
        field.string_value = value
    else:
        field.number_value = value
