"""Worker processes as the sweep sees them: how one comes into being and ends, and how many the machine gets."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from retable.errors import RetableError
from retable.run import devices
from retable.sweeps import forkserver
from retable.sweeps.forkserver import Child, ForkServer, python, signal_group

DIED = "died"
_PATIENCE = 10  # seconds that a worker without a run has to go by itself
_LAST_WORDS = 2  # seconds for what a dead worker's pipe still holds
_FRESH = 10  # seconds for which what was seen of a GPU's memory holds, where to look again takes as long as a start


class WorkerProcess:
    """Starts a worker and forwards its events, each with the worker's number, to a queue.

    Args:
        number: tells workers apart.
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
        self.given = self.heard = 0.0  # when it was given its runs, and when it last said something
        self.asked_to_stop = False
        self.silence_reported = False  # that it has said nothing for long
        self.verdict: str | None = None  # why it was ended
        self.gpu_mb: float | None = None  # what it holds of its GPU
        self._events = events
        environment = worker_environment(gpu, threads)
        self._child = server.fork(number, environment) if server else spawn(environment)
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
        self._events.put((self, {"event": DIED, "reason": _reason(code)}))


class Crew:
    """Starts workers as runs call for them, up to what the machine holds.

    They are forked from a process that has imported (retable.sweeps.forkserver), where that can be done.

    Args:
        settings: conf/base.yaml's `sweep`.
        use_gpu: whether runs may use the GPUs.
        width: processes that train one run together, the worker and those that its run starts; it has a GPU for each.
    """

    def __init__(self, settings: dict[str, Any], use_gpu: bool = True, width: int = 1) -> None:
        self.settings, self.width = settings, width
        self.workers: list[WorkerProcess] = []
        self.gpus = devices.gpus() if use_gpu else ()
        self.peak_mb: float | None = None  # GPU memory of the largest run so far
        self._free_mb = {gpu.name: float(gpu.free_mb) for gpu in self.gpus}  # as last seen
        self._seen = dict.fromkeys(self._free_mb, time.monotonic())  # when that was
        self._events: queue.Queue[tuple[WorkerProcess, dict[str, Any]]] = queue.Queue()
        self._server: ForkServer | None = None
        self._started = 0

    @property
    def busy(self) -> list[WorkerProcess]:
        """Workers that have a run."""
        return [worker for worker in self.workers if worker.runs]

    @property
    def idle(self) -> list[WorkerProcess]:
        """Workers that wait for a run."""
        return [worker for worker in self.workers if not worker.runs and worker.ready]

    def next_event(self, seconds: float) -> tuple[WorkerProcess, dict[str, Any]] | tuple[None, None]:
        """What a worker has said, or (None, None) when none said anything for so long."""
        try:
            return self._events.get(timeout=seconds)
        except queue.Empty:
            return None, None

    def grow(self, wanted: int) -> None:
        """Start workers up to what the runs and the machine call for."""
        while len(self.workers) < wanted:
            self._look_again(waits=len(self.workers) < self.most())
            if len(self.workers) >= self.most():
                return
            self._start()

    def start(self) -> None:
        """Start one more."""
        self._look_again(waits=True)
        self._start()

    def _start(self) -> None:
        self._started += 1
        gpu = self._gpu_with_room()
        server = self._live_server() if forkserver.available() else None
        self.workers.append(WorkerProcess(self._started, self._events, gpu, self.settings["threads"], server))

    def most(self) -> int:
        """How many workers the machine holds, as far as is known now."""
        asked = self.settings["workers"]
        if asked != "auto":
            return int(asked)
        if not self.gpus:
            return max(1, devices.cores() // (self.settings["threads"] * self.width))
        if self.width > 1:
            return len(self._groups())
        if self.peak_mb is None:
            return len(self.gpus)  # one a GPU until a run has shown what it needs
        room = sum(self._room(gpu.name, self.peak_mb) for gpu in self.gpus)
        return min(max(1, room), max(len(self.gpus), devices.cores()))

    def note_memory(self, worker: WorkerProcess, event: Mapping[str, Any]) -> None:
        """Learn from a worker's event what its run needs of a GPU (`gpu_mb`) and what is left of that (`free_mb`)."""
        if event.get("gpu_mb"):
            worker.gpu_mb = event["gpu_mb"]
            self.peak_mb = max(self.peak_mb or 0, event["gpu_mb"])
        if event.get("free_mb") is not None and worker.gpu in self._free_mb:
            self._see({worker.gpu: event["free_mb"]})

    def _see(self, free_mb: Mapping[str, float]) -> None:
        self._free_mb |= free_mb
        self._seen |= dict.fromkeys(free_mb, time.monotonic())

    def _look_again(self, waits: bool) -> None:
        """See how much memory of the GPUs is free now: other programs come and go while a sweep trains.

        Args:
            waits: whether to wait for a new process to see it, where there is no other way.
        """
        if not self.gpus:
            return
        found = devices.free_mb(self.gpus)
        if found is None and waits and time.monotonic() - min(self._seen.values()) > _FRESH:
            with contextlib.suppress(RetableError):  # what was seen last has to do
                found = {gpu.name: float(gpu.free_mb) for gpu in devices.look()}
        self._see({name: mb for name, mb in (found or {}).items() if name in self._free_mb})

    def _ours_mb(self, gpu: str) -> float:
        """Memory of a GPU that this sweep's workers have or can have; not what other programs hold now."""
        mine = [worker.gpu_mb for worker in self.workers if worker.gpu == gpu and worker.gpu_mb]
        return self._free_mb[gpu] + sum(mine) + devices.CONTEXT_MB * len(mine)

    def _groups(self) -> list[str]:
        """The GPUs of one run each, as CUDA_VISIBLE_DEVICES; where there are too few of them the run will tell."""
        names = [gpu.name for gpu in self.gpus]
        whole = len(names) // self.width * self.width
        return [",".join(names[i : i + self.width]) for i in range(0, whole, self.width)] or [",".join(names)]

    def ask_to_stop(self) -> None:
        """Ask each once to end its run at the next chunk."""
        for worker in self.workers:
            if not worker.asked_to_stop:
                worker.asked_to_stop = True
                worker.send(do="stop")

    def pause(self) -> None:
        """Stop this process, as Ctrl-Z does, and the workers with it; go on together."""
        for worker in self.workers:
            worker.signal(signal.SIGSTOP)
        begin = time.monotonic()
        os.kill(os.getpid(), signal.SIGSTOP)
        for worker in self.workers:
            worker.given += time.monotonic() - begin
            worker.heard = time.monotonic()
            worker.signal(signal.SIGCONT)

    def kill(self) -> None:
        """End all at once, and their runs with them."""
        for worker in self.workers:
            worker.kill()

    def dismiss(self, workers: Iterable[WorkerProcess]) -> None:
        """End some that have no run."""
        for worker in list(workers):
            worker.close()
            self.workers.remove(worker)

    def close(self) -> None:
        """End the workers; those without a run at once."""
        for worker in self.workers:
            if not worker.runs:
                worker.kill()
        if self._server is not None and not self._server.imported:
            self._server.close()  # the workers that it hasn't forked yet need not be waited for
        for worker in self.workers:
            worker.close()
        self.workers = []
        if self._server is not None:
            self._server.close()

    def _live_server(self) -> ForkServer:
        if self._server is None or not self._server.alive:
            self._server = ForkServer()
        return self._server

    def _room(self, gpu: str, peak_mb: float) -> int:
        """How many workers a GPU holds, those that it has among them."""
        return devices.fitting(self._ours_mb(gpu), peak_mb)

    def _gpu_with_room(self) -> str | None:
        """The GPU that has most memory for each of its workers, of those that have room for one more."""
        if not self.gpus:
            return None
        used = [worker.gpu for worker in self.workers]
        if self.width > 1:
            return min(self._groups(), key=used.count)

        def load(gpu: devices.Gpu) -> tuple[bool, float]:
            count = used.count(gpu.name)
            full = self.peak_mb is not None and count >= self._room(gpu.name, self.peak_mb)
            return full, (count + 1) / max(1, self._ours_mb(gpu.name))

        return min(self.gpus, key=load).name


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


def spawn(environment: Mapping[str, str]) -> Child:
    """Start a worker as a new process."""
    return _Spawned(environment)


class _Spawned:
    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = python("retable.sweeps.worker", environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.commands, self.events = self._process.stdin, self._process.stdout
        self.pid, self.wait = self._process.pid, self._process.wait

    def kill(self) -> None:
        self._process.kill()  # also where it has no process group of its own yet
        signal_group(self.pid, signal.SIGKILL)


def _reason(code: int | None) -> str:
    """How a process ended, in words."""
    if code is None:
        return "the worker process died, of what is not known: the process that had forked it was gone, too"
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        hint = " (kill -9, or the out-of-memory killer)" if name == "SIGKILL" else ""
        return f"the worker process died of {name}{hint}"
    return f"the worker process ended with exit code {code}"
