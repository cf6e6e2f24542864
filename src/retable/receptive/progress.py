"""Progress of work on many images, on stderr: a bar on a terminal, elsewhere a line every ten seconds."""

import sys
import time
from datetime import timedelta
from typing import Any

_SECONDS = 10


class Progress:
    """Counts images. It is a context manager, and prints a last line when it is left.

    Args:
        what: what is being done, e.g. "occluding".
        total: number of images, or None if it is not known beforehand.

    Attributes:
        done: number of images so far.
    """

    def __init__(self, what: str, total: int | None) -> None:
        self.what, self.total, self.done = what, total, 0
        self._begun = self._printed = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> "Progress":
        self._begun = self._printed = time.monotonic()
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self._bar.add_task(self.what, total=self.total)
            self._bar.start()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._bar is not None:
            self._bar.stop()
        if error[0] is None and self.done:
            self._print()

    def advance(self, images: int) -> None:
        """Count so many more images."""
        self.done += images
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self.done)
        elif time.monotonic() - self._printed >= _SECONDS:
            self._printed = time.monotonic()
            self._print()

    def _print(self) -> None:
        seconds = max(time.monotonic() - self._begun, 1e-9)
        of = f" of {self.total}" if self.total and self.done < self.total else ""
        rate = f"{60 * self.done / seconds:,.0f} a minute"
        print(f"{self.what}: {self.done}{of} images in {timedelta(seconds=round(seconds))}, {rate}", file=sys.stderr)
