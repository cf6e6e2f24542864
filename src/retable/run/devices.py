"""What the machine has, and what trainer.device comes to on it: the one place that says so.

A sweep has to know before it imports torch and without a CUDA context of its own; a run knows from the torch that it
trains with. So the sweep asks that same torch, once, in a process that ends with the answer. What CUDA_VISIBLE_DEVICES,
MIG or a torch without CUDA make of the machine is then the same for both.
"""

import ctypes
import functools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from retable.config.precisions import by_devices
from retable.errors import RetableError

# What a process holds on a GPU beside its tensors (context, kernels), and the share of a GPU that sweeps may fill.
CONTEXT_MB = 600
FILL = 0.9
_PATIENCE = 120  # seconds: a cold import of torch, and a context on each GPU


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        name: what CUDA_VISIBLE_DEVICES calls it, under this process's environment: an index or a UUID.
        total_mb, free_mb: memory in MiB.
        capability: compute capability, e.g. 9.0.
        uuid: what the driver calls it whatever is visible; "" where that is not known. Of a MIG instance, its own.
    """

    name: str
    total_mb: int
    free_mb: int
    capability: float
    uuid: str = ""


@functools.cache
def gpus() -> tuple[Gpu, ...]:
    """The GPUs that runs can use, as `look` has found them once."""
    return look()


def look() -> tuple[Gpu, ...]:
    """The GPUs that runs can use, as their torch sees them now; () where there are none. Imports no torch.

    Takes as long as torch takes to be imported.

    Raises:
        RetableError: if there is a driver and no answer.
    """
    if not _driver():
        return ()
    command = [sys.executable, "-c", "from retable.run.devices import _print_gpus; _print_gpus()"]
    paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE, check=True, env=os.environ | paths
        )
    except subprocess.SubprocessError as error:
        raise RetableError(
            f"the GPUs could not be asked what they are ({error}); trainer.device=cpu goes without them"
        ) from error
    return tuple(Gpu(**values) for values in json.loads(done.stdout.splitlines()[-1]))


def free_mb(gpus: Sequence[Gpu]) -> dict[str, float] | None:
    """Memory of each GPU that is free now, in MiB by name, as the driver's library says; None where it can't be asked.

    Takes less than a millisecond, and gives this process no context on a GPU.
    """
    library = _nvml()
    if library is None:
        return None
    found = {}
    for gpu in gpus:
        handle, memory = ctypes.c_void_p(), _Memory()
        if not gpu.uuid or library.nvmlDeviceGetHandleByUUID(gpu.uuid.encode(), ctypes.byref(handle)):
            return None
        if library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)):
            return None
        found[gpu.name] = memory.free / 2**20
    return found


class _Memory(ctypes.Structure):  # nvml.h, nvmlMemory_t
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


@functools.cache
def _nvml() -> Any:
    """NVIDIA's management library; None where it is not there, as in slim containers, or has nothing to manage."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
        return None if library.nvmlInit_v2() else library
    except (OSError, AttributeError):
        return None


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def precision(wanted: object, device: str, capabilities: Sequence[float] | None = None) -> str:
    """What trainer.precision comes to as far as devices decide (`config.precisions.by_devices`); asks only if it must.

    Args:
        wanted: trainer.precision.
        device: trainer.device.
        capabilities: compute capabilities of the GPUs that the run may use; asked for where there are none given.

    Raises:
        RetableError: for 16-mixed without a GPU.
    """
    if capabilities is None and (device == "cpu" or str(wanted) not in ("auto", "16-mixed")):
        capabilities = []
    if capabilities is None:
        capabilities = [gpu.capability for gpu in gpus()]
    return by_devices(wanted, capabilities)


def resolve(device: str) -> tuple[str, list[float]]:
    """What trainer.device comes to under this process's torch: "cpu" or "cuda", and the GPUs' compute capabilities.

    Raises:
        RetableError: if a GPU is asked for where there is none.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise RetableError("trainer.device=cuda: no CUDA device found; accepted here: auto, cpu")
    if device == "cpu" or not torch.cuda.is_available():
        return "cpu", []
    return "cuda", [_capability(index) for index in range(torch.cuda.device_count())]


def has_bf16_instructions() -> bool:
    """Whether this CPU multiplies bfloat16 numbers itself; others are several times slower with them than without."""
    import torch

    known = torch.cpu.get_capabilities()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


def fitting(gpu_mb: float, run_mb: float) -> int:
    """How many runs that peak at run_mb fit a GPU with gpu_mb free.

    >>> fitting(80000, 1400)
    36
    """
    return int(gpu_mb * FILL // (run_mb + CONTEXT_MB))


def _driver() -> bool:
    """Whether there is any driver to ask: a machine without one need not wait for torch."""
    if Path("/dev/kfd").exists():  # AMD's, which torch calls CUDA too
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def _capability(index: int) -> float:
    import torch

    major, minor = torch.cuda.get_device_capability(index)
    return float(f"{major}.{minor}")


def _uuid(index: int) -> str:
    """A GPU's UUID as the driver writes it; a GPU that is cut by MIG shows one instance, whose own it is."""
    import torch

    properties = torch.cuda.get_device_properties(index)
    kind = "MIG" if " MIG " in f"{properties.name} " else "GPU"
    return f"{kind}-{properties.uuid}" if getattr(properties, "uuid", None) else ""


def _print_gpus() -> None:
    """Print what this process's torch sees. Looking at a GPU's memory gives it a context, so this process ends then."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [name.strip() for name in visible.split(",")] if visible else None
    found = []
    for index, capability in enumerate(resolve("auto")[1]):
        free, total = torch.cuda.mem_get_info(index)
        # CUDA counts in the order of the list, so a process that is given one name of it gets the same device.
        name, uuid = names[index] if names else str(index), _uuid(index)
        found.append(Gpu(name, total >> 20, free >> 20, capability, uuid))
    print(json.dumps([asdict(gpu) for gpu in found]))
