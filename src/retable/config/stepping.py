"""What a run's `trainer` says of the course of its training: whether single steps matter, how long, by how many."""

from collections.abc import Iterator, Mapping
from typing import Any

# Keys of trainer with the values under which no single step of a training matters.
_INDIFFERENT: dict[str, tuple[Any, ...]] = {
    "gradient_clip_val": (None,),
    "accumulate_grad_batches": (1,),
    "max_time": (None,),
    "min_steps": (None,),
    "val_check_interval": (1.0,),
    "overfit_batches": (0, 0.0),
    "profiler": (None,),
    "detect_anomaly": (False,),
    "strategy": ("auto",),
    "devices": (1, "auto"),
    "num_nodes": (1,),
    "plugins": ([],),
    "enable_progress_bar": (False,),
}


# Strategies under which several processes train a run together, each with arguments of PyTorch's
# DistributedDataParallel.
DDP: dict[str, dict[str, Any]] = {
    "ddp": {},
    "ddp_find_unused_parameters_true": {"find_unused_parameters": True},
    "ddp_find_unused_parameters_false": {"find_unused_parameters": False},
}


def by_several(trainer: dict[str, Any]) -> bool:
    """Whether several processes train a run together."""
    return trainer.get("strategy") in DDP


def wanting_steps(config: dict[str, Any]) -> Iterator[str]:
    """The settings, as `key=value`, under which something looks at a single step, or does something between two."""
    trainer = config["trainer"]
    for key, indifferent in _INDIFFERENT.items():
        if trainer.get(key, indifferent[0]) not in indifferent:
            yield f"trainer.{key}={trainer[key]}"
    if str(trainer["precision"]) == "16-mixed":
        yield "trainer.precision=16-mixed"
    if config["scheduler"].get("interval") == "step":
        yield "scheduler.interval=step"


def counting_steps(trainer: dict[str, Any]) -> Iterator[str]:
    """The settings under which Lightning counts a run's steps to end an epoch or the run."""
    if trainer["max_steps"] != -1:
        yield f"trainer.max_steps={trainer['max_steps']}"
    limit = trainer["limit_train_batches"]
    if not is_whole(limit):
        yield f"trainer.limit_train_batches={limit}"


def limits_in_time(config: Mapping[str, Any]) -> list[str]:
    """The settings under which a time may end a run, as `key=value`.

    >>> limits_in_time({"trainer": {"max_time": "00:12:00:00"}, "callbacks": {"timer": {"duration": None}}})
    ['trainer.max_time=00:12:00:00']
    """
    found = [("trainer.max_time", (config.get("trainer") or {}).get("max_time"))]
    found += [(f"callbacks.{name}.duration", duration) for name, duration in _timers(config).items()]
    return [f"{key}={value}" for key, value in found if value]


def without_limits_in_time(config: dict[str, Any]) -> dict[str, Any]:
    """A config of which no time ends the run."""
    callbacks = config.get("callbacks")
    timeless = {name: {**callbacks[name], "duration": None} for name in _timers(config)}
    config = config | {"callbacks": {**callbacks, **timeless}} if timeless else config
    return config | {"trainer": config["trainer"] | {"max_time": None}}


def _timers(config: Mapping[str, Any]) -> dict[str, Any]:
    """The duration of each callback that is Lightning's Timer, by the callback's name."""
    callbacks = config.get("callbacks")
    nodes = callbacks.items() if isinstance(callbacks, Mapping) else ()
    return {
        name: node.get("duration")
        for name, node in nodes
        if isinstance(node, Mapping) and str(node.get("_target_")).rpartition(".")[2] == "Timer"
    }


def planned_epochs(max_epochs: int | None) -> int | None:
    """How many epochs trainer.max_epochs means; None where max_steps, max_time or a rule ends a run instead.

    >>> planned_epochs(20), planned_epochs(-1)
    (20, None)
    """
    return None if max_epochs == -1 else max_epochs


def of_planned(epoch: int, planned: int | None) -> str:
    """Where a run is among its epochs, in a display's words.

    >>> of_planned(3, 20), of_planned(3, None)
    ('3/20', '3')
    """
    return f"{epoch}" if planned is None else f"{epoch}/{planned}"


def is_whole(limit: Any) -> bool:
    """Whether a limit of batches leaves all of them: 1 is one batch, 1.0 is all."""
    return isinstance(limit, float) and limit == 1.0
