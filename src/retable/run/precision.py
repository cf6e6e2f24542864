"""The work of one of a run's training steps, by which its precision is settled, and what follows from that."""

import contextlib
from typing import Any

import torch

from retable.config import precisions
from retable.tasks.base import Task
from retable.tasks.build import make_task
from retable.training.output import keep_in_float32, last_layer

PASSES = 3  # forward, and backward to inputs and to weights


def settle(config: dict[str, Any], task: Task, data: Any, kind: str) -> str:
    """What trainer.precision comes to; readies the task and the backends for it.

    Args:
        config: its precision as `precisions.by_devices` gives it.
        task: on the CPU.
        data: as prepared.
        kind: "cpu" or "cuda".
    """
    found, layer = str(config["trainer"]["precision"]), None
    if found in precisions.MIXED or precisions.depends_on_work(found):
        operations, layer = look_at(config, task, data)
        found = precisions.by_work(found, operations, bool(config["trainer"].get("cuda_graph")))
    if found in precisions.MIXED:
        keep_in_float32(task.model, layer)
    if kind == "cuda":  # these settings are the process's, and outlast a run
        torch.set_float32_matmul_precision("high" if found == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = found == "tf32"
    return found


def look_at(config: dict[str, Any], task: Task, data: Any) -> tuple[float, str | None]:
    """Floating-point operations of a training step, and the name of the model's last layer; computes nothing.

    A multiplication and an addition are two operations. What is neither convolution nor matrix product is left out.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        model, device = task.model, "cpu"
        with contextlib.suppress(RuntimeError, NotImplementedError):  # a model of somebody's own may need values
            model, device = make_task(config, data, "meta").model, "meta"
        was_training = model.training
        images = torch.zeros(2, *data.image_shape, device=device)  # two: as a config's check gives
        with torch.device(device), FlopCounterMode(display=False) as counter:
            layer = last_layer(model.eval(), images)
        model.train(was_training)
    return PASSES * counter.get_total_flops() / len(images) * data.batch_size, layer
