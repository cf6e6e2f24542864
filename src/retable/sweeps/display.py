"""What a sweep shows while it runs: a live panel on a terminal, plain lines elsewhere."""

import sys
import time
from typing import Any

from retable.run import files
from retable.run.files import DIVERGED, FAILED, FINISHED, INTERRUPTED
from retable.sweeps.plan import Run


def duration(seconds: float | None) -> str:
    """Seconds for people.

    >>> duration(59.6), duration(3725), duration(None)
    ('1m00s', '1h02m', '?')
    """
    if seconds is None:
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


class Clock:
    """Time left, from the measured speed of epochs.

    An epoch of a run not begun is taken to last as long as the mean epoch measured so far.
    """

    def __init__(self, runs: list[Run]) -> None:
        self.start = time.monotonic()
        self._left = {run.directory: float(run.config["trainer"]["max_epochs"]) for run in runs}
        self._begun: dict[Any, tuple[float, float]] = {}
        self._seconds = self._epochs = 0.0

    def begin(self, run: Run) -> None:
        """A run starts now."""
        self._begun[run.directory] = (time.monotonic(), 0.0)

    def advance(self, run: Run, epoch: int, epochs: int) -> None:
        """A run has finished so many of its epochs."""
        begun, known = self._begun.get(run.directory, (time.monotonic(), 0.0))
        if epoch > known:
            now = time.monotonic()
            if known or epoch == 1:  # a resumed run's first event tells old epochs, which took no time now
                self._seconds += now - begun
                self._epochs += epoch - known
            self._begun[run.directory] = (now, float(epoch))
        self._left[run.directory] = max(0.0, epochs - epoch)

    def finish(self, run: Run) -> None:
        """A run needs no more time."""
        self._left.pop(run.directory, None)

    def left(self, workers: int) -> float | None:
        """Seconds left with so many workers, or None while nothing is measured."""
        if not self._epochs:
            return None
        return sum(self._left.values()) * self._seconds / self._epochs / max(workers, 1)


class Display:
    """Progress of a sweep (a `Watcher` of the pool).

    Args:
        pending: the runs that will be trained.
        total: number of runs of the sweep, those already finished included.
    """

    def __init__(self, pending: list[Run], total: int) -> None:
        self.total, self.before = total, total - len(pending)
        self.clock = Clock(pending)
        self.counts = {FINISHED: 0, DIVERGED: 0, FAILED: 0, INTERRUPTED: 0}
        self.active: dict[int, tuple[Run, dict[str, Any]]] = {}
        self.begun: dict[Any, float] = {}
        self._live: Any = None
        self._next_tick = 0.0

    def __enter__(self) -> "Display":
        if sys.stdout.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(), get_renderable=self._panel, refresh_per_second=4, transient=True)
            self._live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._live is not None:
            self._live.__exit__(*error)

    def started(self, run: Run, worker: int) -> None:
        self.active[worker] = (run, {})
        self.begun[run.directory] = time.monotonic()
        self.clock.begin(run)

    def progress(self, run: Run, worker: int, event: dict[str, Any]) -> None:
        self.active[worker] = (run, event)
        self.clock.advance(run, event["epoch"], event["epochs"])

    def ended(self, run: Run, worker: int, status: str, reason: str | None) -> None:
        self.active.pop(worker, None)
        self.clock.finish(run)
        self.counts[status] = self.counts.get(status, 0) + 1
        done = self.before + sum(self.counts.values()) - self.counts[INTERRUPTED]
        parts = [f"[{done}/{self.total}]", f"{status:<11}", run.name]
        result = files.read_result(run.directory) or {}
        final = (result.get("metrics") or {}).get("final") or {}
        parts += [
            f"{key} {value:.4f}" for key, value in final.items() if key.endswith("/accuracy") and value is not None
        ]
        if run.directory in self.begun:
            parts.append(duration(time.monotonic() - self.begun[run.directory]))
        if reason:
            parts.append(f"· {reason}")
        if status == FAILED:
            parts.append(f"· log: {run.directory / files.LOG}")
        left = self.clock.left(len(self.active) + 1)
        if left and self._live is None:
            parts.append(f"· {duration(left)} left")
        self.say("  ".join(parts))

    def silent(self, run: Run, seconds: float, stopped: bool) -> None:
        what = "its process is stopped (SIGSTOP)" if stopped else "no progress"
        self.say(
            f"{run.name}: {what} for {duration(seconds)} · log: {run.directory / files.LOG}"
            " · sweep.stalled=<time> ends such runs"
        )

    def tick(self) -> None:
        """Elsewhere than on a terminal: a line every half minute on what is going on."""
        if self._live is not None or time.monotonic() < self._next_tick:
            return
        if self._next_tick and self.active:
            self.say("  ".join(f"{run.name}: {_where(event)}" for run, event in self.active.values()))
        self._next_tick = time.monotonic() + 30

    def say(self, line: str) -> None:
        """A line that stays."""
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False)
        else:
            print(line, flush=True)

    def _panel(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 2))
        for worker, (run, event) in sorted(self.active.items()):
            grid.add_row(f"worker {worker}", Text(run.name, overflow="ellipsis"), _where(event))
        done = self.before + sum(self.counts.values())
        left = duration(self.clock.left(len(self.active)))
        failed = f", {self.counts[FAILED]} failed" if self.counts[FAILED] else ""
        spent = duration(time.monotonic() - self.clock.start)
        grid.add_row(
            "", f"{done} of {self.total} done{failed}, {self.total - done} left", f"{spent} spent, {left} left"
        )
        return grid


def _where(event: dict[str, Any]) -> str:
    if not event:
        return "starting"
    loss = f"  loss {event['loss']:.4f}" if event.get("loss") is not None else ""
    steps = f" +{event['steps']} steps" if event.get("steps") else ""
    return f"epoch {event['epoch']}/{event['epochs']}{steps}{loss}"
