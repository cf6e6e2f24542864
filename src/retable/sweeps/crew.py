"""The worker processes of a sweep together: how many the machine gets, and which GPU each."""

import contextlib
import os
import queue
import signal
import time
from collections.abc import Iterable, Mapping
from typing import Any

from retable.errors import RetableError
from retable.run import devices
from retable.sweeps import forkserver
from retable.sweeps.forkserver import ForkServer
from retable.sweeps.processes import WorkerProcess

_FRESH = 10  # seconds for which what was seen of a GPU's memory holds, where to look again takes as long as a start


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
        """A worker and its event, or (None, None) when none had any for so many seconds."""
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
            worker.last_event = time.monotonic()
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
