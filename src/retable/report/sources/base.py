"""What every source shares: a run's settings as a nested config, its metrics as a history, its seed.

Programs record the same things in different words. Settings come flat (`optimizer.lr`, `optimizer/lr`) or nested, as
numbers or as text, or stand in a run's name; metrics come a step, an epoch or once. Here they become what tables read.
"""

import ast
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from retable.config.keys import flatten, lookup
from retable.errors import ConfigError
from retable.report.runs import RunRecord

SEEDS = ("seed", "random_seed", "rng_seed", "global_seed", "manual_seed", "random_state")
_SEEDS = {name.replace("_", "") for name in SEEDS}
EPOCHS = ("trainer.max_epochs", "training.epochs", "max_epochs", "num_epochs", "n_epochs", "num_train_epochs", "epochs")
SPLITS = ("train", "val", "valid", "validation", "test", "eval")  # as what is measured, or its folder, is called
UNSEEDED = -1  # the seed of a run that recorded none
EXAMPLE = "lr_{lr}_seed_{seed}"  # a pattern of runs' names
_WORDS = {"true": True, "false": False, "none": None, "null": None, "": None}

Row = Mapping[str, float]


class Source(ABC):
    """Where runs of another program lie.

    Attributes:
        title: the program's name, for a page.
        place: what a place may be, for a refusal.
        status_recorded: whether the program says which runs ended well.
    """

    title: str
    place: str
    status_recorded = True

    @abstractmethod
    def read(self, place: str) -> list[RunRecord]:
        """All runs at a place, ordered by name.

        Raises:
            DataError: where nothing is there, or a file is not what it should be; the message names it.
            ConfigError: where a package is missing; the message says what to install.
        """

    def doubts(self, place: str, records: Sequence[RunRecord]) -> list[str]:
        """What speaks against the runs at a place being what they were read as, a sentence each."""
        return []


def make_record(
    name: str,
    settings: Mapping[str, Any],
    rows: Iterable[Row],
    status: str,
    *,
    path: str = "",
    commit: str = "",
    seconds: float | None = None,
    reason: str = "",
) -> RunRecord:
    """One run as a record.

    Args:
        settings: by key, nested or flat.
        rows: metrics in the order of recording, each with its `epoch` or `step` where there is one.
        status: finished, failed or unfinished.
        path: its directory, where pages link to it.
    """
    config, rows = nested(settings), list(rows)
    history, spoilt = history_of(rows), spoilt_of(rows)
    seed = seed_of(config)
    result: dict[str, Any] = {"status": status}
    if seed != UNSEEDED:
        result["seed"] = seed
    if epochs := planned_epochs(config, history):
        result["config_epochs"] = epochs
    if commit:
        result["git"] = {"commit": commit, "dirty": False}
    if seconds is not None:
        result["seconds"] = {"total": seconds}
    if reason:
        result["reason"] = reason
    history.pop("step", None)
    return RunRecord(seed, status, history, result, config, name, "", path, spoilt=spoilt)


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as nested mappings, whatever they were joined with. Where `model` and `model.width` both have a value,
    the first is found under `model.name`.

    >>> nested({"optimizer/lr": 0.1, "model": "cnn", "model.width": 3})
    {'optimizer': {'lr': 0.1}, 'model': {'name': 'cnn', 'width': 3}}
    """
    found: dict[str, Any] = {}
    for key, value in settings.items():
        parts = [part for part in str(key).replace("/", ".").split(".") if part] or [str(key)]
        node = found
        for part in parts[:-1]:
            if not isinstance(node.get(part, {}), dict):
                node[part] = {"name": node[part]}
            node = node.setdefault(part, {})
        value = nested(value) if isinstance(value, Mapping) else value
        old = node.get(parts[-1])
        if isinstance(old, dict) and isinstance(value, dict):
            old.update(value)
        elif isinstance(old, dict):
            old.setdefault("name", value)
        else:
            node[parts[-1]] = value
    return found


def value_of(text: str) -> Any:
    """What a text stands for, where a program keeps settings as text.

    >>> [value_of(text) for text in ("1e-3", "32", "True", "None", "[1, 2]", "sgd", "nan")]
    [0.001, 32, True, None, [1, 2], 'sgd', 'nan']
    """
    text = text.strip()
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        return number if math.isfinite(number_of(number)) else text
    if text[0] in "[({":
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):  # the last two for brackets within brackets
            return text
    return text


def number_of(value: Any) -> float:
    """A number; nan for what is none, such as a picture."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return math.nan
    try:
        return float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        return math.nan


def by_step(points: Iterable[tuple[str, float, float]]) -> list[dict[str, float]]:
    """Values of (name, step, value) as a row a step; Lightning logs the epoch of a step as a value of its own."""
    rows: dict[float, dict[str, float]] = {}
    for name, step, value in points:
        rows.setdefault(step, {"step": float(step)})[name] = float(value)
    return [row for _, row in sorted(rows.items())]


