"""One worker as the pool sees it: a child process, a pipe of commands, and its events."""

import contextlib
import json
import queue
import signal
import threading
from typing import Any

from retable.sweeps.children import ForkServer, spawn, worker_environment

DIED = "died"
_PATIENCE = 10  # seconds that a worker without a run has to go by itself


class WorkerProcess:
    """Starts a worker and forwards its events, each with the worker's number, to a queue.

    Args:
        number: tells workers apart.
        events: receives (worker, event) pairs; the last event of a worker is "died".
        gpu: index for CUDA_VISIBLE_DEVICES, or None to leave the environment as it is.
        threads: CPU threads.
        server: forks the worker; None starts a new process.
    """

    def __init__(
        self, number: int, events: "queue.Queue[Any]", gpu: str | None, threads: int, server: ForkServer | None = None
    ) -> None:
        self.number, self.gpu = number, gpu
        self.run: Any = None
        self.ready = self.begun = False  # has it imported; has it begun a run
        self._events = events
        environment = worker_environment(gpu, threads)
        self._child = server.fork(number, environment) if server else spawn(environment)
        self._forwarder = threading.Thread(target=self._forward, daemon=True)
        self._forwarder.start()

    def send(self, **command: Any) -> None:
        """Give a command; a worker that is gone says so by its event."""
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._child.commands.write(json.dumps(command) + "\n")
            self._child.commands.flush()

    def kill(self) -> None:
        """End it at once."""
        self._child.kill()

    def close(self) -> None:
        """End it when it is idle, and wait for it."""
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._child.commands.close()
        self._forwarder.join(_PATIENCE)
        if self._forwarder.is_alive():
            self._child.kill()
            self._forwarder.join()

    def _forward(self) -> None:
        for line in self._child.events:
            try:
                self._events.put((self, json.loads(line)))
            except ValueError:
                continue
        self._child.events.close()
        with contextlib.suppress(OSError):
            self._child.commands.close()
        self._events.put((self, {"event": DIED, "reason": _reason(self._child.wait())}))


def _reason(code: int | None) -> str:
    """How a process ended, in words."""
    if code is None:
        return "the worker process died, of what is not known: the process that had forked it was gone, too"
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        hint = " (kill -9, or the out-of-memory killer)" if name == "SIGKILL" else ""
        return f"the worker process died of {name}{hint}"
    return f"the worker process ended with exit code {code}"
