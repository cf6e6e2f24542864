"""What a run is: the part of its config that can change its result, and a readable name.

Two configs are one run when every key that both have is equal and every key that only the newer has stands at its
default in conf/. So a new key with its default leaves finished runs valid, and a changed default does not.
"""

import hashlib
import json
import re
from typing import Any

from retable.config.compose import Composition, flatten

# Where things are written or how fast they are computed, not what is computed. The device is recorded with the result.
_NOT_IDENTITY = ("resume", "seeds", "output", "sweep", "table", "logger", "preset", "data.root", "data.cache")
NOT_IDENTITY_KEYS = ("trainer.device", "trainer.cuda_graph")
_LONGEST = 100


def identity(config: dict[str, Any]) -> dict[str, Any]:
    """Flattened config without the keys that can't change a result.

    Without dropout its place is no part of the identity, so that `dropout=none dropout.where=fc` is the plain run.
    """
    flat = {key: value for key, value in flatten(config).items() if not _left_out(key)}
    if flat.get("dropout.p") == 0:
        flat = {key: value for key, value in flat.items() if not key.startswith("dropout.") or key == "dropout.p"}
    return flat


def same_run(stored: dict[str, Any], wanted: dict[str, Any], defaults: dict[str, Any]) -> bool:
    """Whether a run stored under one identity is the run that another identity asks for."""
    if any(key not in wanted or wanted[key] != value for key, value in stored.items()):
        return False
    return all(key in defaults and defaults[key] == wanted[key] for key in wanted.keys() - stored.keys())


def digest(flat: dict[str, Any], fingerprint: str | None = None) -> str:
    """Eight hexadecimal digits of an identity and its data, for names that would otherwise clash."""
    canonical = {key: float(value) if type(value) is int else value for key, value in flat.items()}
    text = json.dumps([canonical, fingerprint], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def run_name(composition: Composition) -> str:
    """A directory name from what deviates from the task's defaults, e.g. `dropout-0.3__seed-1`.

    Characters need no quoting in a shell; names over 100 characters are cut and end in a hash.
    """
    flat = identity(composition.config)
    parts = []
    for key, value in composition.deviations.items():
        if key == "seed" or (_left_out(key)) or ("." in key and key not in flat and key.split(".")[0] == "dropout"):
            continue
        parts.append(f"{_short(key)}-{_text(value)}")
    parts = parts or ["default"]
    name = "__".join([*parts, f"seed-{composition.config['seed']}"])
    name = re.sub(r"[^A-Za-z0-9._+=-]+", "_", name)
    if len(name) > _LONGEST:
        name = f"{name[: _LONGEST - 10]}__{digest(flat)}"
    return name


def _left_out(key: str) -> bool:
    return (
        key.split(".")[0] in _NOT_IDENTITY or key in NOT_IDENTITY_KEYS or ".".join(key.split(".")[:2]) in _NOT_IDENTITY
    )


def _short(key: str) -> str:
    """`dropout.p` reads as dropout, `trainer.max_epochs` as max_epochs; other keys stay whole."""
    return {"dropout.p": "dropout", "trainer.max_epochs": "max_epochs"}.get(key, key)


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return "+".join(_text(item) for item in value) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
