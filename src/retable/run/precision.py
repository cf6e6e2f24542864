"""What trainer.precision comes to for a run, by the work of one of its steps, and what follows from it.

Half precision pays where multiplying does: a step of a small network is short of kernel launches, and casts add to them
(19 of 59 in a step of B1.2, 23 of 75 in one of A1: benchmarks/README.md). Below `MIXED_FROM` multiplications are
rounded to TF32 instead, which takes no casts.
"""

import contextlib
from typing import Any

import torch

from retable.run import devices
from retable.tasks.base import Task
from retable.tasks.build import make_task
from retable.training.output import keep_in_float32, last_layer

MIXED_FROM = 20e9  # floating-point operations a step
PASSES = 3  # forward, and backward to inputs and to weights
_MIXED = ("bf16-mixed", "16-mixed")


def settle(config: dict[str, Any], task: Task, data: Any, kind: str) -> str:
    """What trainer.precision comes to; readies the task and the backends for it.

    Args:
        config: its precision as `devices.precision` has it.
        task: on the CPU.
        data: as prepared.
        kind: "cpu" or "cuda".
    """
    wanted = str(config["trainer"]["precision"])
    if wanted not in (*_MIXED, *devices.BY_WORK):
        found, layer = wanted, None
    else:
        operations, layer = look_at(config, task, data)
        found = _by_work(wanted, operations, config)
    if found in _MIXED:
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


def _by_work(wanted: str, operations: float, config: dict[str, Any]) -> str:
    if wanted not in devices.BY_WORK:
        return wanted
    mixed, light = devices.BY_WORK[wanted]
    if operations < MIXED_FROM or (mixed == "16-mixed" and config["trainer"].get("cuda_graph")):
        return light  # a scaler looks at every step's gradients, which a recorded step can't
    return mixed
