"""The package `lightning` and the package `pytorch_lightning` as one, so that modules written for either are run.

Both hold the same code twice, `lightning.pytorch` and `pytorch_lightning`, whose classes know nothing of each other: a
Trainer of the one refuses a LightningModule of the other. Once `unite` was called, whoever imports `lightning.pytorch`
or `lightning.fabric`, or a module below them, gets the module of `pytorch_lightning` or `lightning_fabric`.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_NAMES = {"lightning.pytorch": "pytorch_lightning", "lightning.fabric": "lightning_fabric"}


class _Alias(MetaPathFinder, Loader):
    """Finds a module under its other name."""

    def __init__(self) -> None:
        self._specs: dict[str, ModuleSpec | None] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        for name, other in _NAMES.items():
            if fullname == name or fullname.startswith(f"{name}."):
                return ModuleSpec(fullname, self, origin=other + fullname.removeprefix(name))
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(str(spec.origin))
        self._specs[spec.name] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__ = self._specs.pop(module.__spec__.name)  # it stays what it was, under its own name


def unite() -> None:
    """Have the two be one from now on, unless the other one was imported before."""
    if not any(isinstance(finder, _Alias) for finder in sys.meta_path) and "lightning.pytorch" not in sys.modules:
        sys.meta_path.insert(0, _Alias())


def is_of_the_other(cls: object) -> bool:
    """Whether a class derives from one of a `lightning.pytorch` that is a package of its own here."""
    bases = cls.__mro__ if isinstance(cls, type) else ()
    return any(base.__module__.startswith("lightning.pytorch.") for base in bases)
