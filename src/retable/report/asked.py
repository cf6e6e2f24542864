"""What this project's own runs were asked for, as the settings of a table's draft."""

from collections.abc import Mapping, Sequence
from typing import Any

from retable.config.keys import CHOOSING, LABELLED, SCALE, key_of, lookup
from retable.errors import ConfigError
from retable.experiment.fields import listed
from retable.report.runs import RunRecord

# Overrides that are no settings of a table: what sets its scale, where it lies, and how a sweep trains.
_NO_SETTING = (*CHOOSING, *SCALE, "data", "seed", "seeds", "output", "sweep", "tags", "logger", "checkpoint")


def settings_asked(records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Of each run the values of all keys that any of them was asked for; of an option its `name`, as in `model.name`.

    Raises:
        ConfigError: for runs of several tasks.
    """
    tasks = sorted({record.task for record in records})
    if len(tasks) > 1:
        raise ConfigError(f"the runs are of several tasks: {listed(tasks)}; accepted: --where task.name={tasks[0]}")
    asked = [key_of(text) for record in records for text in record.overrides]
    keys = [key for key in dict.fromkeys(asked) if key not in _NO_SETTING and key.split(".")[0] not in _NO_SETTING[-5:]]
    return [dict(_setting(record.config, key) for key in keys) for record in records]


def _setting(config: Mapping[str, Any], key: str) -> tuple[str, Any]:
    value = lookup(config, key)
    return (f"{key}.name", value.get("name")) if isinstance(value, Mapping) else (key, value)


def trained_again(table: Mapping[str, Any]) -> dict[str, Any]:
    """A draft whose grid chooses options as a command line does: `model: [cnn, fnn]` for `model.name`."""
    labels = {f"{group}.name": group for group in LABELLED}
    return {**table, "grid": [{labels.get(k, k): values for k, values in block.items()} for block in table["grid"]]}
