"""The one place where the shorthand `dropout=0.3` becomes `dropout.p=0.3`.

Hydra takes the value of a group for the name of a file and refuses a number ("Config group override must be a string or
a list. Got float"). Single runs, command-line sweeps, grids of experiment files and the Python API all pass through
`translate`, so that the shorthand means the same everywhere, also in `dropout=0.2,none` or
`dropout=range(0.1,0.6,0.1)`.
"""

import re
from collections.abc import Iterable

_SHORT = re.compile(r"^(?P<prefix>\+{0,2})dropout=(?P<value>.*)$", re.DOTALL)
# A string that is no other value of Hydra's grammar.
_WORD = re.compile(r"(?!(null|true|false|inf|nan)\Z)[a-z_][\w./-]*", re.IGNORECASE | re.ASCII)
_NONE = re.compile(r"\b(none|null|default)\b")


def translate(overrides: Iterable[str]) -> list[str]:
    """Rewrite `dropout=<value>` as `dropout.p=<value>`, with `none` as 0.0; leave every other override as it is.

    >>> translate(["task=cifar", "dropout=0.2,none", "dropout.where=fc"])
    ['task=cifar', 'dropout.p=0.2,0.0', 'dropout.where=fc']
    """
    return [_translate(override) for override in overrides]


def _translate(override: str) -> str:
    match = _SHORT.match(override)
    if match is None:
        return override
    return f"{match['prefix']}dropout.p={_NONE.sub('0.0', match['value'])}"


def override_text(key: str, value: object) -> str:
    """One override in Hydra's grammar for a value read from YAML, e.g. ("augment.transforms", ["rotate"]).

    Strings are passed on as they are written (so `range(1,4)` stays a sweep); lists and dicts become one value each,
    and strings in them stay the strings that they are.
    """
    return f"{key}={value if isinstance(value, str) else _text(value)}"


def _text(value: object) -> str:
    if isinstance(value, str):
        if _WORD.fullmatch(value) or "${" in value:
            return value
        from hydra.core.override_parser.types import Quote, QuotedString  # a table's file is read without Hydra

        return QuotedString(value, Quote.single).with_quotes()
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_text(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_text(item)}" for key, item in value.items()) + "}"
    return str(value)
