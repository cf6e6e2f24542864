"""Settings that people keep in their runs' names: `lr_0.1_seed_3`, read by the pattern `lr_{lr}_seed_{seed}`."""

import re
from collections.abc import Sequence
from dataclasses import replace

from retable.errors import ConfigError
from retable.report.runs import RunRecord
from retable.report.sources.base import nested, seed_of, value_of

EXAMPLE = "lr_{lr}_seed_{seed}"


def with_names(records: Sequence[RunRecord], pattern: str) -> list[RunRecord]:
    """The runs with the settings that a pattern finds in their names, a seed among them.

    Args: pattern: text with the keys of settings in braces, of the whole name or of its last folders.

    Raises: ConfigError for no such pattern, or where a run is not so named.
    """
    keys, expression = parse(pattern)
    matches = [expression.fullmatch(record.name) for record in records]
    strange = [record.name for record, match in zip(records, matches, strict=True) if not match]
    if strange:
        more = len(strange) - 1
        others = f", nor {'is' if more == 1 else 'are'} {more} other run{'s' if more > 1 else ''}" if more else ""
        raise ConfigError(f"--name {pattern}: {strange[0]} is not so named{others}")
    found = []
    for record, match in zip(records, matches, strict=True):
        assert match
        config = nested({**record.config, **dict(zip(keys, map(value_of, match.groups()), strict=True))})
        found.append(replace(record, config=config, seed=seed_of(config)))
    return found


def parse(pattern: str) -> tuple[list[str], re.Pattern[str]]:
    """(keys, expression with a group for each of them).  Raises: ConfigError."""
    texts = re.split(r"\{([^{}]+)\}", pattern)
    between, keys = texts[::2], texts[1::2]
    if not keys or len(set(keys)) < len(keys) or not all(between[1:-1]) or re.search(r"[{}]", "".join(between)):
        raise ConfigError(f"--name {pattern}: accepted: text with settings in braces between it, e.g. {EXAMPLE}")
    return keys, re.compile("(?:.*/)?" + "([^/]+?)".join(map(re.escape, between)), re.DOTALL)
