"""A learning rate that changes with every optimizer step."""

import math
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR

from retable import checks
from retable.errors import ConfigError


class WarmupCosine(LambdaLR):
    """Linear from 0 to the optimizer's rate, which the last step of the warm-up has, then half a cosine to eta_min.

    Args:
        optimizer: its rate is the highest.
        total_steps: of the whole training.
        warmup: share of them, in [0, 1).
        eta_min: the rate that the step behind the last one would have.

    Raises:
        ValueError: an argument that is not accepted.

    Reference: Goyal et al. 2017 (warm-up); Loshchilov and Hutter 2017, SGDR, equation 5 (cosine).
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, total_steps: int, warmup: float = 0.05, eta_min: float = 0.0
    ) -> None:
        checks.number("warmup", warmup, 0, 1, open_high=True)
        checks.number("eta_min", eta_min, 0)
        rising = math.ceil(warmup * total_steps)

        def of(highest: float) -> object:
            def factor(step: int) -> float:
                if step < rising:
                    return (step + 1) / rising
                share = min(1.0, (step - rising) / max(1, total_steps - rising))
                lowest = eta_min / highest
                return lowest + (1 - lowest) * (1 + math.cos(math.pi * share)) / 2

            return factor

        super().__init__(optimizer, [of(group["lr"]) for group in optimizer.param_groups])


def length_of(interval: str, trainer: Any) -> dict[str, int]:
    """The training's length, for a scheduler that counts steps; without a Trainer, some length to try it with.

    Raises:
        ConfigError: for a training without an end.
    """
    if interval != "step":
        return {}
    steps = 1000 if trainer is None else trainer.estimated_stepping_batches
    if steps == float("inf"):
        raise ConfigError("scheduler.interval=step: a training without an end; accepted: with trainer.max_epochs")
    return {"total_steps": int(steps)}
