"""Figures to files."""

import contextlib
import io
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from retable import atomic

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


def render(figure: Figure, path: Path, dpi: int = 110) -> None:
    """`save`, by this process, whole or not at all. No creation date is in it: the same run gives the same bytes."""
    FigureCanvasAgg(figure)
    content = io.BytesIO()
    figure.savefig(content, dpi=dpi, metadata={"Software": None})
    atomic.write_bytes(path, content.getvalue())
