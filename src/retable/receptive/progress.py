"""Progress of work on many images: a bar on a terminal, a line every ten seconds elsewhere; both on stderr."""

import sys
import time
from typing import Any

from retable.sweeps.display import duration

_SECONDS = 10


class Progress:
    """Counts images (a context manager).

    Args:
        what: what is being done, e.g. "occluding".
        total: number of images, or None where it is not known before.

    Attributes:
        done: number of images so far.
    """

    def __init__(self, what: str, total: int | None) -> None:
        self.what, self.total, self.done = what, total, 0
        self._begun = self._said = time.monotonic()
        self._ended: float | None = None
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> "Progress":
        self._begun = self._said = time.monotonic()
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            rate = TextColumn("{task.fields[rate]}")
            self._bar = Bar(*columns, rate, console=Console(stderr=True), transient=True)
            self._bar.__enter__()
            self._task = self._bar.add_task(self.what, total=self.total, rate="")
        return self

    def __exit__(self, *error: Any) -> None:
        self._ended = time.monotonic()
        if self._bar is not None:
            self._bar.__exit__(*error)
        if error[0] is None and self.done:
            print(f"{self.what}: {self._state()}, {duration(self._ended - self._begun)}", file=sys.stderr, flush=True)

    @property
    def rate(self) -> float:
        """Images a minute."""
        end = self._ended or time.monotonic()
        return 60 * self.done / max(end - self._begun, 1e-9)

    def advance(self, images: int) -> None:
        """So many images more are done."""
        self.done += images
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, rate=f"{self.rate:,.0f} a minute")
        elif time.monotonic() - self._said >= _SECONDS:
            self._said = time.monotonic()
            left = (self.total or 0) - self.done
            ending = f", {duration(60 * left / self.rate)} left" if left > 0 else ""
            print(f"{self.what}: {self._state()}{ending}", file=sys.stderr, flush=True)

    def _state(self) -> str:
        of = f" of {self.total}" if self.total and self.done < self.total else ""
        return f"{self.done}{of} images, {self.rate:,.0f} a minute"
