"""Worker processes as the sweep sees them: how one comes into being and ends, and how many the machine gets."""

import contextlib
import json
import queue
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from retable.errors import RetableError, ending
from retable.sweeps.forkserver import ForkServer, python, signal_group

DIED = "died"
_PATIENCE = 10  # seconds that a worker without a run has to go by itself
_LAST_WORDS = 2  # seconds for what a dead worker's pipe still holds


class WorkerProcess:
    """Starts a worker and forwards its events, each with the worker's number, to a queue.

    Args:
        number: the worker's own.
        events: receives (worker, event) pairs; the last event of a worker is "died".
        gpu: names for CUDA_VISIBLE_DEVICES, or None to leave the environment as it is.
        threads: CPU threads.
        server: forks the worker; None starts a new process.
    """

    def __init__(
        self, number: int, events: "queue.Queue[Any]", gpu: str | None, threads: int, server: ForkServer | None = None
    ) -> None:
        self.number, self.gpu = number, gpu
        self.runs: list[Any] = []  # that it has been given and that have not ended
        self.ready = self.begun = False  # has it imported; has it begun a run
        self.given = self.last_event = 0.0  # when it was given its runs, and when its last event came
        self.asked_to_stop = False
        self.silence_reported = False  # that no event has come for long
        self.verdict: str | None = None  # why it was ended
        self.gpu_mb: float | None = None  # what it holds of its GPU
        self._events = events
        environment = worker_environment(gpu, threads)
        self._child = server.fork(number, environment) if server else _Spawned(environment)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._waiter = threading.Thread(target=self._await_end, daemon=True)
        self._waiter.start()

    @property
    def pid(self) -> int | None:
        """Its process id, once it is known."""
        return self._child.pid

    def send(self, **command: Any) -> None:
        """Give a command; a worker that is gone says so by its event."""
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._child.commands.write(json.dumps(command) + "\n")
            self._child.commands.flush()

    def kill(self) -> None:
        """End it at once, and what it has started."""
        self._child.kill()

    def end(self, verdict: str) -> None:
        """End it at once, for a reason that its death tells."""
        if self.verdict is None:
            self.verdict = verdict
            self.kill()

    @property
    def stopped(self) -> bool:
        """Whether somebody has sent it SIGSTOP; false where that can't be known."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        except (OSError, IndexError):
            return False

    def signal(self, number: int) -> None:
        """Send a signal to it and to what it has started."""
        if self._child.pid is not None:
            signal_group(self._child.pid, number)

    def close(self) -> None:
        """End it when it is idle, and wait for it."""
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._child.commands.close()
        self._waiter.join(_PATIENCE)
        if self._waiter.is_alive():
            self._child.kill()
            self._waiter.join(_PATIENCE)  # no longer: a process that waits for a dead disk can't be killed

    def _read(self) -> None:
        for line in self._child.events:
            try:
                self._events.put((self, json.loads(line)))
            except ValueError:
                continue

    def _await_end(self) -> None:
        """Tell of its death by its exit: its pipe may live on in a process that its run has started."""
        code = self._child.wait()
        self._child.kill()  # what is left of its process group
        self._reader.join(_LAST_WORDS)
        if not self._reader.is_alive():
            self._child.events.close()
        with contextlib.suppress(OSError, ValueError):
            self._child.commands.close()
        self._events.put((self, {"event": DIED, "reason": f"the worker process {ending(code)}"}))


def ask(commands: Sequence[dict[str, Any]], threads: int, gpu: str | None = None) -> Iterator[dict[str, Any]]:
    """Have one worker do something other than runs; gives what it answers to each command.

    Args:
        commands: see retable.sweeps.worker; each is answered by one event.
        threads, gpu: see `WorkerProcess`.

    Raises:
        RetableError: if it dies of it.
    """
    events: queue.Queue[Any] = queue.Queue()
    worker = WorkerProcess(0, events, gpu, threads)
    try:
        for command in commands:
            worker.send(**command)
        for _ in commands:
            event = {"event": "ready"}
            while event["event"] == "ready":
                _, event = events.get()
            if event["event"] == DIED:
                raise RetableError(event["reason"])
            yield event
    finally:
        worker.kill()
        worker.close()


def worker_environment(gpu: str | None, threads: int) -> dict[str, str]:
    """The variables that make a worker what it is.

    Args:
        gpu: name for CUDA_VISIBLE_DEVICES, or None to leave the environment as it is.
        threads: CPU threads.
    """
    threads_of = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    return threads_of | ({"CUDA_VISIBLE_DEVICES": gpu} if gpu is not None else {})


class _Spawned:
    """A worker that is a new process: a `Child`."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = python("retable.sweeps.worker", environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.commands, self.events = self._process.stdin, self._process.stdout
        self.pid, self.wait = self._process.pid, self._process.wait

    def kill(self) -> None:
        self._process.kill()  # also where it has no process group of its own yet
        signal_group(self.pid, signal.SIGKILL)
