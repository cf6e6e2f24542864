"""A process that imports once and forks a worker whenever it is asked to: no worker but the first waits for imports.

On a core of an AMD EPYC a fork takes 27 ms, and the imports 4 s of CPU time (benchmarks/README.md).

Both ends are here: `ForkServer` is the sweep's, and the sweep starts `python -m retable.sweeps.forkserver` with one end
of a socket as its standard input. A request is one packet, {"number": of the worker, "environment": {...}}, with two
file descriptors: where the worker's commands come from, and where its events go. Back come {"number", "pid"} and, when
the worker has ended, {"number", "code"}.

It is only ever one thread, has not touched a GPU (a context can't be taken along), and runs nothing of a run's, so that
what is forked is as clean as a new process; should a library have done either all the same, the child starts over as
one. When the sweep goes, its end of the socket closes and this process goes; workers see the same by their commands.
Should this process be killed, its workers go on, and only what they die of is unknown then.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, Protocol, TextIO

_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_GPU_FILES = ("/dev/nvidia", "/dev/kfd", "/dev/dxg")  # of NVIDIA's driver, AMD's, and that of Windows below Linux
_PACKET = 1 << 16  # bytes; a request holds a few variables
_PATIENCE = 10  # seconds
_WAKE_BYTES = 4096
_WINK = 0.01  # seconds


def available() -> bool:
    """Whether workers can be forked here; where not, each is a new process that imports for itself."""
    return sys.platform == "linux"


class Child(Protocol):
    """A worker process: `commands` goes in, `events` comes out."""

    commands: TextIO
    events: TextIO
    pid: int | None

    def kill(self) -> None:
        """End it and whatever is in its process group, also when it has ended already."""

    def wait(self) -> int | None:
        """Wait for its end. Returns its exit code, negative for a signal; None if that can't be known."""


class ForkServer:
    """The fork server as the sweep sees it. Its imports go on in the background; requests wait for them.

    Attributes:
        imported: whether it has begun to fork.
    """

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # One thread while it imports, whatever the workers get: a pool of threads would not survive the fork.
        environment = dict.fromkeys(_ONE_THREAD, "1")
        self._process = python("retable.sweeps.forkserver", environment, stdin=theirs, stdout=subprocess.DEVNULL)
        theirs.close()
        self._control = ours
        self._lock = threading.Lock()
        self._children: dict[int, _Forked] = {}
        self.imported = self._closed = False
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def alive(self) -> bool:
        """Whether it can still fork."""
        return not self._closed and self._process.poll() is None

    def fork(self, number: int, environment: Mapping[str, str]) -> Child:
        """Ask for a worker. One that can't come any more ends like one that has died.

        Args:
            number: the worker's own.
            environment: variables set before the worker begins.
        """
        commands, into = os.pipe()
        out, events = os.pipe()
        child = self._children[number] = _Forked(into, out)  # known before the answer can come
        packet = json.dumps({"number": number, "environment": dict(environment)}).encode()
        with self._lock:
            if self._closed:
                child.ended(self._process.poll())
            else:
                with contextlib.suppress(OSError):
                    socket.send_fds(self._control, [packet], [commands, events])
        os.close(commands)
        os.close(events)
        return child

    def close(self) -> None:
        """End it: once its workers have ended where it has any, else at once. No worker comes any more."""
        with self._lock, contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)
        if not self.imported:
            self._process.kill()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._listener.join(_PATIENCE)

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while packet := self._control.recv(_PACKET):
                self.imported = True
                event = json.loads(packet)
                if "pid" in event:
                    self._children[event["number"]].began(event["pid"])
                else:
                    self._children.pop(event["number"]).ended(event["code"])
        code = self._process.wait()
        with self._lock:
            self._closed = True
            self._control.close()
        for child in list(self._children.values()):
            child.orphaned(code)


