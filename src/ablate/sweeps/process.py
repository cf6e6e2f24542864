"""One worker as the pool sees it: a child process, a pipe of commands, and its events."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

DIED = "died"


class WorkerProcess:
    """Starts a worker and forwards its events, each with the worker's number, to a queue.

    Args:
        number: tells workers apart.
        events: receives (worker, event) pairs; the last event of a worker is "died".
        gpu: index for CUDA_VISIBLE_DEVICES, or None to leave the environment as it is.
        threads: CPU threads.
    """

    def __init__(self, number: int, events: "queue.Queue[Any]", gpu: str | None, threads: int) -> None:
        self.number, self.gpu = number, gpu
        self.run: Any = None
        self.ready = self.begun = False  # has it imported; has it begun a run
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)  # modules beside the script, too
        if gpu is not None:
            # nvidia-smi counts in the order of the bus, CUDA by itself with the fastest first.
            environment |= {"CUDA_VISIBLE_DEVICES": gpu, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        self._events = events
        self._child = subprocess.Popen(
            [sys.executable, "-m", "ablate.sweeps.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=Path.cwd(),
        )
        threading.Thread(target=self._forward, daemon=True).start()

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._child.pid

    def send(self, **command: Any) -> None:
        """Give a command; a worker that is gone says so by its event."""
        try:
            assert self._child.stdin is not None
            self._child.stdin.write(json.dumps(command) + "\n")
            self._child.stdin.flush()
        except (BrokenPipeError, ValueError):
            return

    def kill(self) -> None:
        """End it at once."""
        self._child.kill()

    def close(self) -> None:
        """End it when it is idle, and wait for it."""
        try:
            assert self._child.stdin is not None
            self._child.stdin.close()
        except (BrokenPipeError, ValueError):
            pass
        try:
            self._child.wait(10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def _forward(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            try:
                self._events.put((self, json.loads(line)))
            except ValueError:
                continue
        self._events.put((self, {"event": DIED, "reason": _reason(self._child.wait())}))


def _reason(code: int) -> str:
    """How a process ended, in words."""
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        hint = " (kill -9, or the out-of-memory killer)" if name == "SIGKILL" else ""
        return f"the worker process died of {name}{hint}"
    return f"the worker process ended with exit code {code}"
