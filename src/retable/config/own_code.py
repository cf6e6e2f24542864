"""The source of what a config names that is nobody's published package: a network, a loss, a DataModule of one's own.

A run is known by its config, which stays the same when such a source is edited. So each run notes which versions of
these modules it was trained by, and a sweep says where they are others now.
"""

import ast
import functools
import hashlib
import importlib.util
import io
import sysconfig
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from retable.config.keys import NO_EFFECT, STEERING, below

_OURS = ("retable", "hydra_plugins", "__main__")
_INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_DIGITS = 8


def versions(config: Mapping[str, Any]) -> dict[str, str]:
    """Eight digits of the code of each module of one's own that a run is trained by, in the order of their names.

    These are the modules of the classes and functions that a config's `_target_` keys name, their packages, and what
    they import in turn, but for what is installed. Nothing is imported for it. Comments and empty lines are no part of
    the code. {} where all that a config names is installed.
    """
    return dict(_versions(tuple(sorted(set(_targets(config))))))


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The modules in which two versions differ, those that only one has among them.

    >>> changed({"net": "0a", "loss": "1b"}, {"net": "0c", "loss": "1b", "blocks": "2d"})
    ['blocks', 'net']
    """
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))


def _targets(node: Any, key: str = "") -> Iterator[str]:
    """What the `_target_` keys below a node name, but for what can't change a result."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            where = f"{key}.{name}" if key else str(name)
            if name == "_target_" and isinstance(value, str):
                yield value
            elif not below(where, (*STEERING, *NO_EFFECT)):
                yield from _targets(value, where)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _targets(value, key)


@functools.lru_cache
def _versions(targets: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    todo = [name for target in targets for name in _prefixes(target)]
    while todo:
        name = todo.pop()
        path = _own_file(name) if name not in found else None
        if path is None:
            continue
        source = path.read_bytes()
        found[name] = hashlib.sha256(_code(source)).hexdigest()[:_DIGITS]
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        todo += [prefix for imported in _imports(source, package) for prefix in _prefixes(imported)]
    return tuple(sorted(found.items()))


def _code(source: bytes) -> bytes:
    """A source without comments, empty lines and spaces at the ends of lines: all of it where it is no Python."""
    lines = source.splitlines()
    try:
        for token in tokenize.tokenize(io.BytesIO(source).readline):
            if token.type == tokenize.COMMENT:
                row, column = token.start
                lines[row - 1] = lines[row - 1].decode()[:column].encode()
    except (SyntaxError, UnicodeDecodeError, tokenize.TokenError):
        return source
    return b"\n".join(filter(None, (line.rstrip() for line in lines)))


def _prefixes(name: str) -> list[str]:
    """`a.b.C` may be a class of the module a.b, whose package a is run too.

    >>> _prefixes("a.b.C")
    ['a', 'a.b', 'a.b.C']
    """
    parts = name.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]


def _own_file(name: str) -> Path | None:
    """The source file of a module of one's own; None for anything else."""
    path = _found(name)[0]
    return None if path is None or path.suffix != ".py" or _is_installed(path) else path


@functools.cache
def _found(name: str) -> tuple[Path | None, tuple[Path, ...]]:
    """The file of a module and the folders of its submodules, without importing its packages."""
    parent, _, last = name.rpartition(".")
    if name.partition(".")[0] in _OURS or not last.isidentifier():
        return None, ()
    if not parent:
        try:
            spec = importlib.util.find_spec(name)  # knows packages that are installed in place, too
        except (ImportError, ValueError):
            spec = None
        if spec is None or not spec.has_location:
            return None, tuple(map(Path, spec.submodule_search_locations or ())) if spec else ()
        return Path(str(spec.origin)), tuple(map(Path, spec.submodule_search_locations or ()))
    folders = []
    for folder in _found(parent)[1]:
        if (path := folder / last / "__init__.py").is_file():
            return path, (folder / last,)
        if (path := folder / f"{last}.py").is_file():
            return path, ()
        folders += [folder / last] if (folder / last).is_dir() else []
    return None, tuple(folders)


def _is_installed(path: Path) -> bool:
    return any(path.is_relative_to(place) for place in _INSTALLED) or bool(
        {"site-packages", "dist-packages"} & set(path.parts)
    )


def _imports(source: bytes, package: str) -> Iterator[str]:
    """Names of modules, and of what may be modules, that a source imports anywhere in it."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):  # the run will tell
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            above = parts[: len(parts) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names if module)
