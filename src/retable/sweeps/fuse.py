"""Which runs of a sweep train together as one model (retable.run.fused), and why others don't.

Decided from the configs alone, without torch. What a config does not say is looked at again where the runs train.
"""

import json
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Any

from retable.config.keys import is_foreign, lookup, public_target
from retable.config.stepping import counting_steps, wanting_steps
from retable.sweeps.plan import Run

MOST = 32  # runs in one model that `auto` makes
# What may differ between runs that train together: a number or a tensor a run.
_OWN = ("seed", "init", "dropout", "optimizer.lr", "optimizer.momentum", "optimizer.weight_decay", "loss.l1")
_TASKS, _MODELS = ("retable.tasks.Classification",), ("retable.models.CNN", "retable.models.FNN")
_LOSSES = {"torch.nn.CrossEntropyLoss": ("l1", "label_smoothing")}
_ADAM = ("lr", "weight_decay", "betas", "eps")
_OPTIMIZERS = {"torch.optim.SGD": ("lr", "momentum", "weight_decay")}
_OPTIMIZERS |= dict.fromkeys(("torch.optim.Adam", "torch.optim.AdamW"), _ADAM)


def refusal(config: dict[str, Any], settings: dict[str, Any]) -> str | None:
    """Why a run trains by itself, in a few words; None where it may train together with others like it.

    Args:
        settings: conf/base.yaml's `sweep`.
    """
    if is_foreign(config):
        return f"task={config['task'].get('name')}, a module of somebody's own"
    if settings.get("timeout") is not None:
        return "sweep.timeout, the time of each run"
    for section, known in (("task", _TASKS), ("model", _MODELS), ("loss", _LOSSES), ("optimizer", _OPTIMIZERS)):
        node = config[section]
        if public_target(node["_target_"]) not in known:
            return f"{section}={node.get('name')}"
        taken = known[node["_target_"]] if isinstance(known, dict) else None
        for key in node:
            if taken is not None and key not in ("name", "_target_", *taken):
                return f"{section}.{key}={node[key]}"
    if config.get("callbacks"):
        return f"callbacks: {', '.join(config['callbacks'])}"
    for name, node in config["logger"].items():
        if isinstance(node, dict):
            return f"logger={name}"
    for key in ("compile", "cuda_graph"):
        if config["trainer"].get(key):
            return f"trainer.{key}={config['trainer'][key]}"
    return next(chain(wanting_steps(config), counting_steps(config["trainer"])), None)


def groups(runs: Sequence[Run], settings: dict[str, Any], gpus: int) -> list[list[Run]]:
    """The runs in order, each with those that train together with it.

    Args:
        settings: conf/base.yaml's `sweep`.
        gpus: GPUs that there are for them.
    """
    most = _most(settings, gpus)
    if most < 2:
        return [[run] for run in runs]
    alike: dict[str, list[Run]] = {}
    for run in runs:
        key = str(run.directory) if refusal(run.config, settings) else _shape(run.config)
        alike.setdefault(key, []).append(run)
    found = []
    for same in alike.values():
        size = most if settings.get("fuse") != "auto" else min(most, -(-len(same) // gpus))  # each GPU has its share
        parts = -(-len(same) // size)
        found += [same[part::parts] for part in range(parts)]
    place = {run.directory: number for number, run in enumerate(runs)}
    return sorted(found, key=lambda group: place[group[0].directory])


def describe(runs: Sequence[Run], settings: dict[str, Any], gpus: int) -> list[str]:
    """What of a sweep's runs trains together and what does not, in lines; none where nothing could."""
    reasons = Counter(reason for run in runs if (reason := refusal(run.config, settings)))
    asked = f"sweep.fuse={settings.get('fuse', 'auto')}"
    able = len(runs) - reasons.total()
    if able < 2:
        return []
    if _most(settings, gpus) < 2:
        why = "no GPU: " if settings.get("fuse", "auto") == "auto" else ""
        return [f"{asked}: {why}each run trains by itself"]
    sizes = [len(group) for group in groups(runs, settings, gpus)]
    together = [size for size in sizes if size > 1]
    lines = [f"{asked}: {sum(together)} runs train as {_counted(len(together), 'model')}, {max(together)} together"]
    if not together:
        lines = [f"{asked}: no two runs have the same shape"]
    if len(together) > 1 and min(together) != max(together):
        lines[0] += " at most"
    like_none = sizes.count(1) - reasons.total()
    alone = [f"{count} for {reason}" for reason, count in reasons.most_common()]
    alone += [f"{like_none} of a shape of their own"] if together and like_none else []
    return lines + ([f"by themselves: {'; '.join(alone)}"] if alone else [])


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _most(settings: dict[str, Any], gpus: int) -> int:
    asked = settings.get("fuse", "auto")
    if asked == "auto":
        return MOST if gpus else 1
    return 1 if asked == "never" else int(asked)


def _shape(config: dict[str, Any]) -> str:
    """A config without what may differ, as text."""
    kept = json.loads(json.dumps(config, default=str))
    for key in _OWN:
        parent, _, leaf = key.rpartition(".")
        node = lookup(kept, parent) if parent else kept
        node[leaf] = None
    return json.dumps(kept, sort_keys=True)
