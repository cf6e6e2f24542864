"""The workers of a sweep: how many of them, with which GPU, and how they start and end."""

import queue
from collections.abc import Iterable
from typing import Any

from retable.sweeps import devices, forkserver
from retable.sweeps.children import ForkServer
from retable.sweeps.process import WorkerProcess


class Crew:
    """Starts workers as runs call for them, up to what the machine holds.

    On CPU they are forked from a process that has imported (retable.sweeps.forkserver), where that can be done. With
    GPUs each is a new process: that CUDA works after such a fork has not been tried on a machine that has one.

    Args:
        settings: conf/base.yaml's `sweep`.
        use_gpu: whether runs may use the GPUs.
    """

    def __init__(self, settings: dict[str, Any], use_gpu: bool = True) -> None:
        self.settings = settings
        self.workers: list[WorkerProcess] = []
        self.gpus = devices.gpus() if use_gpu else ()
        self.peak_mb: float | None = None  # GPU memory of the largest run so far
        self._events: queue.Queue[tuple[WorkerProcess, dict[str, Any]]] = queue.Queue()
        self._server: ForkServer | None = None
        self._started = 0

    @property
    def busy(self) -> list[WorkerProcess]:
        """Workers that have a run."""
        return [worker for worker in self.workers if worker.run is not None]

    @property
    def idle(self) -> list[WorkerProcess]:
        """Workers that wait for a run."""
        return [worker for worker in self.workers if worker.run is None and worker.ready]

    def next_event(self, seconds: float) -> tuple[WorkerProcess, dict[str, Any]] | tuple[None, None]:
        """What a worker has said, or (None, None) when none said anything for so long."""
        try:
            return self._events.get(timeout=seconds)
        except queue.Empty:
            return None, None

    def grow(self, wanted: int) -> None:
        """Start workers up to what the runs and the machine call for."""
        while len(self.workers) < min(wanted, self.most()):
            self.start()

    def start(self) -> None:
        """Start one more."""
        self._started += 1
        gpu = self._gpu_with_room()
        server = self._live_server() if gpu is None and forkserver.available() else None
        self.workers.append(WorkerProcess(self._started, self._events, gpu, self.settings["threads"], server))

    def most(self) -> int:
        """How many workers the machine holds, as far as is known now."""
        asked = self.settings["workers"]
        if asked != "auto":
            return int(asked)
        if not self.gpus:
            return max(1, devices.cores() // self.settings["threads"])
        if self.peak_mb is None:
            return len(self.gpus)  # one a GPU until a run has shown what it needs
        room = sum(devices.fitting(gpu.free_mb, self.peak_mb) for gpu in self.gpus)
        return min(room, max(len(self.gpus), devices.cores()))

    def note_memory(self, gpu_mb: float | None) -> None:
        """A run has been seen to need so much of a GPU."""
        if gpu_mb:
            self.peak_mb = max(self.peak_mb or 0, gpu_mb)

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
            if worker.run is None:
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

    def _gpu_with_room(self) -> str | None:
        if not self.gpus:
            return None
        used = [worker.gpu for worker in self.workers]
        return min(self.gpus, key=lambda gpu: used.count(gpu.index) / gpu.total_mb).index
