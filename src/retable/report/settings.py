"""The settings in which runs of other programs differ, without metrics and without what only names a run."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from retable.config.keys import canonical, flatten, lookup
from retable.experiment.fields import listed
from retable.report.runs import RunRecord
from retable.report.sources.base import SPLITS, UNSEEDED, is_seed

MEASURES = (
    "loss",
    "acc",
    "dice",
    "iou",
    "jaccard",
    "f1",
    "auc",
    "map",
    "error",
    "mse",
    "mae",
    "rmse",
    "bleu",
    "perplexity",
)
# What names a run or says where and when it was, and sets nothing.
_INCIDENTAL = ("name", "run", "run_name", "run_id", "id", "time", "date", "timestamp", "created", "runtime", "duration")
_INCIDENTAL += (
    "state",
    "status",
    "host",
    "hostname",
    "user",
    "output_dir",
    "log_dir",
    "run_dir",
    "work_dir",
    "seconds",
)
# Names and numbers are of a run at the top, or below these; `model.name` is a setting.
_NAMES, _OF_RUNS = (
    ("name", "id"),
    ("run", "trial", "job", "experiment", "logger", "wandb", "mlflow", "comet", "neptune"),
)
_PROGRESS = ("epoch", "step", "global_step")


def settings_of(records: Sequence[RunRecord]) -> list[str]:
    """All settings of runs that are no metrics and do not only name a run, by dotted key in order of appearance."""
    flat = [flatten(dict(record.config)) for record in records]
    keys = dict.fromkeys(key for one in flat for key in one if key)
    columns = {column.replace("/", "."): column for record in records for column in record.history}
    return [
        key
        for key in keys
        if not is_incidental(key) and not (key in columns and is_measure(columns[key], [one.get(key) for one in flat]))
    ]


def is_incidental(key: str) -> bool:
    """Whether a setting only names a run, or says where, when or how far it ran."""
    *above, last = (re.sub(r"[-\s]", "_", part) for part in key.lower().split("."))
    if last in _NAMES and above and above[-1] not in _OF_RUNS:
        return False
    return last in _INCIDENTAL or is_progress(key)


def is_progress(key: str) -> bool:
    """Whether it says how far a run has got, or is of a logger's own bookkeeping, as `_step` of W&B (but `_target_`).

    >>> [is_progress(key) for key in ("epoch", "trainer.step", "_wandb.time", "scheduler.step", "model._target_")]
    [True, True, True, False, False]
    """
    parts = key.split(".")
    of_all = len(parts) == 1 or parts[-2].lower() in (*SPLITS, "trainer")
    return (of_all and parts[-1].lower() in _PROGRESS) or any(part[:1] == "_" and part[-1:] != "_" for part in parts)


def varied(settings: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The values of each key in which settings differ, but for the seed; a key that is absent counts as null.

    >>> varied([{"lr": 0.1, "seed": 0}, {"lr": 0.1, "seed": 1, "momentum": 0.9}])
    {'momentum': [None, 0.9]}
    """
    found = {}
    for key in dict.fromkeys(key for one in settings for key in one):
        values = list({canonical(one.get(key)): one.get(key) for one in settings}.values())
        if len(values) > 1 and key.split(".")[-1] != "seeds" and not is_seed(key):
            found[key] = values
    return found


def factors(records: Sequence[RunRecord]) -> dict[str, list[Any]]:
    """The settings in which runs differ, but for the seed and for what is another text in every run; their values."""
    if len(records) < 2:
        return {}
    allowed = set(settings_of(records))
    return {
        key: values
        for key, values in varied([flatten(dict(record.config)) for record in records]).items()
        if key in allowed and not (len(values) == len(records) > 2 and all(isinstance(value, str) for value in values))
    }


def factors_text(records: Sequence[RunRecord]) -> str:
    """E.g. `dropout.p (0.1, 0.5)`, for a message."""
    return listed(f"{key} ({listed(values)})" for key, values in factors(records).items())


def is_measure(key: str, values: Sequence[Any]) -> bool:
    """Whether a column that holds numbers is a metric and no setting: by its name, else if every run has another.

    Of a tag with slashes (`Accuracy/test`, `Loss/train`) any part may say so; of a dotted key (`loss.alpha`) the last,
    or the first, which is then the part of the data.
    """
    lowered = re.sub(r"[-\s]", "_", key.lower())
    parts = lowered.replace("/", ".").split(".")
    words = [word for part in (parts if "/" in lowered else parts[-1:]) for word in part.split("_")]
    if parts[0].split("_")[0] in SPLITS or parts[-1] in SPLITS or any(word.startswith(MEASURES) for word in words):
        return True
    return len(set(map(str, values))) == len(values) > 2 and all(isinstance(value, float) for value in values)


def one_a_cell(records: Sequence[RunRecord]) -> str:
    """Where every run is a cell of its own for a setting of whole numbers: what that may be, a sentence; else empty."""
    found = factors(records)

    def sizes(keys: Sequence[str]) -> list[int]:
        settings = [canonical([lookup(record.config, key) for key in keys]) for record in records]
        return list(Counter(settings).values())

    if not found or max(sizes(list(found))) > 1:
        return ""
    whole = [key for key in found if is_whole(found[key]) and min(sizes([one for one in found if one != key])) > 1]
    if not whole:
        return ""
    key, named = whole[0], " or ".join(whole)
    if any(record.seed == UNSEEDED for record in records):
        return f"Every cell has one run. If {named} only tells its runs apart: --seed {key} makes it the seed."
    return f"Every cell has one run. If {named} is a figure: --metric {key}; if no setting either: --without {key}."


def is_whole(values: Sequence[Any]) -> bool:
    """Whether all values are whole numbers."""
    return all(isinstance(value, int) and not isinstance(value, bool) for value in values)
