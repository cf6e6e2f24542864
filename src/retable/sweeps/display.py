"""What a sweep shows while it runs: a live panel on a terminal, plain lines elsewhere."""

import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from retable.config.keys import differing
from retable.config.stepping import of_planned, planned_epochs
from retable.run import files
from retable.run.files import DIVERGED, FAILED, FINISHED, INTERRUPTED
from retable.sweeps import curves
from retable.sweeps.plan import Run

_NARROW = 100  # columns of a terminal below which a run takes two lines


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


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Names without the settings that all of them have; a name alone, or of nothing else, stays whole.

    >>> short_names(["model-cnn__lr-0.1__seed-0", "model-cnn__lr-0.2__seed-0"])
    {'model-cnn__lr-0.1__seed-0': 'lr-0.1', 'model-cnn__lr-0.2__seed-0': 'lr-0.2'}
    """
    parts = [name.split("__") for name in names]
    shared = set.intersection(*map(set, parts)) if len(set(names)) > 1 else set()
    return {
        name: "__".join(part for part in own if part not in shared) or name
        for name, own in zip(names, parts, strict=True)
    }


def labels(runs: Sequence[Run]) -> Mapping[Path, str]:
    """What each run is called while it trains, by its directory: what was set and differs, as its curves are called.

    A setting at its default is no part of a run's name, but it is what tells the run from the others. Where nothing
    that was set differs, or what was set is not known, the names of directories are shortened.
    """
    if differing([run.varied for run in runs] or [{}]):
        return dict(zip((run.directory for run in runs), curves.names(runs), strict=True))
    short = short_names([run.name for run in runs])
    several = len({run.directory.parent for run in runs}) > 1  # tasks, each with its folder
    return {
        run.directory: f"{run.directory.parent.name}/{short[run.name]}" if several else short[run.name] for run in runs
    }


class Clock:
    """Time left, from the measured speed of epochs, and from what whole runs take beside their epochs.

    An epoch of a run not begun is taken to last as long as the mean epoch measured so far; starting, drawing figures
    and whatever else is no measured epoch, as long as the mean of the runs that have finished.
    """

    def __init__(self, runs: list[Run]) -> None:
        self.start = time.monotonic()
        self._left = {run.directory: _number(planned_epochs(run.config["trainer"]["max_epochs"])) for run in runs}
        self._begun: dict[Any, tuple[float, float]] = {}
        self._started: dict[Any, float] = {}
        self._measured: dict[Any, float] = {}  # seconds of a run that were counted as epochs
        self._seconds = self._epochs = 0.0
        self._beside: list[float] = []

    def begin(self, run: Run) -> None:
        """A run starts now."""
        self._begun[run.directory] = (time.monotonic(), 0.0)
        self._started[run.directory], self._measured[run.directory] = time.monotonic(), 0.0

    def advance(self, run: Run, epoch: int, epochs: int | None) -> None:
        """A run has finished so many of its epochs. Args: epochs: None where nobody knows how many it will train."""
        begun, known = self._begun.get(run.directory, (time.monotonic(), 0.0))
        if epoch > known:
            now = time.monotonic()
            if known or epoch == 1:  # a resumed run's first event tells old epochs, which took no time now
                self._seconds += now - begun
                self._epochs += epoch - known
                self._measured[run.directory] = self._measured.get(run.directory, 0.0) + now - begun
            self._begun[run.directory] = (now, float(epoch))
        self._left[run.directory] = max(0.0, _number(epochs) - epoch)

    def finish(self, run: Run, whole: bool = True) -> None:
        """A run needs no more time. Args: whole: whether it has done all that the others will."""
        self._left.pop(run.directory, None)
        started = self._started.pop(run.directory, None)
        if whole and started is not None:
            self._beside.append(time.monotonic() - started - self._measured[run.directory])

    def left_of(self, run: Run) -> float | None:
        """Seconds that one run has left, at the speed of all epochs so far; None while nothing is measured."""
        if not (self._epochs or self._beside) or run.directory not in self._left:
            return None
        return _known(self._left_at(run.directory))

    def left(self, workers: int) -> float | None:
        """Seconds left with so many workers, or None while nothing is measured."""
        if not (self._epochs or self._beside):
            return None
        return _known(sum(map(self._left_at, self._left)) / max(workers, 1))

    def _left_at(self, directory: Path) -> float:
        epochs = self._left[directory]
        if epochs == math.inf:
            return epochs
        beside = fmean(self._beside) if self._beside else 0.0
        if not epochs and directory in self._started:  # it is finishing, and has been for a while
            spent = time.monotonic() - self._started[directory] - self._measured[directory]
            return max(0.0, beside - spent)
        return epochs * (self._seconds / self._epochs if self._epochs else 0.0) + beside


def _number(epochs: int | None) -> float:
    return math.inf if epochs is None else float(epochs)


def _known(seconds: float) -> float | None:
    return seconds if seconds < math.inf else None


class Display:
    """Progress of a sweep (a `Watcher` of the pool).

    Args:
        pending: the runs that will be trained.
        total: number of runs of the sweep, those already finished included.
    """

    def __init__(self, pending: list[Run], total: int) -> None:
        self.total, self.before = total, total - len(pending)
        self.clock = Clock(pending)
        self.label = labels(pending)
        self.counts = {FINISHED: 0, DIVERGED: 0, FAILED: 0, INTERRUPTED: 0}
        self.active: dict[Path, tuple[int, Run, dict[str, Any]]] = {}  # a worker may have several
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
        self.active[run.directory] = (worker, run, {})
        self.begun[run.directory] = time.monotonic()
        self.clock.begin(run)

    def progress(self, run: Run, worker: int, event: dict[str, Any]) -> None:
        self.active[run.directory] = (worker, run, event)
        self.clock.advance(run, event["epoch"], event["epochs"])

    def ended(self, run: Run, worker: int, status: str, reason: str | None) -> None:
        self.active.pop(run.directory, None)
        self.clock.finish(run, whole=status == FINISHED)
        self.counts[status] = self.counts.get(status, 0) + 1
        done = self.before + sum(self.counts.values()) - self.counts[INTERRUPTED]
        parts = [f"[{done}/{self.total}]", f"{status:<11}", run.name]
        result = files.read_result(run.directory) or {}
        metrics = result.get("metrics") or {}
        final = metrics.get("final") or {}
        shown = {key: final.get(key) for key in files.beside_training(str(metrics.get("best_by") or ""))}
        parts += [f"{key} {value:.4f}" for key, value in shown.items() if value is not None]
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
            lines = [
                f"{self.label[run.directory]}: {self._where(run, event)}" for _, run, event in self.active.values()
            ]
            self.say("\n".join([*lines, self._total()]))
        self._next_tick = time.monotonic() + 30

    def say(self, line: str) -> None:
        """A line that stays."""
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False)
        else:
            print(line, flush=True)

    def _panel(self) -> Any:
        from rich.console import Group
        from rich.padding import Padding
        from rich.table import Table
        from rich.text import Text

        width = self._live.console.width if self._live is not None else 80
        active = sorted(self.active.values(), key=lambda one: one[0])
        rows = [(worker, run, self._where(run, event)) for worker, run, event in active]
        if width < _NARROW:  # a line a run and one below it, so that neither is squeezed
            lines = [
                Group(Text(self.label[run.directory], overflow="fold"), Padding(Text(where), (0, 0, 0, 2)))
                for _, run, where in rows
            ]
            return Group(*lines, Text(self._total()))
        grid = Table.grid(padding=(0, 2))
        for worker, run, where in rows:
            name = Text(self.label[run.directory], overflow="fold")
            grid.add_row(Text(f"worker {worker}", no_wrap=True), name, Text(where, no_wrap=True))
        return Group(grid, Text(self._total()))

    def _total(self) -> str:
        done = self.before + sum(self.counts.values())
        left = duration(self.clock.left(len(self.active)))
        failed = f", {self.counts[FAILED]} failed" if self.counts[FAILED] else ""
        spent = duration(time.monotonic() - self.clock.start)
        return f"{done} of {self.total} done{failed}, {self.total - done} left; {spent} spent, {left} left"

    def _where(self, run: Run, event: dict[str, Any]) -> str:
        """How far a run is, its loss, the task's own metric after its last epoch, and how long it has left."""
        if not event:
            return "starting"
        text = f"epoch {of_planned(event['epoch'], event['epochs'])}"
        text += f" +{event['steps']} steps" if event.get("steps") else ""
        text += f"  loss {event['loss']:.4f}" if event.get("loss") is not None else ""
        text += "".join(f"  {name} {value:.4f}" for name, value in (event.get("score") or {}).items())
        left = self.clock.left_of(run)
        if event["epoch"] >= _number(event["epochs"]):
            return f"{text}  finishing" + (f"  {duration(left)} left" if left else "")
        return text + (f"  {duration(left)} left" if left is not None else "")
