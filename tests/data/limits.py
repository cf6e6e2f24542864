"""What a call takes, in a process of its own: its outcome, seconds, and the memory that it added at its most.

Seconds are the processor's: other work on the machine adds none.
"""

import multiprocessing
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple


class Taken(NamedTuple):
    """`outcome`: the exception's type and message, or None; `megabytes`: by which the process grew at its most."""

    outcome: str | None
    seconds: float
    megabytes: float


def taken(call: Callable[..., Any], *arguments: Any, limit: float = 20.0) -> Taken:
    """Run a call in a forked process, which is ended after `limit` seconds of work, or ten times as long of waiting."""
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=_measured, args=(queue, call, arguments))
    process.start()
    end = time.monotonic() + 10 * limit
    while process.is_alive() and processor_seconds(process.pid) < limit and time.monotonic() < end:
        process.join(0.1)
    if process.is_alive():
        process.kill()
        process.join()
        raise AssertionError(f"still running after {limit} seconds")
    assert process.exitcode == 0, f"ended by {process.exitcode}"
    return Taken(*queue.get())


def _measured(queue: Any, call: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    outcome, start, before = None, time.process_time(), _peak()
    try:
        call(*arguments)
    except Exception as error:
        outcome = f"{type(error).__name__}: {error}"
    queue.put((outcome, time.process_time() - start, (_peak() - before) / 1024))


def processor_seconds(pid: int) -> float:
    """That a process has taken so far; 0 where there is none of that number."""
    try:
        with open(f"/proc/{pid}/stat") as status:
            used = status.read().rpartition(")")[2].split()[11:13]
    except OSError:
        return 0.0
    return sum(map(int, used)) / os.sysconf("SC_CLK_TCK")


def _peak() -> int:
    """Kilobytes. Of a forked process this begins at what it shares with its parent."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
