"""What a config that was read back from a run may name in `_target_`. Nothing is imported before its name is known.

A checkpoint or a run's directory may come from anybody, and `os.system` has a name too. So a name is accepted only
where it is
    this project's, by its public path, in the place that is its kind's: `retable.losses.Dice` as a loss;
    torch's, where conf/ uses torch: optimizers, schedulers, activations, losses; Lightning's, as a callback;
    named in the same place by this user's own configuration: conf/ in the working directory, or RETABLE_CONF;
    a class that this process has imported already, of the kind that is wanted.
"""

import importlib
import inspect
import os
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.utils import get_object

from retable.config.build import LIBRARIES
from retable.config.folders import config_dir, project_folders
from retable.config.keys import is_foreign, public_target
from retable.errors import DataError, first_line


@dataclass(frozen=True)
class Role:
    """What stands in a section of a config.

    base: the class that it must be a subclass of; room: the room of this project whose public names are accepted;
    torch: a pattern of torch's or Lightning's names.
    """

    base: str = ""
    room: str = ""
    torch: str = ""


ROLES = {
    "model": Role("torch.nn.Module", "retable.models"),
    "loss": Role("torch.nn.Module", "retable.losses", r"torch\.nn\.\w+Loss"),
    "activation": Role("torch.nn.Module", "", r"torch\.nn\.\w+"),
    "optimizer": Role("torch.optim.Optimizer", "", r"torch\.optim\.\w+"),
    "scheduler": Role("torch.optim.lr_scheduler.LRScheduler", "retable.training", r"torch\.optim\.lr_scheduler\.\w+"),
    "init": Role(),
    "augment": Role("", "retable.training"),
    "early_stop": Role("", "retable.training"),
    "callbacks": Role("pytorch_lightning.Callback", "retable.training", r"pytorch_lightning\.callbacks\.\w+"),
    "logger": Role("pytorch_lightning.loggers.Logger", "retable.training", r"pytorch_lightning\.loggers\.\w+"),
    "task": Role("retable.tasks.Task", "retable.tasks"),
    "data": Role("retable.data.ImageData", "retable.data"),
    "module": Role("pytorch_lightning.LightningModule"),
}
_OF_SEVERAL = ("augment", "callbacks", "logger")  # which hold a node for each thing that is built
_FOREIGN_DATA = Role("pytorch_lightning.LightningDataModule")  # beside a module of somebody's own
# What such a module or its data are given as arguments: parts to make a network and optimizers of.
_PARTS = Role(torch=r"torch\.(nn|optim|optim\.lr_scheduler)\.\w+")
_OF_TRAINER = Role(torch=r"(pytorch_lightning|lightning\.pytorch)\.(plugins|profilers)\.[\w.]+")
_NONE = Role()  # of a section in which nothing is built
_OPTIONAL = ("scheduler", "early_stop")  # whose target may be null
_INIT = "retable.training.init"


def check_targets(
    config: Mapping[str, Any],
    where: Path | str,
    sections: Collection[str] | None = None,
    trust: bool = False,
    hint: str = "trust=true",
) -> None:
    """Refuse a config that names what may not be built.

    Args:
        config: resolved config of a run.
        where: the file that it was read from.
        sections: those that will be built; None: all.
        trust: import whatever is named; it must be of the kind that its section wants all the same.
        hint: how a user says `trust`.

    Raises:
        DataError: `<where>: refused, <key>=<name> ...`, one line.
    """
    for section, node in config.items():
        if sections is not None and section not in sections:
            continue
        role, foreign = ROLES.get(section, _NONE), is_foreign(config)
        if foreign and section == "task":
            continue
        if foreign and section == "data":
            role = _FOREIGN_DATA
        inner = _PARTS if foreign and section in ("module", "data") else _OF_TRAINER if section == "trainer" else _NONE
        try:
            found = list(_targets(node, section))
        except RecursionError:
            raise DataError(f"{where}: refused, {section} holds values within values without end") from None
        for key, target in found:
            within = key != section and not (section in _OF_SEVERAL and key.count(".") == 1)
            if target is not None or within or section not in _OPTIONAL:
                start = f"{where}: refused, {key}._target_={target}"
                _check(start, target, section, inner if within else role, trust, hint)


def _targets(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Every `_target_` in a node, with the key that it stands below."""
    items: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield key, node["_target_"]
        items = iter(node.items())
    elif isinstance(node, list | tuple):
        items = enumerate(node)
    for name, value in items:
        yield from _targets(value, f"{key}.{name}")


def _check(start: str, target: Any, section: str, role: Role, trust: bool, hint: str) -> None:
    if not isinstance(target, str) or not (trust or _known(target, section, role)):
        raise DataError(
            f"{start} is neither this project's nor torch's for that place, nor named there by your own conf/;"
            f" {hint} builds it all the same"
        )
    try:
        found = get_object(target)
    except Exception as error:
        raise DataError(f"{start} cannot be imported ({first_line(error)})") from error
    if role.base and not (isinstance(found, type) and issubclass(found, get_object(role.base))):
        raise DataError(f"{start} is no {role.base}")
    if role.base == target:
        raise DataError(f"{start} is the base of what may stand there alone")


def _known(target: str, section: str, role: Role) -> bool:
    if role.room and target.startswith(f"{role.room}."):
        room, name = importlib.import_module(role.room), public_target(target).removeprefix(f"{role.room}.")
        return name in room.__all__ and inspect.isclass(getattr(room, name))
    if section == "init" and role is ROLES["init"] and target.startswith("retable.training."):
        name = target.removeprefix("retable.training.").removeprefix("init.")  # as older runs name it
        function = getattr(importlib.import_module(_INIT), name, None)
        return inspect.isfunction(function) and function.__module__ == _INIT
    if role.torch and re.fullmatch(role.torch, target):
        return True
    if target.split(".")[0] in LIBRARIES:
        return False
    if (section, target) in _configured():
        if os.getcwd() not in sys.path:  # where a project's modules lie; last, so that they hide nobody else's
            sys.path.append(os.getcwd())
        return True
    return bool(role.base) and _imported(target, role.base)


def _configured() -> set[tuple[str, str]]:
    """Section and name of all that this user's own configuration names."""
    import yaml

    found = set()
    for folder in (config_dir(), *project_folders()):
        for file in folder.rglob("*.yaml"):
            text = file.read_text(encoding="utf-8", errors="replace")
            if "_target_" in text:
                group = file.relative_to(folder).parent.parts
                node = yaml.safe_load(text)
                for part in () if "@package _global_" in text else reversed(group):
                    node = {part: node}
                found |= {(key.split(".")[0], name) for s, n in node.items() for key, name in _targets(n, s)}
    return found


def _imported(target: str, base: str) -> bool:
    """Whether a name is that of a class of a kind, which this process has imported for reasons of its own."""
    module, _, name = target.rpartition(".")
    found = vars(sys.modules.get(module, sys)).get(name)
    return isinstance(found, type) and issubclass(found, get_object(base)) and found.__module__ == module