class _Forked:
    def __init__(self, commands: int, events: int) -> None:
        self.commands = os.fdopen(commands, "w", encoding="utf-8")
        self.events = os.fdopen(events, encoding="utf-8")
        self.pid: int | None = None
        self._code: int | None = None
        self._over, self._unwanted = threading.Event(), False

    def began(self, pid: int) -> None:
        self.pid = pid
        if self._unwanted:
            self.kill()

    def ended(self, code: int | None) -> None:
        self._code = code
        self._over.set()

    def orphaned(self, code: int | None) -> None:
        """Note that its fork server is gone: from then on only the kernel says when it ends, and nobody how."""
        if self.pid is None:
            self.ended(code)
        else:
            threading.Thread(target=self._await_end, daemon=True).start()

    def _await_end(self) -> None:
        _await_end(self.pid)
        self.ended(None)

    def kill(self) -> None:
        self._unwanted = True
        if self.pid is None:
            return
        if not self._over.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)  # also where it has no process group of its own yet
        signal_group(self.pid, signal.SIGKILL)

    def wait(self) -> int | None:
        self._over.wait()
        return self._code


def _await_end(pid: int) -> None:
    """Wait for the end of a process that is no child of this one."""
    with contextlib.suppress(ProcessLookupError):
        try:
            descriptor = os.pidfd_open(pid)
        except OSError as error:
            if isinstance(error, ProcessLookupError):
                raise
            while True:  # a kernel before 5.3
                os.kill(pid, 0)
                time.sleep(_WINK)
        ready = select.poll()
        ready.register(descriptor, select.POLLIN)
        ready.poll()
        os.close(descriptor)


def signal_group(pid: int, number: int) -> None:
    """Send a signal to the process group that a worker leads, if there is any left of it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


class _Server:
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
                    self._end()
                    return
                self._fork(json.loads(packet), descriptors)

    def _fork(self, request: dict[str, Any], descriptors: list[int]) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        # Else a lock that another thread holds stays locked for ever in the child, and a GPU is lost to it.
        clean = len(os.listdir("/proc/self/task")) == 1 and not _has_used_a_gpu()
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

    def _bury(self) -> None:
        while self._numbers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            if pid in self._numbers:
                self._say(number=self._numbers.pop(pid), code=os.waitstatus_to_exitcode(status))

    def _end(self) -> None:
        """Wait for the workers, which see by their commands that their sweep has gone; end those that can't."""
        deadline = time.monotonic() + _PATIENCE
        while self._numbers and time.monotonic() < deadline:
            self._bury()
            time.sleep(_WINK)
        for pid in self._numbers:
            signal_group(pid, signal.SIGKILL)
        while self._numbers and time.monotonic() < deadline + _PATIENCE:
            self._bury()
            time.sleep(_WINK)

    def _say(self, **packet: Any) -> None:
        with contextlib.suppress(OSError):  # the sweep has gone: the next `recv` tells
            self._control.send(json.dumps(packet).encode())


def _has_used_a_gpu(descriptors: Path = Path("/proc/self/fd")) -> bool:
    """Whether this process has initialised CUDA, by torch or past it: a driver at work holds its devices open."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return True
    for descriptor in descriptors.iterdir():
        with contextlib.suppress(OSError):  # that of the listing itself
            if os.readlink(descriptor).startswith(_GPU_FILES):
                return True
    return False


def python(module: str, environment: Mapping[str, str], *arguments: str, **options: Any) -> "subprocess.Popen[str]":
    """Start a module of this project as a process of its own. Args: options: of Popen."""
    paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}  # modules beside the script, too
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments], text=True, env=os.environ | paths | environment, **options
    )


def main() -> None:
    """Import, then serve the socket that is standard input. Ctrl-C is the sweep's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(2, 1)
    from retable.run.imports import import_all

    import_all()
    _Server(socket.socket(fileno=0)).serve()
    os._exit(0)


if __name__ == "__main__":
    main()
