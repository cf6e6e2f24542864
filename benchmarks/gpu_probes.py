"""What only a machine with a GPU can tell, a question a process: python benchmarks/gpu_probes.py NAME [cuda|cpu]

Each prints one JSON object. `gpu.py --part tests` asks them all.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

RUNS = 16  # that would train as one
# A1's convolutions: channels in and out, pixels along a side. Batch 64, kernels of 3 x 3.
A1 = ((3, 16, 32), (16, 32, 16), (32, 64, 8))
BATCH = 64


def fork(device: str) -> dict[str, Any]:
    """Does CUDA work in a child that was forked after torch was imported, two at once?"""
    before = torch.cuda.is_initialized()
    children = []
    for number in range(2):
        out, into = os.pipe()
        if (pid := os.fork()) == 0:
            try:
                value = float(torch.full((1000,), number + 1.0, device=device).sum())
                os.write(into, str(value).encode())
            except BaseException as error:
                os.write(into, f"{type(error).__name__}: {error}".encode())
            os._exit(0)
        os.close(into)
        children.append((pid, out))
    printed = []
    for pid, out in children:
        printed.append(os.read(out, 4096).decode())
        os.waitpid(pid, 0)
    return {"initialised_before": before, "works": printed == ["1000.0", "2000.0"], "printed": printed}


def mps(device: str) -> dict[str, Any]:
    """May MPS be started here, and does a process work through it? It has folders of its own and is stopped again."""
    program = shutil.which("nvidia-cuda-mps-control")
    if program is None:
        return {"found": False}
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        started = subprocess.run([program, "-d"], env=environment, capture_output=True, text=True, timeout=20)
        try:
            work = "import torch; print(float(torch.ones(1000, device='cuda').sum()))"
            printed = subprocess.run(
                [sys.executable, "-c", work], env=environment, capture_output=True, text=True, timeout=60
            )
            logs = " ".join(path.read_text(errors="replace")[-300:] for path in Path(folder).glob("*.log"))
            works = printed.stdout.strip() == "1000.0"
            return {"found": True, "started": started.returncode == 0, "works": works, "log": logs[-600:]}
        finally:
            subprocess.run([program], input="quit\n", env=environment, capture_output=True, text=True, timeout=30)


def graphs(device: str) -> dict[str, Any]:
    """Microseconds of the host and of the device for graphs of 60 and of 1,500 small kernels, and for the kernels."""
    x = torch.zeros(1024, device=device)
    found: dict[str, Any] = {}
    for kernels in (60, 1500):

        def work(kernels: int = kernels) -> None:
            for _ in range(kernels):
                x.add_(1.0)

        work()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        start = time.perf_counter()
        with torch.cuda.graph(graph):
            work()
        recording = time.perf_counter() - start
        figures = {"recording_ms": round(1e3 * recording, 2)}
        for name, launch in (("replayed", graph.replay), ("eager", work)):
            launch()
            torch.cuda.synchronize()
            repetitions, start = 100, time.perf_counter()
            for _ in range(repetitions):
                launch()
            host = time.perf_counter() - start
            torch.cuda.synchronize()
            whole = time.perf_counter() - start
            figures[f"{name}_host_us"] = round(1e6 * host / repetitions, 1)
            figures[f"{name}_us"] = round(1e6 * whole / repetitions, 1)
        found[str(kernels)] = figures
    return found


def batched(device: str) -> dict[str, Any]:
    """Milliseconds, both ways, of A1's convolutions for 16 runs: batched products, groups, one after another."""
    found: dict[str, Any] = {}
    for channels, maps, side in A1:
        ways = _ways(channels, maps, side, RUNS, device)
        figures = {name: round(_timed(way, device), 3) for name, way in ways.items()}
        found[f"{channels} to {maps} at {side}"] = figures
    return found


def company(device: str) -> dict[str, Any]:
    """Is a run's convolution the same, to the last bit, alone and as one of 16, in float32?"""
    found: dict[str, Any] = {}
    torch.backends.cudnn.allow_tf32 = False
    for channels, maps, side in A1:
        same = {}
        for name in ("batched", "grouped"):
            together = _ways(channels, maps, side, RUNS, device)[name]()[0]
            alone = _ways(channels, maps, side, 1, device)[name]()[0]
            same[name] = bool(torch.equal(together[:1].cpu(), alone.cpu()))
        found[f"{channels} to {maps} at {side}"] = same
    return found


def _ways(channels: int, maps: int, side: int, runs: int, device: str) -> dict[str, Callable[[], Any]]:
    """Forward and backward of a convolution of several runs: outputs (runs, batch, maps, side, side) first."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(RUNS, BATCH, channels, side, side, generator=generator)[:runs].to(device).requires_grad_()
    w = torch.randn(RUNS, maps, channels * 9, generator=generator)[:runs].to(device).requires_grad_()

    def back(y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (y.detach(), *torch.autograd.grad(y.sum(), (x, w)))

    def by_products() -> tuple[torch.Tensor, ...]:
        columns = F.unfold(x.flatten(0, 1), 3, padding=1)  # (runs * batch, channels * 9, pixels)
        columns = columns.view(runs, BATCH, channels * 9, side * side).transpose(1, 2).flatten(2)
        return back((w @ columns).view(runs, maps, BATCH, side, side).transpose(1, 2))

    def by_groups() -> tuple[torch.Tensor, ...]:
        joined = x.transpose(0, 1).flatten(1, 2)
        y = F.conv2d(joined, w.view(runs * maps, channels, 3, 3), padding=1, groups=runs)
        return back(y.view(BATCH, runs, maps, side, side).transpose(0, 1))

    def in_turn() -> tuple[torch.Tensor, ...]:
        parts = [F.conv2d(x[run], w[run].view(maps, channels, 3, 3), padding=1) for run in range(runs)]
        return back(torch.stack(parts))

    return {"batched": by_products, "grouped": by_groups, "in turn": in_turn}


def _timed(work: Callable[[], Any], device: str, repetitions: int = 20) -> float:
    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    work()
    wait()
    start = time.perf_counter()
    for _ in range(repetitions):
        work()
    wait()
    return 1e3 * (time.perf_counter() - start) / repetitions


@dataclass(frozen=True)
class Probe:
    """A question and the seconds that it may take."""

    ask: Callable[[str], dict[str, Any]]
    needs: float = 60


PROBES = {"fork": Probe(fork), "mps": Probe(mps), "graphs": Probe(graphs), "batched": Probe(batched)}
PROBES |= {"company": Probe(company)}


if __name__ == "__main__":
    print(json.dumps(PROBES[sys.argv[1]].ask(sys.argv[2] if len(sys.argv) > 2 else "cuda")))
