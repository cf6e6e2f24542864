"""Events and pictures of a training on a GPU, written by processes of their own beside it.

An epoch of a recorded training takes the host tens of milliseconds, of which TensorBoard's events would be one or two,
and a finished run's pictures take a second or more. The host says what is to be written, which takes some microseconds,
and trains on. Before a run has a result everything is on disk.

A process that writes is `python -m retable.run.beside`: jobs come in on standard input, pickled, and answers go out,
a JSON object a line. It is in a session of its own and heeds no signal that ends a training: when its standard input
ends, it writes all that it was given, and goes. The processes are kept for a worker's next runs. Where one dies or
hangs, the training says so in a line, and writes what it had given, and all that follows, itself.
"""

import contextlib
import io
import itertools
import json
import os
import pickle
import queue
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from matplotlib.figure import Figure

from retable.figures import saving
from retable.run.events import Events

PATIENCE = 120.0  # seconds for a process to take a job, and to do all that it was given
DRAWERS = 4  # processes at most; the first of them writes events, too
_LENGTH = struct.Struct("!Q")  # of a pickled job, in front of it


def is_wanted(kind: str) -> bool:
    """Whether a training has processes beside it. Args: kind: "cpu" or "cuda": CPUs have no core to spare."""
    return kind == "cuda"


class Lost(Exception):
    """A process that writes has ended, failed or hung; the message says which."""


