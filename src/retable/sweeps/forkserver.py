"""A process that imports once and forks a worker whenever it is asked to: no worker but the first waits for imports.

The sweep starts it as `python -m retable.sweeps.forkserver` with one end of a socket as its standard input. A request
is one packet, {"number": of the worker, "environment": {...}}, with two file descriptors: where the worker's commands
come from, and where its events go. Back come {"number", "pid"} and, when the worker has ended, {"number", "code"}.

It is only ever one thread, has not touched CUDA, and runs nothing of a run's, so that what is forked is as clean as a
new process; should a library have started a thread all the same, the child starts over as one. When the sweep goes, its
end of the socket closes and this process goes; workers see the same by their commands. Should this process be killed,
its workers go on, and only what they die of is unknown then.
"""

import contextlib
import json
import os
import select
import signal
import socket
import sys
import traceback
from typing import Any, NoReturn

_PACKET = 1 << 16  # bytes; a request holds a few variables
_WAKE_BYTES = 4096


def available() -> bool:
    """Whether workers can be forked here; where not, each is a new process that imports for itself."""
    return sys.platform == "linux"


class Server:
    """The forking process's own side: serves requests until the other end of the socket is closed.

    Args:
        control: this end of the socket (SOCK_SEQPACKET: a packet is sent or received whole).
    """

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._numbers: dict[int, int] = {}  # of the workers that live, by process id
        # A child's end makes `select` return: Python writes the signal's number into this pipe.
        self._wake, self._waker = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._waker, False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._waker)

    def serve(self) -> None:
        """Fork on request, and tell of every worker that has ended."""
        while True:
            readable, _, _ = select.select([self._control, self._wake], [], [])
            if self._wake in readable:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake, _WAKE_BYTES)
                self._bury()
            if self._control in readable:
                packet, descriptors, _, _ = socket.recv_fds(self._control, _PACKET, 2)
                if not packet:  # the sweep has ended, or asks for an end; the CPU time of its workers goes with this
                    self._bury(wait=True)
                    return
                self._fork(json.loads(packet), descriptors)

    def _fork(self, request: dict[str, Any], descriptors: list[int]) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        clean = _threads() == 1  # else a lock that another thread holds stays locked for ever in the child
        pid = os.fork()
        if pid == 0:
            self._become_worker(request, descriptors, clean)
        for descriptor in descriptors:
            os.close(descriptor)  # or a later worker would hold the ends of this one's pipes
        self._numbers[pid] = request["number"]
        self._say(number=request["number"], pid=pid)

    def _become_worker(self, request: dict[str, Any], descriptors: list[int], clean: bool) -> NoReturn:
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for descriptor in (self._wake, self._waker):
                os.close(descriptor)
            self._control.detach()  # it is descriptor 0, which the next lines replace
            for place, descriptor in enumerate(descriptors):
                os.dup2(descriptor, place)
                os.close(descriptor)
            os.environ.update(request["environment"])
            if not clean:
                os.execv(sys.executable, [sys.executable, "-m", "retable.sweeps.worker"])
            from retable.sweeps.worker import main

            main()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)

    def _bury(self, wait: bool = False) -> None:
        while self._numbers:
            pid, status = os.waitpid(-1, 0 if wait else os.WNOHANG)
            if pid == 0:
                return
            if pid in self._numbers:
                self._say(number=self._numbers.pop(pid), code=os.waitstatus_to_exitcode(status))

    def _say(self, **packet: Any) -> None:
        with contextlib.suppress(OSError):  # the sweep has gone: the next `recv` tells
            self._control.send(json.dumps(packet).encode())


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


def main() -> None:
    """Import, then serve the socket that is standard input. Ctrl-C is the sweep's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(2, 1)
    from retable.run.imports import import_all

    import_all()
    Server(socket.socket(fileno=0)).serve()
    os._exit(0)


if __name__ == "__main__":
    main()
