"""Errors of Hydra and OmegaConf in one line that names the key and what is accepted."""

import difflib
import re
from collections.abc import Iterable

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from retable.config.instead import plugin, refusal
from retable.config.keys import LABELLED
from retable.errors import shortened

CONFIG_ERRORS = (HydraException, OmegaConfBaseException)


def one_line(error: BaseException, cfg: DictConfig | None = None) -> str:
    """The message of a composition error as a single line, with the nearest known keys where one was mistyped."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else None
    text = str(error) if not (cause and not str(error)) else str(cause)
    detail = f"{text}\n{cause}" if cause is not None else text

    if isinstance(error, InterpolationResolutionError) and error.full_key:
        return f"{error.full_key}: {shortened(text)}"
    if match := re.search(r"Could not override '([^']+)'", detail):
        key = match[1]
        if "is not in struct" in detail or "not in struct" in detail:
            return refusal(key) or f"{key}: no such key{_near(key, cfg)}"
        if "No match in the defaults list" in detail or "Did you mean" in detail:
            return f"{key}: no such key or group{_near(key, cfg)}"
    if match := re.search(r"Could not find '([^']+)'\s*\n+\s*Available options in '([^']+)':(.*)", detail, re.DOTALL):
        options = [line.strip() for line in match[3].splitlines() if line.strip() and ":" not in line]
        name = match[1].removeprefix(match[2]).strip("/")
        choice = f"{match[2]}={name}"
        return f"{choice}: no such option; accepted: {', '.join(options)}{plugin(choice)}"
    if match := re.search(r"You must specify '([^']+)', e\.?g,? [^\n]*\nAvailable options:(.*)", detail, re.DOTALL):
        return f"{match[1]}: not given; accepted: {', '.join(match[2].split())}"
    lines = [line.strip() for line in detail.splitlines()]
    return "; ".join(
        line for line in lines if line and not re.match(r"(full_key|object_type|reference_type)[:=]", line)
    )


def _near(key: str, cfg: DictConfig | None) -> str:
    if cfg is None:
        return ""
    parent, leaf, node = key, "", None
    while not isinstance(node, DictConfig):  # the innermost that there is
        parent, _, leaf = parent.rpartition(".")
        node = OmegaConf.select(cfg, parent, throw_on_resolution_failure=False) if parent else cfg
    known = sorted(str(name) for name in node if not str(name).startswith("_") and name != "hydra")
    known = [name for name in known if name != "name" or parent not in LABELLED]
    prefix = f"{parent}." if parent else ""
    hint = suggestion(leaf, known, prefix)
    target = str(node.get("_target_", "retable."))
    more = f", and as +{prefix}{leaf} any other argument of {target}"
    if target.startswith("retable.") or "?" in hint:  # of this package's own classes the files name every argument
        more = ""
    return f"{hint} accepted: {', '.join(prefix + name for name in known) or 'none'}{more}"


def suggestion(word: str, known: Iterable[str], prefix: str = "") -> str:
    """What goes between "no such ..." and "accepted: ...": the nearest known word, if one is near.

    >>> suggestion("lrr", ["lr", "momentum"], "optimizer.")
    '; did you mean optimizer.lr?'
    >>> suggestion("seeed", ["task"])
    ';'
    """
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {prefix}{close[0]}?" if close else ";"
