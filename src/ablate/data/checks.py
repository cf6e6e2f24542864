"""Checks of constructor arguments: one line that names the key, the value and what would have been accepted."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any


def refuse(key: str, value: Any, accepted: str) -> ValueError:
    """The error for a value that is not accepted, to be raised by the caller."""
    return ValueError(f"data.{key}={value}: accepted: {accepted}")


def choice(key: str, value: Any, accepted: Iterable[str]) -> str:
    """One of some words."""
    accepted = tuple(accepted)
    if not isinstance(value, str) or value not in accepted:
        raise refuse(key, value, ", ".join(accepted))
    return value


def whole(key: str, value: Any, least: int) -> int:
    """A whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise refuse(key, value, f"a whole number from {least} on")
    return value


def share(key: str, value: Any, one: bool) -> float:
    """A number above 0 and below 1, or also 1 where `one` is true."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not (0 < value < 1 or (one and value == 1)):
        raise refuse(key, value, "a number in (0, 1]" if one else "a number in (0, 1)")
    return float(value)


def folder(key: str, value: Any) -> Path:
    """A folder's name; ~ stands for the home folder."""
    if not isinstance(value, str | Path) or not str(value).strip():
        raise refuse(key, value, "a folder")
    return Path(value).expanduser()