class Writer:
    """A process that does jobs in their order.

    Raises:
        Lost: by any method, when it is known that jobs were not done. Which of them were is not.
    """

    def __init__(self) -> None:
        paths = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "retable.run.beside"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        os.set_blocking(self._process.stdin.fileno(), False)
        self._asked = 0

    def give(self, what: str, *arguments: Any) -> None:
        """Hand over a job.

        Args:
            what: the name of a method of `_Jobs`.
        """
        if select.select([self._process.stdout], [], [], 0)[0]:
            self._fail()
        job = pickle.dumps((what, arguments))
        left = memoryview(_LENGTH.pack(len(job)) + job)
        deadline = time.monotonic() + PATIENCE
        while left:
            try:
                left = left[os.write(self._process.stdin.fileno(), left) :]
            except BlockingIOError:
                if not select.select([], [self._process.stdin], [], max(0.0, deadline - time.monotonic()))[1]:
                    self._fail(f"took no job for {PATIENCE:.0f} s")
            except BrokenPipeError:
                self._fail()

    def wait(self) -> None:
        """Return when all jobs are done."""
        self._asked += 1
        self.give("answer", self._asked)
        if not select.select([self._process.stdout], [], [], PATIENCE)[0]:
            self._fail(f"was not done after {PATIENCE:.0f} s")
        line = self._process.stdout.readline()
        if json.loads(line or "{}").get("done") != self._asked:
            self._fail(None, line)

    def close(self) -> None:
        """Let it do what it was given, and end."""
        self._process.stdin.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    @property
    def alive(self) -> bool:
        """Whether it can be given jobs."""
        return self._process.poll() is None

    def _fail(self, reason: str | None = None, line: bytes = b"") -> None:
        if reason:
            self._process.kill()
        line = line or (b"" if reason else self._process.stdout.readline())
        code = self._process.wait()
        reason = json.loads(line or "{}").get("error") or reason
        raise Lost(reason or (f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}"))


def _say(lost: Lost) -> None:
    print(f"events and figures: the process that writes them beside the training {lost}; written here now", flush=True)


_writers: list[Writer] = []


def _writer(place: int) -> Writer:
    while len(_writers) <= place:
        _writers.append(Writer())
    if not _writers[place].alive:  # an earlier run has reported it
        _writers[place] = Writer()
    return _writers[place]


class EventsBeside:
    """`Events` in another process. Args: see there."""

    _numbers = itertools.count()

    def __init__(self, directory: Path, purge: int | None) -> None:
        self._directory, self._rows = directory, []
        self._here: Events | None = None  # where the other process is lost
        self._number = next(self._numbers)
        with self._or_here():
            self._writer = _writer(0)
            self._writer.give("open_events", self._number, str(directory), purge)

    def write(self, row: dict[str, Any]) -> None:
        """Write a row."""
        self._rows.append(row)
        if self._here is not None:
            self._here.write(row)
            return
        with self._or_here():
            self._writer.give("write_events", self._number, row)

    def close(self) -> None:
        """End the files; they are on disk when this returns."""
        if self._here is None:
            with self._or_here():
                self._writer.give("close_events", self._number)
                self._writer.wait()
        if self._here is not None:
            self._here.close()

    @contextlib.contextmanager
    def _or_here(self) -> Iterator[None]:
        try:
            yield
        except Lost as lost:
            _say(lost)
            self._here = Events(self._directory, self._rows[0]["epoch"] if self._rows else 0)
            for row in self._rows:
                self._here.write(row)


def events(kind: str) -> Callable[[Path, int | None], Any]:
    """What opens a run's events. Args: kind: see `is_wanted`."""
    return EventsBeside if is_wanted(kind) else Events


@contextlib.contextmanager
def drawing(kind: str) -> Iterator[None]:
    """Figures that are saved within the block are rendered beside it; they are on disk when it ends.

    Args:
        kind: see `is_wanted`; where no process is wanted, they are rendered as ever.
    """
    if not is_wanted(kind):
        yield
        return
    turns = itertools.cycle(range(DRAWERS))
    drawers: dict[int, Writer] = {}
    given: dict[int, list[tuple[Figure, Path]]] = {}

    def hand_over(figure: Figure, path: Path) -> None:
        place = next(turns)
        if place not in drawers:
            drawers[place], given[place] = _writer(place), []
        given[place].append((figure, path))
        with contextlib.suppress(Lost):  # which is reported at the end
            drawers[place].give("draw", pickle.dumps(figure), str(path))

    with saving.elsewhere(hand_over):
        yield
    for place, drawer in drawers.items():
        try:
            drawer.wait()
        except Lost as lost:
            _say(lost)
            for figure, path in given[place]:
                saving.render(figure, path)


class _Jobs:
    """What the process can be given to do."""

    def __init__(self, answers: BinaryIO) -> None:
        self._answers = answers
        self._events: dict[int, Events] = {}

    def open_events(self, number: int, directory: str, purge: int | None) -> None:
        self._events[number] = Events(Path(directory), purge)

    def write_events(self, number: int, row: dict[str, Any]) -> None:
        self._events[number].write(row)

    def close_events(self, number: int) -> None:
        self._events.pop(number).close()

    def draw(self, figure: bytes, path: str) -> None:
        saving.render(pickle.loads(figure), Path(path))

    def answer(self, number: int) -> None:
        self.say(done=number)

    def end(self) -> None:
        """End the files of a training that has gone without closing them."""
        for events in self._events.values():
            events.close()

    def say(self, **answer: Any) -> None:
        with contextlib.suppress(BrokenPipeError):  # the training has gone; what it gave is done all the same
            self._answers.write(json.dumps(answer).encode() + b"\n")
            self._answers.flush()


def _take_in(source: io.BufferedReader, jobs: "queue.SimpleQueue[bytes | None]") -> None:
    """Read as fast as jobs come, so that nobody waits for this process to do them; None at the end."""
    while len(head := source.read(_LENGTH.size)) == _LENGTH.size:
        job = source.read(length := _LENGTH.unpack(head)[0])
        if len(job) < length:
            break
        jobs.put(job)
    jobs.put(None)


def main() -> None:
    """Do jobs until there are no more."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    source, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    waiting: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    threading.Thread(target=_take_in, args=(source, waiting), daemon=True).start()
    jobs = _Jobs(answers)
    try:
        while (job := waiting.get()) is not None:
            what, arguments = pickle.loads(job)
            work: Callable[..., None] = getattr(jobs, what)
            work(*arguments)
        jobs.end()
    except Exception as error:
        jobs.say(error=f"{type(error).__name__}: {error}")
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main()
