"""Sides that take turns: each trains in a process of its own and waits behind every epoch until it is let go on.

The child is any script that calls `Turns.tell` once an epoch; run without a parent, it prints the figures and goes on.
"""

import json
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common import own_cpu

CHANNEL = "BENCHMARK_TURNS"  # the file descriptor to which a child writes its figures


class Turns:
    """The child's end. An epoch is what lies between two calls of `tell`, waiting left out."""

    def __init__(self) -> None:
        channel = os.environ.get(CHANNEL)
        self._out = os.fdopen(int(channel), "w") if channel else None
        self._wall, self._cpu = time.perf_counter(), own_cpu()

    def tell(self, train: float, steps: int, **more: Any) -> None:
        """Report an epoch, and wait for the next turn; where there is no parent, print it and go on.

        Args:
            train: seconds of its training steps.
            steps: number of those.
            more: further figures.
        """
        wall, cpu = time.perf_counter() - self._wall, own_cpu() - self._cpu
        line = json.dumps({"seconds": wall, "cpu": cpu, "train": train, "steps": steps, **more})
        if self._out is None:
            print(line, flush=True)
        else:
            print(line, file=self._out, flush=True)
            if not sys.stdin.readline():
                raise SystemExit  # the measurement is over
        self._wall, self._cpu = time.perf_counter(), own_cpu()


class Side:
    """The parent's end: a script that trains, with a terminal of its own, since progress bars look for one.

    Args:
        script: a Python file; words: its arguments; environment: variables to set.
    """

    def __init__(self, script: Path, words: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        read, write = os.pipe()
        screen, terminal = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, str(script), *words],
            stdin=subprocess.PIPE,
            stdout=terminal,
            stderr=terminal,
            pass_fds=(write,),
            env=os.environ | {CHANNEL: str(write), "TERM": "xterm", "COLUMNS": "120"} | dict(environment or {}),
            text=True,
        )
        os.close(write)
        os.close(terminal)
        self._rows = os.fdopen(read)
        self._screen: list[bytes] = []
        self._reader = threading.Thread(target=self._drain, args=(screen,), daemon=True)
        self._reader.start()
        try:
            self.first = self._row()  # warms the side up
        except BaseException:  # nobody has it yet who could close it
            self._process.kill()
            self._process.wait()
            raise

    def epoch(self) -> dict[str, Any]:
        """Let it train one epoch more: its figures."""
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return self._row()

    def let_go(self) -> None:
        """Have it end after its epoch."""
        self._process.stdin.close()

    def close(self, patience: float) -> None:
        """Wait so many seconds for its end, then end it."""
        self.let_go()
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._rows.close()

    def _row(self) -> dict[str, Any]:
        line = self._rows.readline()
        if not line:
            self._process.wait()
            self._reader.join(5)
            shown = b"".join(self._screen).decode(errors="replace")
            raise SystemExit(f"{' '.join(self._process.args)}: ended early\n{shown[-3000:]}")
        return json.loads(line)

    def _drain(self, screen: int) -> None:
        while True:
            try:
                part = os.read(screen, 65536)
            except OSError:  # how Linux tells that the last writer is gone
                part = b""
            if not part:
                os.close(screen)
                return
            self._screen = [*self._screen[-50:], part]
