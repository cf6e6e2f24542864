"""The HParams tab of TensorBoard: a run's hyperparameters beside its final metrics.

The records are those of tensorboard's own `hparams` API, made from its protocol buffers, because its helper functions
need TensorFlow.
"""

from pathlib import Path
from typing import Any


def write_hparams(directory: Path, hyperparameters: dict[str, Any], metrics: dict[str, Any]) -> None:
    """Write one session: values by dotted key, and where TensorBoard finds the metrics (`train/`, `val/`).

    Lists and None are written as text, since the tab knows numbers, truth values and strings.
    """
    from tensorboard.plugins.hparams import api_pb2
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
    from torch.utils.tensorboard import SummaryWriter

    plain = {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in hyperparameters.items()}
    names = [key.split("/") for key in metrics if key.startswith(("train/", "val/"))]
    experiment = api_pb2.Experiment(
        hparam_infos=[api_pb2.HParamInfo(name=key, type=_kind(value)) for key, value in plain.items()],
        metric_infos=[api_pb2.MetricInfo(name=api_pb2.MetricName(group=part, tag=tag)) for part, tag in names],
    )
    start = SessionStartInfo(group_name=directory.name)
    for key, value in plain.items():
        _set(start.hparams[key], value)
    end = SessionEndInfo(status=api_pb2.Status.Value("STATUS_SUCCESS"))
    with SummaryWriter(str(directory)) as writer:
        for tag, data in (
            ("_hparams_/experiment", HParamsPluginData(experiment=experiment)),
            ("_hparams_/session_start_info", HParamsPluginData(session_start_info=start)),
            ("_hparams_/session_end_info", HParamsPluginData(session_end_info=end)),
        ):
            writer.file_writer.add_summary(_summary(tag, data))


def _summary(tag: str, data: Any) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata

    plugin = SummaryMetadata.PluginData(plugin_name="hparams", content=data.SerializeToString())
    return Summary(value=[Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin))])


def _kind(value: Any) -> Any:
    from tensorboard.plugins.hparams import api_pb2

    kinds = {bool: "DATA_TYPE_BOOL", int: "DATA_TYPE_FLOAT64", float: "DATA_TYPE_FLOAT64", str: "DATA_TYPE_STRING"}
    return api_pb2.DataType.Value(kinds[type(value)])


def _set(field: Any, value: Any) -> None:
    if isinstance(value, bool):
        field.bool_value = value
    elif isinstance(value, str):
        field.string_value = value
    else:
        field.number_value = value
