"""How a worker process comes into being, seen from the sweep: forked by the fork server, or started anew."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TextIO

_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_PACKET = 1 << 16  # bytes
_PATIENCE = 10  # seconds


class Child(Protocol):
    """A worker process: `commands` goes in, `events` comes out."""

    commands: TextIO
    events: TextIO

    def kill(self) -> None: ...
    def wait(self) -> int | None:
        """Wait for its end. Returns its exit code, negative for a signal; None if that can't be known."""


def worker_environment(gpu: str | None, threads: int) -> dict[str, str]:
    """The variables that make a worker what it is.

    Args:
        gpu: index for CUDA_VISIBLE_DEVICES, or None to leave the environment as it is.
        threads: CPU threads.
    """
    environment = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    if gpu is not None:
        # nvidia-smi counts in the order of the bus, CUDA by itself with the fastest first.
        environment |= {"CUDA_VISIBLE_DEVICES": gpu, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    return environment


def spawn(environment: Mapping[str, str]) -> Child:
    """Start a worker as a new process."""
    return _Spawned(environment)


class _Spawned:
    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = _python("retable.sweeps.worker", environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.commands, self.events = self._process.stdin, self._process.stdout
        self.kill, self.wait = self._process.kill, self._process.wait


class ForkServer:
    """The fork server as the sweep sees it. Its imports go on in the background; requests wait for them.

    Attributes:
        imported: whether it has begun to fork.
    """

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # One thread while it imports, whatever the workers get: a pool of threads would not survive the fork.
        environment = dict.fromkeys(_ONE_THREAD, "1")
        self._process = _python("retable.sweeps.forkserver", environment, stdin=theirs, stdout=subprocess.DEVNULL)
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
            number: tells workers apart.
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
        self._listener.join()

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
            child.ended(None if child.pid else code)


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
        if not self._over.is_set():
            self._code = code
            self._over.set()

    def kill(self) -> None:
        self._unwanted = True
        if self.pid is not None and self._code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int | None:
        self._over.wait()
        return self._code


def _python(module: str, environment: Mapping[str, str], **streams: Any) -> "subprocess.Popen[str]":
    paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}  # modules beside the script, too
    return subprocess.Popen(
        [sys.executable, "-m", module], text=True, env=os.environ | paths | environment, cwd=Path.cwd(), **streams
    )
