"""What a publication leaves open, as data: a setting's assumed value, and what else it may have been.

    assumed:
      - dropout stands behind the pool                    a sentence, for what is no setting
      - {data.batch_size: 32, or: [64, 128]}              a setting: key, value, plausible alternatives
      - {model.width: 32, or: [16, 64], note: widths 32, 64, 128}

`retable assumptions EXPERIMENT` trains the table under each alternative, one at a time; its page says what changes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retable.config.keys import lookup
from retable.config.overrides import override_text
from retable.errors import ConfigError
from retable.experiment.fields import Fields, is_list


@dataclass(frozen=True)
class Assumption:
    """An assumed setting. key: as an override has it, a dotted key or a group."""

    key: str
    value: Any
    alternatives: tuple[Any, ...]
    note: str = ""

    @property
    def text(self) -> str:
        """E.g. `data.batch_size=32 (or 64, 128)`."""
        others = ", ".join(override_text(self.key, other).partition("=")[2] for other in self.alternatives)
        return f"{self.override(self.value)} (or {others})" + (f", {self.note}" if self.note else "")

    def override(self, value: Any) -> str:
        return override_text(self.key, value)

    def found(self, config: Mapping[str, Any]) -> Any:
        """The value that a config has, of a group the option's name; None without the key."""
        value = lookup(config, self.key)
        return value.get("name") if isinstance(value, Mapping) else value


def parse_assumed(table: Fields) -> tuple[tuple[str, ...], tuple[Assumption, ...]]:
    """Every entry as a text, and those that are settings.  Raises: ConfigError."""
    texts, settings = [], []
    for number, entry in enumerate(table.entries("assumed", "a list of texts and settings")):
        if isinstance(entry, Mapping):
            settings.append(parse_assumption(f"{table.where}: assumed[{number}]", entry, varied(table)))
            texts.append(settings[-1].text)
        elif isinstance(entry, str):
            texts.append(entry)
        else:
            raise table.fault("assumed", "a list of texts, and of settings like {data.batch_size: 32, or: [64, 128]}")
    return tuple(texts), tuple(settings)


def parse_assumption(where: str, entry: Mapping[str, Any], taken: Sequence[str]) -> Assumption:
    keys = [key for key in entry if key not in ("or", "note")]
    accepted = "a setting like {data.batch_size: 32, or: [64, 128]}"
    if len(keys) != 1 or not isinstance(keys[0], str) or not is_list(entry.get("or")) or not entry["or"]:
        raise ConfigError(f"{where}: {dict(entry)!r} is not accepted; accepted is {accepted}")
    (key,) = keys
    if entry[key] in entry["or"]:
        raise ConfigError(f"{where}: or: {entry[key]!r} is the assumed value itself; accepted are other values")
    if key in taken:
        raise ConfigError(f"{where}: {key} is varied by the grid; accepted are keys that all runs share")
    fields = Fields(where, entry)
    return Assumption(key, entry[key], tuple(entry["or"]), fields.text("note") if fields.has("note") else "")


def varied(table: Fields) -> list[str]:
    """Keys that the grid's own blocks set."""
    blocks = [block for block in table.data.get("grid") or [] if isinstance(block, Mapping)]
    zipped = [block["zip"] for block in blocks if isinstance(block.get("zip"), Mapping)]
    return [key for block in (*blocks, *zipped) for key in block if key not in ("zip", "include")]
