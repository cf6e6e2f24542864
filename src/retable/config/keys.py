"""Keys of a config: the value at a dotted one, and which of them are part of what a run is."""

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from retable.config.stepping import is_whole

# Keys that steer a command and are no part of the run that it trains: left out of what a run's directory keeps.
STEERING = ("resume", "trust", "seeds", "output", "sweep", "table", "preset")
# Where things are kept or how fast they are computed, not what is computed. A run's directory keeps them.
NO_EFFECT = ("logger", "checkpoint", "data.root", "data.cache", "trainer.device", "trainer.cuda_graph")
NO_EFFECT += (
    "trainer.strategy",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.log_every_n_steps",
    "trainer.profiler",
)
NO_EFFECT += ("trainer.num_sanity_val_steps", "trainer.detect_anomaly", "trainer.benchmark", "data.resident", "tags")
NO_EFFECT += ("trainer.limit_predict_batches", "trainer.inference_mode", "trainer.enable_progress_bar")
NO_EFFECT += ("trainer.enable_model_summary", "trainer.enable_autolog_hparams")
# Keys with the value under which a run is what it was before there was the key: they are part of what a run is where
# they stand at another one.
NEUTRAL = {
    "trainer.min_epochs": None,
    "trainer.min_steps": None,
    "trainer.max_time": None,
    "trainer.limit_test_batches": None,
    "trainer.overfit_batches": 0.0,
    "trainer.val_check_interval": 1.0,
    "trainer.check_val_every_n_epoch": 1,
    "trainer.gradient_clip_val": None,
    "trainer.gradient_clip_algorithm": "norm",
    "trainer.accumulate_grad_batches": 1,
    "trainer.deterministic": False,
    "trainer.compile": False,
    "trainer.plugins": [],
    "trainer.sync_batchnorm": False,
    "trainer.reload_dataloaders_every_n_epochs": 0,
}
# Keys that make a run smaller than it was published: a table says that a cell has runs of another scale.
SCALE = ("trainer.max_epochs", "trainer.max_steps", "trainer.limit_train_batches", "trainer.limit_val_batches")
SCALE += ("trainer.limit_test_batches", "data.fraction", "data.source")
# Keys of which a whole number is a number of batches, and a fraction a share of them.
BATCHES = ("trainer.limit_train_batches", "trainer.limit_val_batches", "trainer.limit_test_batches")
BATCHES += ("trainer.overfit_batches", "trainer.val_check_interval")
# Groups whose options have a name, which is no argument of their class.
LABELLED = ("task", "model", "activation", "init", "loss", "optimizer", "scheduler", "augment", "early_stop")
# Callbacks that only show or keep something.
_SHOWING = ("LearningRateMonitor", "RichProgressBar", "TQDMProgressBar", "DeviceStatsMonitor", "ModelCheckpoint")
_SHOWING += ("ModelSummary", "RichModelSummary", "ThroughputMonitor")
# Groups that only say which of the other keys are meant.
CHOOSING = ("experiment", "task", "debug", "local", "hydra")

# Options that set nothing but where a run is trained, which is no part of what it is.
PLACES = {("trainer", option) for option in ("cpu", "gpu", "ddp", "ddp_sim")}


def differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Keys that differ between settings, or that only some of them have, in order of appearance; None is a value.

    >>> differing([{"lr": 0.1, "seed": 0}, {"lr": 0.1, "seed": 1, "momentum": 0.9}])
    ['seed', 'momentum']
    """
    keys = dict.fromkeys(key for one in settings for key in one)
    absent = object()
    values = {key: [compared(key, one.get(key, absent)) for one in settings] for key in keys}
    return [key for key, found in values.items() if any(value != found[0] for value in found)]


def compared(key: str, value: Any) -> Any:
    """A value as it is compared with another one of the key: 1 is one batch, and 1.0 all of them.

    >>> compared("trainer.limit_val_batches", 1) == compared("trainer.limit_val_batches", 1.0)
    False
    >>> compared("optimizer.lr", 1) == compared("optimizer.lr", 1.0)
    True
    """
    return "all" if key in BATCHES and is_whole(value) else value


def is_equal(key: str, one: Any, other: Any) -> bool:
    """Whether two values of a key are the same setting; see `compared`."""
    return compared(key, one) == compared(key, other)


def canonical(value: Any) -> str:
    """JSON with sorted keys, equal for equal settings: paths and other values as texts, list-likes as lists.

    >>> canonical({"size": (64, 64), "root": PurePath("data")})
    '{"root": "data", "size": [64, 64]}'
    """
    return json.dumps(value, sort_keys=True, default=_plain)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, Iterable) and not isinstance(value, PurePath) else str(value)


def lookup(config: Mapping[str, Any], key: str, default: Any = None) -> Any:
    """The value at a dotted key of a nested mapping; a number counts the items of a list, from 0.

    >>> lookup({"dropout": {"p": 0.3}}, "dropout.p"), lookup({}, "dropout.p", "none")
    (0.3, 'none')
    >>> lookup({"confusion": [[5, 1], [2, 6]]}, "confusion.1.0")
    2
    """
    node: Any = config
    for part in key.split("."):
        if isinstance(node, list) and part.isdecimal() and int(part) < len(node):
            node = node[int(part)]
        elif isinstance(node, Mapping) and part in node:
            node = node[part]
        else:
            return default
    return node


def flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one dict by dotted key; lists are leaves.

    >>> flatten({"dropout": {"p": 0.3}, "seed": 0})
    {'dropout.p': 0.3, 'seed': 0}
    """
    if not isinstance(node, dict) or not node:
        return {prefix: node}
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def below(key: str, sections: Sequence[str]) -> bool:
    """Whether a dotted key is one of some keys, or lies below one.

    >>> below("data.root", ["data.root"]), below("sweep.dir", ["sweep"]), below("data.rooted", ["data.root"])
    (True, True, False)
    """
    return any(key == section or key.startswith(f"{section}.") for section in sections)


@functools.cache
def is_part_of_a_run(key: str) -> bool:
    """Whether a key can change a run's result."""
    return not below(key, (*STEERING, *NO_EFFECT))


def only_shows(callback: Any) -> bool:
    """Whether a callback's config node is of one that changes no result: a display, a timer without an end."""
    if not isinstance(callback, Mapping):
        return False
    room, _, name = str(callback.get("_target_")).rpartition(".")
    timer = name == "Timer" and callback.get("duration") is None
    return room.startswith("pytorch_lightning.callbacks") and (timer or name in _SHOWING)


def is_foreign(config: Mapping[str, Any]) -> bool:
    """Whether a run is of a LightningModule and a LightningDataModule of somebody's own (conf/lightning.yaml)."""
    return config.get("module") is not None


def public_target(target: Any) -> Any:
    """A `_target_` by its public path: a class of this project by its room and its name, wherever its module lies.

    >>> public_target("retable.models.cnn.CNN"), public_target("torch.nn.ReLU")
    ('retable.models.CNN', 'torch.nn.ReLU')
    >>> public_target("retable.foo")
    'retable.foo'
    """
    if not isinstance(target, str) or not target.startswith("retable.") or target.count(".") < 2:
        return target
    package, room, *_, name = target.split(".")
    return f"{package}.{room}.{name}"


def own(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a config that a run's directory keeps."""
    return {key: value for key, value in config.items() if key not in STEERING}


def key_of(override: str) -> str:
    """The key or group that an override names.

    >>> key_of("+optimizer.momentum=0.9"), key_of("~seed")
    ('optimizer.momentum', 'seed')
    """
    return override.partition("=")[0].lstrip("+~")
