"""Which settings make a run's single steps matter: such a run takes them one by one, and alone."""

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


def is_whole(limit: Any) -> bool:
    """Whether a limit of batches leaves all of them: 1 is one batch, 1.0 is all."""
    return isinstance(limit, float) and limit == 1.0
