"""Checks of single values, shared by the configuration and by everything that it builds.

Each raises ValueError with one line, `<key>=<value>: accepted: <what>`, to which the builder adds where the key stands.
"""

import math
import re
from collections.abc import Collection, Sequence
from pathlib import Path


def refuse(key: str, value: object, accepted: str) -> ValueError:
    """The error for a value that is not accepted (to be raised by the caller)."""
    shown = str(value).replace("\n", "\\n")
    return ValueError(f"{key}={shown}: accepted: {accepted}")


def one_of(key: str, value: object, options: Collection[object]) -> None:
    """Refuse a value that is none of the options."""
    if isinstance(value, list | dict) or value not in options:
        raise refuse(key, value, ", ".join(str(option) for option in options))


def integer(key: str, value: object, low: int | None = None, high: int | None = None) -> None:
    """Refuse what is no whole number within [low, high]."""
    bad = isinstance(value, bool) or not isinstance(value, int)
    if bad or (low is not None and value < low) or (high is not None and value > high):
        if low is not None and high is not None:
            raise refuse(key, value, f"a whole number from {low} to {high}")
        raise refuse(key, value, "a whole number" + (f" of at least {low}" if low is not None else ""))


def integers(key: str, values: object, count: int, of: str) -> None:
    """Refuse what is no list of so many whole numbers of at least 1. Args: of: what they are numbers of."""
    if not isinstance(values, Sequence) or len(values) != count:
        raise refuse(key, values, f"a list of {count} numbers of {of}")
    for value in values:
        integer(key, value, 1)


def number(
    key: str, value: object, low: float = -math.inf, high: float = math.inf, *, open_low: bool = False, open_high=False
) -> None:
    """Refuse what is no finite number in the interval from low to high; `open_` leaves an end out."""
    good = not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)
    if good:
        good = (value > low if open_low else value >= low) and (value < high if open_high else value <= high)
    if not good:
        left = "(" if open_low or low == -math.inf else "["
        right = ")" if open_high or high == math.inf else "]"
        raise refuse(key, value, f"a number in {left}{low:g}, {high:g}{right}")


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(key: str, value: object) -> float:
    """A time in seconds, from a number of them or from text in days, hours, minutes and seconds; refuse others.

    >>> seconds("sweep.budget", "1h30m"), seconds("sweep.budget", 90)
    (5400.0, 90.0)
    """
    found = None
    if isinstance(value, int | float) and not isinstance(value, bool):
        found = float(value)
    elif isinstance(value, str) and re.fullmatch(r"(\d+(\.\d+)?[dhms])+", value):
        found = sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)([dhms])", value))
    if found is None or not 0 < found < math.inf:
        raise refuse(key, value, "seconds, or a time like 90s, 10m, 1h30m")
    return found


def boolean(key: str, value: object) -> None:
    """Refuse what is neither true nor false."""
    if not isinstance(value, bool):
        raise refuse(key, value, "true, false")


def folder(key: str, value: object) -> Path:
    """A folder's name as a path, `~` standing for the home folder; refuse what is no name, and `~` without a home."""
    if not isinstance(value, str | Path) or not str(value).strip():
        raise refuse(key, value, "a folder")
    try:
        return Path(value).expanduser()
    except RuntimeError:  # no such user, or one of a container, that has neither HOME nor an entry in passwd
        raise refuse(key, value, "a folder; there is no home that ~ could stand for") from None
