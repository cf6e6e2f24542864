"""Reading a mapping from an experiment's file key by key: every fault is one line, says where, what, and what fits."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retable.errors import ConfigError


def listed(names: Iterable[Any]) -> str:
    """What would have been accepted, for a message."""
    return ", ".join(str(name) for name in names) or "nothing"


@dataclass(frozen=True)
class Fields:
    """A mapping and its place, e.g. `cifar/dropout: claims[2]`; each method reads one key or raises ConfigError."""

    where: str
    data: Mapping[str, Any]

    @classmethod
    def of(cls, where: str, data: Any, accepted: Iterable[str]) -> "Fields":
        """Its fields. Args: accepted: all keys that may occur.  Raises: ConfigError for no mapping, or another key."""
        accepted = sorted(accepted)
        if not isinstance(data, Mapping):
            raise ConfigError(f"{where}: {data!r} is no mapping; accepted are the keys {listed(accepted)}")
        for key in data:
            if key not in accepted:
                raise ConfigError(f"{where}: unknown key {key!r}; accepted are {listed(accepted)}")
        return cls(where, data)

    def has(self, key: str) -> bool:
        return self.data.get(key) is not None

    def fault(self, key: str, accepted: str) -> ConfigError:
        if key not in self.data:
            return ConfigError(f"{self.where}: {key} is missing; accepted is {accepted}")
        return ConfigError(f"{self.where}: {key}={self.data[key]!r} is not accepted; accepted is {accepted}")

    def text(self, key: str, default: str | None = None) -> str:
        value = self.data.get(key, default)
        if not isinstance(value, str) or not value:
            raise self.fault(key, "a text")
        return value

    def choice(self, key: str, accepted: Iterable[str], default: str | None = None) -> str:
        accepted = list(accepted)
        value = self.data.get(key, default)
        if value not in accepted:
            raise self.fault(key, f"one of {listed(accepted)}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self.data.get(key, default)
        if not is_number(value):
            raise self.fault(key, "a finite number")
        return float(value)

    def whole(self, key: str, least: int, default: int | None = None) -> int:
        value = self.data.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self.fault(key, f"a whole number of at least {least}")
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.data.get(key, default)
        if not isinstance(value, bool):
            raise self.fault(key, "true or false")
        return value

    def entries(self, key: str, accepted: str) -> Sequence[Any]:
        """A list; absent or null is empty."""
        value = self.data.get(key) or []
        if not is_list(value):
            raise self.fault(key, accepted)
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts; absent or null is empty."""
        value = self.data.get(key)
        if value is None:
            return ()
        if not is_list(value) or not all(isinstance(item, str) for item in value):
            raise self.fault(key, "a list of texts")
        return tuple(value)

    def names(self, key: str, accepted: Iterable[str]) -> tuple[str, ...]:
        """One name or a list of names, each of them known and none twice."""
        accepted = list(accepted)
        value = self.data.get(key)
        value = [value] if isinstance(value, str) else value
        if not is_list(value) or not value:
            raise self.fault(key, f"a name or a list of names out of {listed(accepted)}")
        for name in value:
            if name not in accepted:
                raise ConfigError(f"{self.where}: {key}: {name!r} is unknown; accepted are {listed(accepted)}")
        if len(set(value)) < len(value):
            raise self.fault(key, "each name once")
        return tuple(value)


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))
