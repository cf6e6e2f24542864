"""Where a table's figures come from: a run's metric, and what was published of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from retable.errors import ConfigError
from retable.experiment.fields import Fields, is_list, is_number, listed

SOURCES = ("column", "result", "difference", "mean")


@dataclass(frozen=True)
class Metric:
    """A figure of a run, in the published unit. One of column, result, difference and mean says where it comes from.

    column: a column of history.csv, the last epoch's value unless a claim's operand says otherwise.
    result: a dotted key of result.json; `seconds_per_step` is derived where it is absent.
    difference: two other metrics, first minus second (the train-validation gap); one may be a number: [1, dice].
    mean: other metrics, of which it is the mean (the gradient norms of the convolutions).
    reach: with column, the first epoch in which the value is at least this, in the published unit; infinite if none.
    scale: factor from the stored to the published unit (0.98 to 98 %: 100); for a difference, from its metrics' unit.
    shown: false keeps it out of the table, for claims only.
    """

    name: str
    column: str | None = None
    result: str | None = None
    difference: tuple[str | float, str | float] | None = None
    mean: tuple[str, ...] = ()
    reach: float | None = None
    scale: float = 1.0
    digits: int = 2
    better: str = "higher"
    unit: str = ""
    shown: bool = True


@dataclass(frozen=True)
class Published:
    """A published figure in the published unit: one value, a range, or a value an epoch (`value` is the last one)."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    curve: Mapping[int, float] = field(default_factory=dict)


def parse_metrics(fields: Fields) -> dict[str, Metric]:
    data = fields.data.get("metrics")
    if not isinstance(data, Mapping) or not data:
        raise fields.fault("metrics", "a mapping from a metric's name to its column, result, difference or mean")
    return {str(name): parse_metric(fields, str(name), value, list(data)) for name, value in data.items()}


def parse_metric(table: Fields, name: str, data: Any, names: list[str]) -> Metric:
    accepted = set(Metric.__dataclass_fields__) - {"name"}
    fields = Fields.of(f"{table.where}: metrics.{name}", data, accepted)
    if sum(fields.has(source) for source in SOURCES) != 1:
        raise ConfigError(f"{fields.where}: says not where it comes from; accepted is exactly one of {listed(SOURCES)}")
    if fields.has("reach") and not fields.has("column"):
        raise fields.fault("reach", "only with column")
    return Metric(
        name=name,
        column=fields.text("column") if fields.has("column") else None,
        result=fields.text("result") if fields.has("result") else None,
        difference=parse_pair(fields, [n for n in names if n != name]) if fields.has("difference") else None,
        mean=fields.names("mean", [n for n in names if n != name]) if fields.has("mean") else (),
        reach=fields.number("reach") if fields.has("reach") else None,
        scale=fields.number("scale", 1.0),
        digits=fields.whole("digits", 0, 2),
        better=fields.choice("better", ("higher", "lower"), "lower" if fields.has("reach") else "higher"),
        unit=fields.text("unit") if fields.has("unit") else "",
        shown=fields.flag("shown", True),
    )


def parse_pair(fields: Fields, names: list[str]) -> tuple[str | float, str | float]:
    given = fields.data["difference"]
    if not is_list(given) or len(given) != 2 or all(map(is_number, given)):
        raise fields.fault("difference", "two metrics' names, first minus second, or a number in place of one")
    Fields(fields.where, {"difference": [v for v in given if not is_number(v)]}).names("difference", names)
    left, right = (float(value) if is_number(value) else str(value) for value in given)
    return left, right


def parse_published(figures: Fields, metric: str) -> Published:
    """`64.48`, `{range: [98, 99]}`, or `{curve: [0.52, 0.56], first: 1}`, a value an epoch from epoch `first` on."""
    data = figures.data[metric]
    if is_number(data):
        return Published(value=float(data))
    accepted = "a number, {range: [low, high]} or {curve: [a number an epoch], first: 1}"
    if (
        not isinstance(data, Mapping)
        or not set(data) <= {"range", "curve", "first"}
        or ("range" in data) == ("curve" in data)
    ):
        raise figures.fault(metric, accepted)
    values = data.get("range", data.get("curve"))
    if not is_list(values) or not values or not all(is_number(value) for value in values):
        raise figures.fault(metric, accepted)
    if "range" in data:
        if len(values) != 2 or values[0] > values[1] or "first" in data:
            raise figures.fault(metric, accepted)
        return Published(low=float(values[0]), high=float(values[1]))
    first = Fields(f"{figures.where}.{metric}", data).whole("first", 0, 1)
    return Published(value=float(values[-1]), curve={first + i: float(value) for i, value in enumerate(values)})
