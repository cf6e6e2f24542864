"""What a run's `trainer` says of the course of its training: whether single steps matter, how long, by how many."""

from collections.abc import Iterator
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
