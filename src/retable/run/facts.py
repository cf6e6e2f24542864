"""What a number is traced to: versions, commit, device, memory."""

import functools
import importlib.metadata
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

_PACKAGES = ("torch", "torchvision", "pytorch-lightning", "hydra-core", "numpy")


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python, this package and what its results depend on."""
    found = {"python": platform.python_version()}
    for name in ("retable", *_PACKAGES):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


@functools.cache
def git() -> dict[str, Any]:
    """Commit of the working directory's repository and whether its tree was dirty; None outside of one."""

    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], capture_output=True, text=True, timeout=60, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    commit = ask("rev-parse", "HEAD")
    changes = ask("status", "--porcelain") if commit else None
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def device(kind: str) -> dict[str, Any]:
    """The device that trained ("cpu" or "cuda"): its kind, its name, and the threads used."""
    import torch

    name = torch.cuda.get_device_name() if kind == "cuda" else _processor()
    return {"kind": kind, "name": name, "threads": torch.get_num_threads()}


def reset_peak_memory(kind: str) -> None:
    """Start measuring the peak anew, so that a worker's earlier runs don't count."""
    import torch

    if kind == "cuda":
        torch.cuda.reset_peak_memory_stats()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory_mb(kind: str) -> dict[str, float | None]:
    """Peak resident memory of the process and, on a GPU, peak memory allocated there, in MiB."""
    import torch

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        peak = next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        pass
    gpu = torch.cuda.max_memory_reserved() / 2**20 if kind == "cuda" else None
    return {"host": round(peak, 1), "gpu": None if gpu is None else round(gpu, 1)}


@functools.cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def count_parameters(module: "nn.Module") -> int:
    """Learnable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
