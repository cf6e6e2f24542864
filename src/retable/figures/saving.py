"""Figures to files."""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_elsewhere: ContextVar[Callable[[Figure, Path], None] | None] = ContextVar("_elsewhere", default=None)


@contextlib.contextmanager
def elsewhere(hand_over: Callable[[Figure, Path], None]) -> Iterator[None]:
    """Have this thread's figures saved by somebody else, who is handed figure and path, and calls `render`."""
    before = _elsewhere.set(hand_over)
    try:
        yield
    finally:
        _elsewhere.reset(before)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, making its folder."""
    (_elsewhere.get() or render)(figure, path)


def render(figure: Figure, path: Path) -> None:
    """`save`, by this process. The same run gives the same bytes: no creation date is in the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=110, metadata={"Software": None})
