"""Importing what every run needs, in one place and as fast as it goes."""

import contextlib
import gc
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any


def import_all() -> None:
    """Import torch, Lightning and what a run uses of this package (about four seconds of CPU time).

    Python's cyclic garbage collector runs hundreds of times meanwhile and finds next to nothing: without it the imports
    take an eighth less time. The half a million objects that they leave behind live as long as the process; frozen,
    they are not looked through again by each full collection (0.4 s each), and a forked child doesn't copy their pages.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        with scipy_signal_on_demand():
            for name in ("retable.run.execute", "retable.figures.classification"):
                importlib.import_module(name)
    finally:
        if was_enabled:
            gc.enable()
    gc.freeze()


@contextlib.contextmanager
def scipy_signal_on_demand() -> Iterator[None]:
    """Put off what is imported of `scipy.signal` until something asks for more than its `hamming`.

    torchmetrics, which Lightning imports, looks there for that old name and puts it back where it is missing. By that
    alone most of scipy would be loaded: a fifth of all that a run imports. Afterwards everything is as it was before.
    """
    name = "scipy.signal"
    if name in sys.modules or importlib.util.find_spec("scipy") is None:
        yield
        return
    import scipy

    stand_in = _StandIn(name)
    sys.modules[name], scipy.signal = stand_in, stand_in
    try:
        yield
    finally:
        _withdraw(stand_in)


class _StandIn(ModuleType):
    hamming = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system's own questions, e.g. for __path__ and __spec__
            raise AttributeError(name)
        _withdraw(self)
        return getattr(importlib.import_module(self.__name__), name)


def _withdraw(stand_in: ModuleType) -> None:
    import scipy

    if sys.modules.get(stand_in.__name__) is stand_in:
        del sys.modules[stand_in.__name__]
    if vars(scipy).get("signal") is stand_in:
        del scipy.signal
