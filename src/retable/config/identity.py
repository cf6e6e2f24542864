"""What a run is: the part of its config that can change its result, and a readable name.

Two configs are one run when every key that both have is equal and every key that only the newer has stands at its
default in conf/. So a new key with its default leaves finished runs valid, and a changed default does not. A key that
the older was told to do without (`~optimizer.momentum`), or lacks because another option was chosen, is not new
(`Composer.not_new`). A key that leaves a run as it was before the key existed (keys.NEUTRAL) is no part of an identity,
whatever a task's default is.
"""

import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from retable.config.compose import Composition
from retable.config.keys import BATCHES, NEUTRAL, below, compared, flatten, is_part_of_a_run, only_shows, public_target
from retable.config.weights_file import known_by_content, same_weights

_LONGEST = 100


def identity(config: dict[str, Any]) -> dict[str, Any]:
    """Flattened config without the keys that can't change a result.

    Without dropout its place is no part of the identity, so that `dropout=none dropout.where=fc` is the plain run. A
    class of this project is known by its room and its name, so that a module may move; a weights file by its name and
    its content, wherever it lies.
    """
    callbacks = {name: node for name, node in (config.get("callbacks") or {}).items() if not only_shows(node)}
    flat = flatten({**config, "callbacks": callbacks})
    flat = {key: settled(key, value) for key, value in flat.items() if is_part_of_a_run(key) and key != "callbacks"}
    flat = {key: value for key, value in flat.items() if not _is_neutral(key, value)}
    if flat.get("dropout.p") == 0:
        flat = {key: value for key, value in flat.items() if not key.startswith("dropout.") or key == "dropout.p"}
    return flat


def same_run(
    stored: dict[str, Any],
    wanted: dict[str, Any],
    defaults: dict[str, Any],
    not_new: Callable[[], Sequence[str]] = list,
) -> bool:
    """Whether a run stored under one identity is the run that another identity asks for.

    Args:
        not_new: says which keys, or sections, the stored run lacks for another reason than its age.
    """
    if any(key not in wanted or not _is_same(key, wanted[key], value) for key, value in stored.items()):
        return False
    missing = wanted.keys() - stored.keys()
    if any(key in NEUTRAL or _is_of_another_callback(key, stored) for key in missing):
        return False
    if not all(key in defaults and _is_same(key, wanted[key], defaults[key]) for key in missing):
        return False
    sections = not_new() if missing else ()
    return not any(below(key, sections) for key in missing)


def _is_same(key: str, wanted: Any, value: Any) -> bool:
    return same_weights(compared(key, wanted), compared(key, settled(key, value)))


def _is_of_another_callback(key: str, stored: Collection[str]) -> bool:
    section, _, name = key.rpartition(".")[0].partition(".")
    return section == "callbacks" and not any(other.startswith(f"callbacks.{name.split('.')[0]}.") for other in stored)


def _is_neutral(key: str, value: Any) -> bool:
    # 1 is one batch, 1.0 is all of them.
    return key in NEUTRAL and value == NEUTRAL[key] and (value == 0 or type(value) is type(NEUTRAL[key]))


def settled(key: str, value: Any) -> Any:
    """A value as it stands in an identity: a class by its public path, a weights file by its name and content."""
    if key.endswith("_target_"):
        return public_target(value)
    return known_by_content(value) if key == "model.weights" else value


def digest(flat: dict[str, Any], fingerprint: str | None = None) -> str:
    """Eight hexadecimal digits of an identity and its data, for names that would otherwise clash."""
    canonical = {k: float(v) if type(v) is int and (k not in BATCHES or v != 1) else v for k, v in flat.items()}
    text = json.dumps([canonical, fingerprint], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def run_name(
    composition: Composition, table: str | None = None, shared: Collection[str] = (), alike: Collection[str] = ()
) -> str:
    """A directory name from what deviates from the task's defaults, e.g. `dropout-0.3__seed-1`.

    Characters need no quoting in a shell. A name over 100 characters leaves out what the sweep's runs have alike, is
    cut where that is not enough, and ends in a hash.

    Args:
        table: the experiment that asks for the run, e.g. cifar/dropout.
        shared: deviations that all runs of that table have: the table's name stands for them.
        alike: deviations that all runs of the sweep have.
    """
    flat = identity(composition.config)
    deviations = [key for key in composition.deviations if _is_named(key, flat)]
    parts = [table.rpartition("/")[2]] if table and any(key in shared for key in deviations) else []
    for key in deviations:
        if key not in shared:
            value = composition.deviations[key]
            if key == "callbacks":
                value = _without_shown(value, composition.config["callbacks"])
                if not value:
                    continue
            parts.append(f"{_short(key)}-{Path(value).name if key == 'model.weights' else _text(value)}")
    parts = parts or ["default"]
    name = without_quoting("__".join([*parts, f"seed-{composition.config['seed']}"]))
    if len(name) > _LONGEST:
        rest = set(alike) - set(shared)
        if rest:
            name = run_name(composition, table, {*shared, *rest})
            if len(name) <= _LONGEST - 10:
                return f"{name}__{digest(flat)}"
        name = f"{name[: _LONGEST - 10]}__{digest(flat)}"
    return name


def short_name(settings: Mapping[str, Any]) -> str:
    """A name that says these settings and nothing else.

    >>> short_name({"dropout.p": 0.3, "model.widths": [8, 16], "seed": 1})
    'dropout-0.3__model.widths-8+16__seed-1'
    """
    parts = [
        f"{_short(key)}-{Path(value).name if key == 'model.weights' else _text(value)}"
        for key, value in settings.items()
    ]
    return without_quoting("__".join(parts) or "default")


def without_quoting(name: str) -> str:
    """A name whose characters need no quoting in a shell."""
    return re.sub(r"[^A-Za-z0-9._+=-]+", "_", name)


def shared_deviations(compositions: Sequence[Composition]) -> set[str]:
    """Keys that deviate from the task's defaults in the same way in all of a table's runs, where there are several."""
    if len(compositions) < 2:
        return set()
    first, *others = (composition.deviations for composition in compositions)
    missing = object()
    return {key for key, value in first.items() if all(other.get(key, missing) == value for other in others)}


def _is_named(key: str, flat: dict[str, Any]) -> bool:
    if key == "seed" or not is_part_of_a_run(key):
        return False
    return not (key.startswith(("dropout.", "callbacks.")) and key not in flat)


def _without_shown(options: str | tuple[str, ...], nodes: dict[str, Any]) -> tuple[str, ...]:
    """The options of callbacks that were chosen, without those that change no result."""
    chosen = (options,) if isinstance(options, str) else options
    return tuple(option for option in chosen if option != "none" and not only_shows(nodes.get(option)))


def _short(key: str) -> str:
    """`dropout.p` reads as dropout, `trainer.max_epochs` as max_epochs; other keys stay whole."""
    return {"dropout.p": "dropout", "trainer.max_epochs": "max_epochs"}.get(key, key)


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return "+".join(_text(item) for item in value) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
