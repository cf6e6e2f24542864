"""What Lightning's Trainer takes in several forms: each becomes the one in which a run's config has it.

So a run is the same run whichever of them is typed: `trainer.precision=bf16` and `bf16-mixed`, `max_epochs=null` and
-1, `max_time={hours:12}` and `00:12:00:00`.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from retable.config import precisions
from retable.config.keys import below, lookup

_UNITS = ("weeks", "days", "hours", "minutes", "seconds")


def _time(value: Any) -> Any:
    """A time as days:hours:minutes:seconds, of a mapping as datetime.timedelta takes it; any other value as it is."""
    numbers = isinstance(value, dict) and all(type(number) in (int, float) for number in value.values())
    if not numbers or not value or not set(value) <= set(_UNITS):
        return value
    try:
        seconds = round(timedelta(**value).total_seconds())
    except (ValueError, OverflowError):  # not a number, or one beyond all times
        return value
    minutes, hours = seconds // 60, seconds // 3600
    return f"{hours // 24:02d}:{hours % 24:02d}:{minutes % 60:02d}:{seconds % 60:02d}"


def _no_limit(value: Any) -> Any:
    return -1 if value is None else value


def _no_clipping(value: Any) -> Any:
    return None if type(value) in (int, float) and value == 0 else value


FORMS: dict[str, Callable[[Any], Any]] = {
    "trainer.precision": precisions.ours,
    "trainer.max_time": _time,
    "trainer.max_epochs": _no_limit,
    "trainer.gradient_clip_val": _no_clipping,
}


def settled(path: str, value: Any) -> Any:
    """The value of a dotted key in the form that a run's config has.

    >>> settled("trainer.precision", "32"), settled("seed", "32")
    (32, '32')
    """
    return FORMS[path](value) if path in FORMS else value


def settle(config: dict[str, Any], deviations: dict[str, Any], defaults: dict[str, Any]) -> None:
    """Bring a composed config to the one form, in place.

    Args:
        config: of one run, resolved.
        deviations: of it from its task's defaults, by dotted key.
        defaults: of the task, flat.

    >>> config, deviations = {"trainer": {"precision": "bf16"}}, {"trainer.precision": "bf16"}
    >>> settle(config, deviations, {"trainer.precision": "auto"})
    >>> config, deviations
    ({'trainer': {'precision': 'bf16-mixed'}}, {'trainer.precision': 'bf16-mixed'})
    """
    absent = object()
    for path, form in FORMS.items():
        _settle_default(defaults, path, form)
        given = lookup(config, path, absent)
        if given is absent:
            continue
        value = form(given)
        if value is given:
            continue
        section, _, key = path.partition(".")
        config[section][key] = value
        kept = {path if below(name, [path]) else name: each for name, each in deviations.items()}  # order is kept
        if path in kept:
            kept[path] = value
        if value == defaults.get(path, absent):
            kept.pop(path, None)
        deviations.clear()
        deviations.update(kept)


def _settle_default(defaults: dict[str, Any], path: str, form: Callable[[Any], Any]) -> None:
    if path in defaults:
        defaults[path] = form(defaults[path])
    inner = {name: value for name, value in defaults.items() if name.startswith(f"{path}.")}
    mapping = {name.removeprefix(f"{path}."): value for name, value in inner.items()}
    if inner and (value := form(mapping)) is not mapping:
        for name in inner:
            del defaults[name]
        defaults[path] = value