def history_of(rows: Iterable[Row]) -> dict[str, list[float]]:
    """Column -> a value an epoch, with the epochs in `epoch`, ascending.

    Rows of one epoch are one; the later value stands. Where no row names an epoch, steps stand in for epochs; a row
    without either counts on from the one before.
    """
    merged: dict[int, dict[str, float]] = {}
    for epoch, row in by_epoch(rows):
        kept = merged.setdefault(epoch, {})
        kept |= {key: value for key, value in row.items() if key != "epoch" and not math.isnan(value)}
    epochs = sorted(merged)
    columns = list(dict.fromkeys(key for epoch in epochs for key in merged[epoch]))
    return {"epoch": [float(epoch) for epoch in epochs]} | {
        column: [merged[epoch].get(column, math.nan) for epoch in epochs] for column in columns
    }


def spoilt_of(rows: Iterable[Row]) -> dict[str, int]:
    """Column -> the last epoch, as `history_of` counts them, in which a row says that it is nan."""
    found: dict[str, int] = {}
    for epoch, row in by_epoch(rows):
        for key in (key for key, value in row.items() if math.isnan(value)):
            found[key] = max(epoch, found.get(key, epoch))
    return found


def by_epoch(rows: Iterable[Row]) -> Iterator[tuple[int, dict[str, float]]]:
    """Each row with its epoch, or what stands in for one, without those at no epoch."""
    rows = [dict(row) for row in rows]
    axis = "epoch" if any("epoch" in row for row in rows) else "step"
    at = 0.0
    for row in rows:
        here = row.pop(axis, at if axis == "epoch" else at + 1)
        if math.isfinite(here):
            at = here
            yield math.floor(at), row


def is_seed(key: str) -> bool:
    """Whether a setting is a seed by its name, however that is written.

    >>> [is_seed(key) for key in ("data.seed", "RandomSeed", "random state", "seedling")]
    [True, True, True, False]
    """
    return re.sub(r"[\s_-]", "", key.split(".")[-1].lower()) in _SEEDS


def seed_of(config: Mapping[str, Any], key: str | None = None) -> int:
    """A run's seed, under the given key or the shortest that is called a seed; UNSEEDED where there is none."""
    flat = flatten(dict(config))
    keys = [key] if key else sorted(filter(is_seed, flat), key=lambda k: (k.count("."), k))
    for candidate in keys:
        value = lookup(config, candidate)
        if isinstance(value, int | float) and not isinstance(value, bool) and number_of(value).is_integer():
            return int(value)
    return UNSEEDED


def planned_epochs(config: Mapping[str, Any], history: Mapping[str, list[float]]) -> int:
    """How many epochs a run was to have: as its settings say, else as many as it has; 0 where it counted steps."""
    for key in EPOCHS:
        value = lookup(config, key)
        if isinstance(value, int | float) and 0 < number_of(value) < math.inf:
            return int(value)
    epochs = trained(history)
    if not epochs or len(epochs) < int(epochs[-1] - epochs[0]) + 1:
        return 0
    return int(epochs[-1]) + (epochs[0] == 0)


def trained(history: Mapping[str, list[float]]) -> list[float]:
    """The epochs without those that have figures of a test set alone, which Lightning logs after the last one."""
    columns = [values for key, values in history.items() if key not in ("epoch", "step") and key[:4].lower() != "test"]
    if not columns:
        return list(history["epoch"])
    return [epoch for epoch, *own in zip(history["epoch"], *columns, strict=True) if not all(map(math.isnan, own))]


def with_names(records: Sequence[RunRecord], pattern: str) -> list[RunRecord]:
    """The runs with the settings that a pattern finds in their names, a seed among them: `lr_0.1_seed_3` by `EXAMPLE`.

    Args: pattern: text with the keys of settings in braces, of the whole name or of its last folders.

    Raises: ConfigError for no such pattern, or where a run is not so named.
    """
    keys, expression = parse_pattern(pattern)
    matches = [expression.fullmatch(record.name) for record in records]
    strange = [record.name for record, match in zip(records, matches, strict=True) if not match]
    if strange:
        more = len(strange) - 1
        others = f", nor {'is' if more == 1 else 'are'} {more} other run{'s' if more > 1 else ''}" if more else ""
        raise ConfigError(f"--name {pattern}: {strange[0]} is not so named{others}")
    found = []
    for record, match in zip(records, matches, strict=True):
        assert match
        config = nested({**record.config, **dict(zip(keys, map(value_of, match.groups()), strict=True))})
        found.append(replace(record, config=config, seed=seed_of(config)))
    return found


def parse_pattern(pattern: str) -> tuple[list[str], re.Pattern[str]]:
    """(keys, expression with a group for each of them).  Raises: ConfigError."""
    texts = re.split(r"\{([^{}]+)\}", pattern)
    between, keys = texts[::2], texts[1::2]
    if not keys or len(set(keys)) < len(keys) or not all(between[1:-1]) or re.search(r"[{}]", "".join(between)):
        raise ConfigError(f"--name {pattern}: accepted: text with settings in braces between it, e.g. {EXAMPLE}")
    return keys, re.compile("(?:.*/)?" + "([^/]+?)".join(map(re.escape, between)), re.DOTALL)
