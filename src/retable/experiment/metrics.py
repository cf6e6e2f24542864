"""Where a table's values come from: a run's metric and its value, and what was published of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean
from typing import Any, Protocol

from retable.config.keys import lookup
from retable.errors import ConfigError
from retable.experiment.fields import Fields, is_list, is_number, listed

SOURCES = ("column", "result", "difference", "mean")
Curve = dict[int, float]  # epoch -> value
# To so many decimals values are told apart: 0.8 - 0.75 is 0.05, and errors of 3e-10 and 1e-10 are not the same.
DECIMALS = 12
EPSILON = 10.0**-DECIMALS


class NotThere(Exception):
    """A value that does not exist, with the reason: the claim that needs it is undecided."""


class NotANumber(NotThere):
    """A figure that was recorded as nan or infinite."""


class Recorded(Protocol):
    """What a run has recorded.

    history: column -> a value a row, nan where the row has none; epochs are in the column `epoch`. result: result.json.
    spoilt: column -> the last epoch in which what was recorded is nan.
    """

    @property
    def history(self) -> Mapping[str, list[float]]: ...
    @property
    def spoilt(self) -> Mapping[str, int]: ...
    @property
    def result(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class When:
    """Which value of a curve is meant; by default the last epoch's, as published tables give it.

    at: the value at this epoch. over: max, min, or change (the mean of |value - the epoch's before|) over the epochs,
    from epoch `since` on. fall_done: the share of the fall from the first to the last epoch that is done by this epoch.
    """

    at: int | None = None
    over: str | None = None
    since: int | None = None
    fall_done: int | None = None

    @property
    def final(self) -> bool:
        return self.at is None and self.over is None and self.fall_done is None

    @property
    def text(self) -> str:
        if self.at is not None:
            return f"at epoch {self.at}"
        if self.over:
            return self.over + (f" from epoch {self.since}" if self.since is not None else "")
        return "" if self.fall_done is None else f"share of the fall by epoch {self.fall_done}"

    def of(self, curve: Curve, name: str) -> float:
        """The value of a curve that is meant.  Raises: NotThere, with the metric's name."""
        first, last = min(curve), max(curve)
        if self.over:
            chosen = [value for epoch, value in curve.items() if epoch >= (self.since or 0)]
            if not chosen:
                raise NotThere(f"no {name} from epoch {self.since} on")
            if self.over == "change":
                if len(chosen) < 2:
                    raise NotThere(f"{name} has a single epoch")
                return fmean(abs(later - earlier) for earlier, later in pairwise(chosen))
            return max(chosen) if self.over == "max" else min(chosen)
        epoch = next((e for e in (self.at, self.fall_done) if e is not None), last)
        if epoch not in curve:
            raise NotThere(f"no {name} at epoch {epoch}")
        if self.fall_done is None:
            return curve[epoch]
        if curve[first] <= curve[last]:
            raise NotThere(f"{name} does not fall")
        return (curve[first] - curve[epoch]) / (curve[first] - curve[last])


FINAL = When()


@dataclass(frozen=True)
class Metric:
    """A value of a run, in the published unit. One of column, result, difference and mean says where it comes from.

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

    @property
    def exact(self) -> bool:
        """Whether every seed has the same value, so that one seed is evidence enough: the number of parameters."""
        return self.result == "parameters"

    @property
    def ranks(self) -> bool:
        """Whether one value is better than another; the epoch in which a rule would have stopped is not."""
        return not (self.result or "").startswith("early_stop")

    @property
    def parts(self) -> tuple[str | float, ...]:
        """What it is the difference or the mean of."""
        return self.difference or self.mean

    def _ends(self, run: Recorded, metrics: Mapping[str, "Metric"]) -> list[float]:
        """The values of its parts at the last epoch that each of them has: of the last validation, not of a later
        training epoch. A part that has no value there (that of the test set, say) gives its own last one.

        Raises: as `value`.
        """
        ends = [metrics[part].value(run, metrics) if isinstance(part, str) else part for part in self.parts]
        named = [metrics[part] for part in self.parts if isinstance(part, str)]
        try:
            curves = [metric.curve(run, metrics) for metric in named]
        except NotThere:  # of what there is once: a value of result.json, the epoch in which a threshold is reached
            return ends
        if not all(curves) or any((last := min(map(max, curves))) not in curve for curve in curves):
            return ends
        return [metrics[part].curve(run, metrics)[last] if isinstance(part, str) else part for part in self.parts]

    def curve(self, run: Recorded, metrics: Mapping[str, "Metric"]) -> Curve:
        """Epoch -> value in the published unit, where the epoch has one. Args: metrics: the table's, by name.

        Raises: NotThere.
        """
        if self.difference:
            left, right = (metrics[p].curve(run, metrics) if isinstance(p, str) else p for p in self.difference)
            left = left if isinstance(left, dict) else dict.fromkeys(right, left)
            right = right if isinstance(right, dict) else dict.fromkeys(left, right)
            return {epoch: (left[epoch] - right[epoch]) * self.scale for epoch in left if epoch in right}
        if self.mean:
            curves = [metrics[name].curve(run, metrics) for name in self.mean]
            shared = set.intersection(*map(set, curves))
            return {epoch: fmean(found[epoch] for found in curves) * self.scale for epoch in sorted(shared)}
        if self.column is None or self.reach is not None:
            raise NotThere(f"{self.name} has no value an epoch")
        return self._recorded(run)

    def _recorded(self, run: Recorded) -> Curve:
        """Its column's values by epoch.  Raises: NotThere."""
        assert self.column is not None
        values = run.history.get(self.column)
        if values is None:
            raise NotThere(f"no {self.column} in the history")
        epochs = run.history.get("epoch") or range(1, len(values) + 1)
        found = {int(e): v * self.scale for e, v in zip(epochs, values, strict=True) if not math.isnan(v)}
        if not found:
            raise NotThere(f"no value of {self.column} in the history")
        return found

    def value(self, run: Recorded, metrics: Mapping[str, "Metric"], when: When = FINAL) -> float:
        """One value of one run in the published unit; infinite where a threshold is never reached.

        Raises: NotThere; NotANumber where the epoch that is meant, by default the last that has one, has no finite one.
        """
        if self.result:
            if not when.final:
                raise NotThere(f"{self.name} has no value an epoch")
            return result_value(run, self.result) * self.scale
        if self.reach is not None:
            reached = [epoch for epoch, value in self._recorded(run).items() if value >= self.reach - EPSILON]
            return float(min(reached, default=math.inf))
        if self.parts and when.final:
            found = self._ends(run, metrics)
            if self.difference and any(map(math.isinf, found)):
                raise NotThere(f"{self.name}: a threshold is never reached")
            return (found[0] - found[1] if self.difference else fmean(found)) * self.scale
        curve = self.curve(run, metrics)
        value, last = when.of(curve, self.name), max(curve)
        if not when.final and not math.isfinite(value):
            raise NotANumber(f"{self.name} {when.text} is not a number")
        spoilt = run.spoilt.get(self.column or "", 0) if when.final else 0
        if spoilt > last or (when.final and math.isinf(value)):
            raise NotANumber(f"{self.column} is not a number at epoch {max(spoilt, last)}")
        return value

    def spell(self, value: float, digits: int | None = None) -> str:
        """A value as text, `never` for an infinite one; zero has no sign. Args: digits: in place of the metric's."""
        if math.isinf(value):
            return "never"
        text = f"{value:.{self.digits if digits is None else digits}f}"
        return text.lstrip("-") if float(text) == 0 else text

    def signed(self, value: float) -> str:
        """E.g. `+1.20`, a difference."""
        text = self.spell(value)
        return text if text.startswith("-") else f"+{text}"


def result_value(run: Recorded, key: str) -> float:
    """A number of result.json, true as 1; seconds a step also from steps a second, or from training time and steps."""
    value = lookup(run.result, key)
    if key == "seconds_per_step" and value is None:
        rate, steps = run.result.get("steps_per_second"), run.result.get("step")
        seconds = lookup(run.result, "seconds.train")
        value = 1 / rate if rate else seconds / steps if seconds and steps else None
    try:
        number = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:  # a whole number beyond all
        number = math.nan
    if not math.isfinite(number):
        raise NotThere(f"no {key} in the result")
    return number


@dataclass(frozen=True)
class Published:
    """A published value in the published unit: one value, a range, or a value an epoch (`value` is the last one)."""

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


def parse_published(published: Fields, metric: str) -> Published:
    """`64.48`, `{range: [98, 99]}`, or `{curve: [0.52, 0.56], first: 1}`, a value an epoch from epoch `first` on."""
    data = published.data[metric]
    if is_number(data):
        return Published(value=float(data))
    accepted = "a number, {range: [low, high]} or {curve: [a number an epoch], first: 1}"
    if (
        not isinstance(data, Mapping)
        or not set(data) <= {"range", "curve", "first"}
        or ("range" in data) == ("curve" in data)
    ):
        raise published.fault(metric, accepted)
    values = data.get("range", data.get("curve"))
    if not is_list(values) or not values or not all(is_number(value) for value in values):
        raise published.fault(metric, accepted)
    if "range" in data:
        if len(values) != 2 or values[0] > values[1] or "first" in data:
            raise published.fault(metric, accepted)
        return Published(low=float(values[0]), high=float(values[1]))
    first = Fields(f"{published.where}.{metric}", data).whole("first", 0, 1)
    return Published(value=float(values[-1]), curve={first + i: float(value) for i, value in enumerate(values)})
