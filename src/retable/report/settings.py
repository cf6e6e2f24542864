"""In which settings runs differ: those of other programs, and the cells that a claim compares.

A comparison says something of dropout only where nothing but dropout differs. The keys that a table's cells match by,
and its rows and columns, are its factors; where compared cells differ in another key, too, they are confounded. Of
other programs' runs metrics are no settings, nor is what only names a run.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retable.config.keys import canonical, flatten, is_part_of_a_run, lookup
from retable.experiment.fields import listed
from retable.experiment.table import Table
from retable.report.runs import RunRecord, equal
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
# What begins so and is a setting (`accumulate_grad_batches`), or ends so (`loss_weight`, `iou_threshold`).
_NO_MEASURES = ("accum", "accel", "mapp")
_TUNED = ("weight", "weights", "threshold", "alpha", "beta", "gamma", "lambda", "coef", "smoothing", "margin")
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
# Keys that mean the same in every option of their group, so that another option does not explain another value.
_OF_EVERY_OPTION = ("optimizer.lr", "optimizer.weight_decay")


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
    if parts[0].split("_")[0] in SPLITS or parts[-1] in SPLITS:
        return True
    if words[-1] not in _TUNED and any(w.startswith(MEASURES) and not w.startswith(_NO_MEASURES) for w in words):
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


@dataclass(frozen=True)
class Differing:
    """Keys in which cells differ: those that are factors of the table, and the others."""

    factors: tuple[str, ...] = ()
    confounded: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """E.g. `dropout.p`, `dropout.p; confounded: optimizer.lr`; empty where nothing differs."""
        texts = [", ".join(self.factors)] if self.factors else []
        return "; ".join([*texts, *([f"confounded: {', '.join(self.confounded)}"] if self.confounded else [])])


def differing(table: Table, cells: Sequence[Sequence[RunRecord]]) -> Differing:
    """In which settings compared cells differ. Args: cells: the runs of each; the first is compared with all others."""
    cells = [runs for runs in cells if runs]
    found = {
        key
        for runs in cells[1:]
        for key in keys_that_differ(cells[0][0], runs[0])
        if is_of_a_cell(key, cells[0]) and is_of_a_cell(key, runs)
    }
    found -= {metric.column.replace("/", ".") for metric in table.metrics.values() if metric.column}
    named = {*table.rows, *table.columns, *(key for cell in table.cells.values() for key in cell.match)}
    columns = {column for runs in cells for record in runs for column in record.history}
    found -= {column.replace("/", ".") for column in columns if is_measure(column, ())} - named
    return Differing(tuple(sorted(found & named)), tuple(sorted(found - named)))


def keys_that_differ(left: RunRecord, right: RunRecord) -> Iterable[str]:
    """Keys of which both have a value, and not the same; of a group with another option (`model.name`) that alone, but
    for what means the same in each (`optimizer.lr`).

    A key that one run lacks is no difference: it may have been run before there was such a key.
    """
    ours, theirs = (own_settings(record) for record in (left, right))
    keys = {key for key in ours.keys() & theirs.keys() if not equal(ours[key], theirs[key])}
    options = {key.rpartition(".")[0] for key in keys if key.endswith(".name")}
    shown = (*_OF_EVERY_OPTION, *(f"{option}.name" for option in options))
    return {key for key in keys if key in shown or key.partition(".")[0] not in options}


def is_of_a_cell(key: str, runs: Sequence[RunRecord]) -> bool:
    """Whether a key is a setting of these runs together.

    It is not where it names each run, nor where the runs differ in it themselves, as in the columns of metrics of a CSV
    file with a row a run.
    """
    values = [own_settings(record).get(key) for record in runs]
    names = all(value == record.name for value, record in zip(values, runs, strict=True))
    return not names and all(equal(value, values[0]) for value in values)


def own_settings(record: RunRecord) -> dict[str, object]:
    """By key those of one run, the seed left out: its identity, or of another program's what tells of no progress."""
    if record.identity:
        flat = dict(record.identity)
    else:
        flat = {key: value for key, value in flatten(dict(record.config)).items() if not is_progress(key)}
    return {key: value for key, value in flat.items() if key != "seed" and is_part_of_a_run(key)}
