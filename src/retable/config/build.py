"""The one helper that turns a config node with a `_target_` into an object.

Keys that the target does not take, and values that it refuses, become one line naming the key and what is accepted.
"""

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any

from hydra.utils import get_object

from retable.config.keys import LABELLED
from retable.config.one_lightning import unite
from retable.errors import ConfigError, RetableError, first_line, in_one_line

# Whose targets refuse a value by an error of their own, and are not to be mended by the user: one line tells all.
LIBRARIES = ("retable", "torch", "torchvision", "lightning", "pytorch_lightning", "segmentation_models_pytorch", "timm")

# What Hydra's `instantiate` takes of a node itself.
_HYDRAS = ("_target_", "_args_", "_convert_", "_partial_", "_recursive_")

unite()  # before anything that a config names is imported

logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # it prints what the ConfigError below says


def target_of(node: Mapping[str, Any], path: str) -> Callable[..., Any]:
    """The class or function that a node's `_target_` names.

    Raises:
        ConfigError: if there is none or it can't be imported.
    """
    name = node.get("_target_")
    try:
        return get_object(name)
    except Exception as error:
        raise ConfigError(f"{path}._target_={name}: cannot be imported ({in_one_line(error)})") from error


def parameters(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The keyword parameters of a target by name; where a class passes **others on, its bases' too."""
    named: dict[str, inspect.Parameter] = {}
    for function in _signatures(target):
        found = inspect.signature(function).parameters.values()
        named |= {p.name: p for p in found if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "self"}
        if not any(p.kind is p.VAR_KEYWORD for p in found):
            break
    return named


def _signatures(target: Callable[..., Any]) -> list[Callable[..., Any]]:
    if not isinstance(target, type):
        return [target]
    return [cls.__init__ for cls in target.__mro__ if "__init__" in vars(cls)]


def _takes_any(target: Callable[..., Any]) -> bool:
    """Whether keys are accepted that no signature names."""
    last = None
    for function in _signatures(target):
        last = inspect.signature(function).parameters.values()
        if not any(p.kind is p.VAR_KEYWORD for p in last):
            return False
    return True


def refuse_unknown_keys(node: Any, path: str) -> None:
    """Refuse what the targets within a node don't take, of partials too, which are called long after the run began.

    Args:
        node: what Hydra's `instantiate` is given: a mapping or a list, or a plain value.

    Raises:
        ConfigError: one line, for an unknown key, and for a target that can't be imported.
    """
    if isinstance(node, list):
        for number, part in enumerate(node):
            refuse_unknown_keys(part, f"{path}.{number}")
    if not isinstance(node, Mapping):
        return
    if "_target_" in node:
        target = target_of(node, path)
        try:
            known, takes_any = list(parameters(target)), _takes_any(target)
        except (TypeError, ValueError):  # written in C: its own error will tell
            known, takes_any = [], True
        for key in node:
            if key not in known and not takes_any and key not in _HYDRAS:
                raise ConfigError(f"{path}.{key}: no such key; accepted: {', '.join(known) or 'none'}")
    if node.get("_recursive_") is not False:
        for key, part in node.items():
            refuse_unknown_keys(part, f"{path}.{key}")


def build(node: Mapping[str, Any], path: str, *args: Any, ignore: tuple[str, ...] = (), **context: Any) -> Any:
    """Call a node's target with the node's keys and with what the context adds.

    Args:
        node: resolved config node; the `name` of an option and the keys in `ignore` are not passed on.
        path: where the node stands in the config, for messages.
        args: positional arguments, e.g. an optimizer's parameters.
        context: keyword arguments that no config holds, e.g. the number of classes; those that the target does not
            take are left out.

    A target of the user's own that raises an error which names none of the node's keys has a fault: that error is
    raised as it is, with its traceback.

    Raises:
        ConfigError: one line, for an unknown or a missing key, or a refused value.
    """
    target = target_of(node, path)
    known = parameters(target)
    takes_any = _takes_any(target)
    labels = ("_target_", "name") if path in LABELLED else ("_target_",)
    given = {key: value for key, value in node.items() if key not in labels and key not in ignore}
    positional = set(list(known)[: len(args)])
    for key in given:
        if key not in known and not takes_any:
            accepted = [*(name for name in known if name not in context and name not in positional), *ignore]
            raise ConfigError(f"{path}.{key}: no such key; accepted: {', '.join(accepted) or 'none'}")
    added = {key: value for key, value in context.items() if key in known or takes_any}
    needed = {key for key, parameter in known.items() if parameter.default is parameter.empty}
    missing = [key for key in known if key in needed - given.keys() - added.keys() - positional]
    own = inspect.signature(_signatures(target)[0]).parameters
    for key in missing:
        if key in own:  # what a base needs the class may give it
            raise ConfigError(f"{path}.{key}: missing; {node['_target_']} needs it")
    try:
        return target(*args, **given, **added)
    except RetableError:
        raise
    except (ValueError, TypeError) as error:
        message = first_line(error)
        if absent := [key for key in missing if "missing" in message and f"'{key}'" in message]:
            raise ConfigError(f"{path}.{absent[0]}: missing; {node['_target_']} needs it") from error
        if message.startswith(f"{path}."):
            raise ConfigError(message) from error
        if message.split("=")[0] in given:
            raise ConfigError(f"{path}.{message}") from error
        if node["_target_"].split(".")[0] not in LIBRARIES:
            raise
        raise ConfigError(f"{path}: {message}") from error
