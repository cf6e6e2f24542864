"""NVIDIA's Multi-Process Service for the time of a sweep: kernels of several workers run at once on a GPU.

Without it a GPU gives its processes turns. What that wins has not been measured: no GPU has run it yet. A daemon
(`nvidia-cuda-mps-control`) is started in a folder of its own where it is found, unless somebody else's serves these
processes already, and is stopped when the sweep has ended. A process of its own looks after it, so that a sweep that
is killed leaves no daemon behind. Under MPS a program that makes the GPU itself fail (an illegal address) ends the
others on that GPU, too; `sweep.mps=never` keeps them apart.

Source: https://docs.nvidia.com/deploy/mps/
"""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from retable.run.devices import Gpu
from retable.sweeps.forkserver import python

PROGRAM = "nvidia-cuda-mps-control"
PATIENCE = 20.0  # seconds for a daemon to start, and to stop
_PIPES, _LOGS = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"
_ANYBODYS = Path("/tmp/nvidia-mps/control")  # of a daemon that serves every process that names no folder
_POLL = 0.05  # seconds


def is_wanted(settings: dict[str, Any], gpus: Sequence[Gpu]) -> bool:
    """Whether a sweep is to have a daemon of its own. Args: settings: conf/base.yaml's `sweep`."""
    served = _PIPES in os.environ or _ANYBODYS.exists()
    several = gpus and settings["workers"] != 1
    return bool(several) and settings.get("mps", "auto") != "never" and not served and shutil.which(PROGRAM) is not None


@contextlib.contextmanager
def serving(settings: dict[str, Any], gpus: Sequence[Gpu]) -> Iterator[None]:
    """Within the block new processes are served by MPS, where that can be; a line says whether they are."""
    if not is_wanted(settings, gpus):
        yield
        return
    folder = tempfile.mkdtemp(prefix="mps-")  # short: a socket's path has 107 characters at most
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    guard = python("retable.sweeps.mps", {}, folder, start_new_session=True, **streams)
    try:
        answer = guard.stdout.readline().strip()  # the guard itself waits no longer than PATIENCE
        print(
            "MPS: serves this sweep" if answer == "ready" else f"MPS: not started ({answer or 'no reason given'})",
            flush=True,
        )
        folders = {_PIPES: folder, _LOGS: folder} if answer == "ready" else {}
        os.environ.update(folders)
        try:
            yield
        finally:
            for name in folders:
                os.environ.pop(name, None)
    finally:
        guard.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            guard.wait(3 * PATIENCE)
        guard.kill()
        guard.wait()
        guard.stdout.close()


# The process that looks after the daemon ------------------------------------------------------------------------------


def _send(command: str, environment: dict[str, str]) -> bool:
    """Give the daemon a command; whether it has taken it."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        words = {"input": f"{command}\n", "capture_output": True, "text": True, "timeout": PATIENCE}
        return subprocess.run([PROGRAM], env=environment, **words).returncode == 0
    return False


def _started(daemon: "subprocess.Popen[str]", environment: dict[str, str]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while daemon.poll() is None and time.monotonic() < deadline:
        if _send("get_server_list", environment):
            return True
        time.sleep(_POLL)
    return False


def _reason(daemon: "subprocess.Popen[str]", output: Path) -> str:
    lines = [line.strip() for line in output.read_text(errors="replace").splitlines() if line.strip()]
    code = daemon.poll()
    return lines[-1] if lines else "it does not answer" if code is None else f"exit code {code}"


def main() -> None:
    """Start a daemon, say so, and stop it when standard input ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # it ends when the sweep does
    folder = Path(sys.argv[1])
    # Under a daemon that sees some of the GPUs only, the names that its clients have for them would be others.
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    environment |= {_PIPES: str(folder), _LOGS: str(folder)}
    output = folder / "output"
    with output.open("w") as written:
        streams = {"stdin": subprocess.DEVNULL, "stdout": written, "stderr": written}
        daemon = subprocess.Popen([PROGRAM, "-f"], env=environment, text=True, start_new_session=True, **streams)
    try:
        ready = _started(daemon, environment)
        print("ready" if ready else _reason(daemon, output), flush=True)
        if ready:
            select.select([sys.stdin], [], [])
            _send(f"quit -t {PATIENCE / 2:.0f}", environment)
        with contextlib.suppress(subprocess.TimeoutExpired):
            daemon.wait(PATIENCE if ready else 0)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(daemon.pid, signal.SIGKILL)  # the servers that it has started, too
        daemon.wait()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
