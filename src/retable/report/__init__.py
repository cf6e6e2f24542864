"""From runs to tables and pages. The package is called as a function, too: `retable.report(...)` of the Python API."""

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    def __call__(self, *paths: Any, **options: Any) -> Any:
        return sys.modules["retable"]._report(*paths, **options)


sys.modules[__name__].__class__ = _Callable
