"""What the machine has, found without importing torch: cores, and GPUs by nvidia-smi."""

import functools
import os
import subprocess
from dataclasses import dataclass

# What a process holds on a GPU beside its tensors (context, kernels), and the share of a GPU that sweeps may fill.
CONTEXT_MB = 600
FILL = 0.9


@dataclass(frozen=True)
class Gpu:
    """One GPU: its index for CUDA_VISIBLE_DEVICES, memory in MiB, compute capability."""

    index: str
    total_mb: int
    free_mb: int
    capability: float
    uuid: str = ""


@functools.cache
def gpus() -> tuple[Gpu, ...]:
    """The GPUs that this process may use; () where there are none."""
    query = "index,memory.total,memory.free,compute_cap,uuid"
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"]
    try:
        text = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    found = parse_gpus(text)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return found
    wanted = [name.strip() for name in visible.split(",") if name.strip()]
    return tuple(gpu for gpu in found if gpu.index in wanted or (gpu.uuid and gpu.uuid.startswith(tuple(wanted))))


def parse_gpus(text: str) -> tuple[Gpu, ...]:
    """GPUs from nvidia-smi's CSV lines `index, total, free, capability`; other lines are left out.

    >>> parse_gpus("0, 143771, 143000, 9.0")
    (Gpu(index='0', total_mb=143771, free_mb=143000, capability=9.0, uuid=''),)
    """
    found = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        try:
            found.append(Gpu(cells[0], int(cells[1]), int(cells[2]), float(cells[3]), *cells[4:5]))
        except (IndexError, ValueError):
            continue
    return tuple(found)


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def precision(wanted: object, device: str) -> str:
    """What trainer.precision=auto will be: bf16-mixed on GPUs that have it (compute capability 8.0 on), else 32."""
    if str(wanted) != "auto":
        return str(wanted)
    on_gpu = device != "cpu" and bool(gpus())
    return "bf16-mixed" if on_gpu and all(gpu.capability >= 8.0 for gpu in gpus()) else "32"


def fitting(gpu_mb: int, run_mb: float) -> int:
    """How many runs that peak at run_mb fit a GPU with gpu_mb free; at least one.

    >>> fitting(80000, 1400)
    36
    """
    return max(1, int(gpu_mb * FILL // (run_mb + CONTEXT_MB)))
