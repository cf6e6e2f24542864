"""What a metric or an operand is worth: in one run, on the mean over runs, or in the published figures."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from statistics import fmean

from retable.config.keys import lookup
from retable.experiment.claims import Operand
from retable.experiment.metrics import Metric, Published
from retable.experiment.table import Table
from retable.report.runs import RunRecord

Curve = dict[int, float]
FINAL = Operand(label="")


class NotThere(Exception):
    """A figure that does not exist, with the reason: the claim that needs it is undecided."""


def curve(record: RunRecord, metric: Metric, metrics: Mapping[str, Metric]) -> Curve:
    """Epoch -> value in the published unit, where the epoch has one.  Raises: NotThere."""
    if metric.difference:
        left, right = (
            curve(record, metrics[part], metrics) if isinstance(part, str) else part for part in metric.difference
        )
        left = left if isinstance(left, dict) else dict.fromkeys(right, left)
        right = right if isinstance(right, dict) else dict.fromkeys(left, right)
        return {epoch: (left[epoch] - right[epoch]) * metric.scale for epoch in left if epoch in right}
    if metric.mean:
        curves = [curve(record, metrics[part], metrics) for part in metric.mean]
        shared = set.intersection(*map(set, curves))
        return {epoch: fmean(found[epoch] for found in curves) * metric.scale for epoch in sorted(shared)}
    if metric.column is None:
        raise NotThere(f"{metric.name} has no value an epoch")
    values = record.history.get(metric.column)
    if values is None:
        raise NotThere(f"no {metric.column} in the history")
    epochs = record.history.get("epoch") or range(1, len(values) + 1)
    found = {int(e): v * metric.scale for e, v in zip(epochs, values, strict=True) if not math.isnan(v)}
    if not found:
        raise NotThere(f"no value of {metric.column} in the history")
    return found


def scalar(record: RunRecord, metric: Metric, metrics: Mapping[str, Metric], how: Operand = FINAL) -> float:
    """One figure of one run, in the published unit; infinite where a threshold is never reached.  Raises: NotThere."""
    if metric.result:
        if not how.final:
            raise NotThere(f"{metric.name} has no value an epoch")
        return result_value(record, metric.result) * metric.scale
    if metric.reach is not None:
        reached = [epoch for epoch, value in curve(record, metric, metrics).items() if value >= metric.reach - 1e-9]
        return float(min(reached, default=math.inf))
    if metric.mean and how.final:
        return fmean(scalar(record, metrics[part], metrics) for part in metric.mean) * metric.scale
    if metric.difference and how.final:
        left, right = (
            scalar(record, metrics[part], metrics) if isinstance(part, str) else part for part in metric.difference
        )
        return (left - right) * metric.scale
    return from_curve(curve(record, metric, metrics), metric.name, how)


def from_curve(values: Curve, name: str, how: Operand) -> float:
    """The last epoch's value, or the one that the operand's options ask for."""
    first, last = min(values), max(values)
    if how.over:
        chosen = [value for epoch, value in values.items() if epoch >= (how.since or 0)]
        if not chosen:
            raise NotThere(f"no {name} from epoch {how.since} on")
        if how.over == "change":
            if len(chosen) < 2:
                raise NotThere(f"{name} has a single epoch")
            return fmean(abs(later - earlier) for earlier, later in pairwise(chosen))
        return max(chosen) if how.over == "max" else min(chosen)
    epoch = next((e for e in (how.at, how.fall_done) if e is not None), last)
    if epoch not in values:
        raise NotThere(f"no {name} at epoch {epoch}")
    if how.fall_done is None:
        return values[epoch]
    if values[first] <= values[last]:
        raise NotThere(f"{name} does not fall")
    return (values[first] - values[epoch]) / (values[first] - values[last])


def result_value(record: RunRecord, key: str) -> float:
    """A number of result.json, true as 1; seconds a step also from steps a second, or from training time and steps."""
    value = lookup(record.result, key)
    if key == "seconds_per_step" and value is None:
        rate, steps = record.result.get("steps_per_second"), record.result.get("step")
        seconds = lookup(record.result, "seconds.train")
        value = 1 / rate if rate else seconds / steps if seconds and steps else None
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise NotThere(f"no {key} in the result")
    return float(value)


@dataclass(frozen=True)
class RunsWorld:
    """Figures of runs: a cell's is the mean over its records, which are one where a single seed is judged."""

    table: Table
    runs: Mapping[str, Sequence[RunRecord]]

    def cell(self, name: str, how: Operand) -> float:
        metric = self.table.metrics[how.metric]
        try:
            return fmean(scalar(record, metric, self.table.metrics, how) for record in self.runs[name])
        except NotThere as error:
            raise NotThere(f"{name}: {error}") from None

    def curve(self, name: str, how: Operand) -> Curve:
        metric = self.table.metrics[how.metric]
        try:
            curves = [curve(record, metric, self.table.metrics) for record in self.runs[name]]
        except NotThere as error:
            raise NotThere(f"{name}: {error}") from None
        if any(set(found) != set(curves[0]) for found in curves):
            raise NotThere(f"{name}: the seeds have different epochs")
        return {epoch: fmean(found[epoch] for found in curves) for epoch in curves[0]}


@dataclass(frozen=True)
class PublishedWorld:
    """The published figures, for what the claims are worth on them. ends: what a (cell, metric)'s range stands for."""

    table: Table
    ends: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def cell(self, name: str, how: Operand) -> float:
        figure = self.figure(name, how.metric)
        if how.final and (name, how.metric) in self.ends:
            return self.ends[name, how.metric]
        if figure and how.final and figure.value is not None:
            return figure.value
        if not (figure and figure.curve) and how.final and self.table.metrics[how.metric].difference:
            metric = self.table.metrics[how.metric]
            left, right = (
                self.cell(name, replace(how, metric=part)) if isinstance(part, str) else part
                for part in metric.difference or ()
            )
            return (left - right) * metric.scale
        return from_curve(self.curve(name, how), how.metric, how)

    def curve(self, name: str, how: Operand) -> Curve:
        figure = self.figure(name, how.metric)
        if not figure or not figure.curve:
            raise NotThere(f"{name}: no {how.metric} was published" + ("" if how.final else " an epoch"))
        return dict(figure.curve)

    def figure(self, name: str, metric: str) -> Published | None:
        return self.table.cells[name].published.get(metric) if name in self.table.cells else None


World = RunsWorld | PublishedWorld


def worth(world: World, operand: Operand) -> float:
    """An operand's value.  Raises: NotThere."""
    if operand.constant is not None:
        return operand.constant
    values = [world.cell(name, operand) for name in operand.cells]
    return {"mean": fmean, "lowest": min, "highest": max}[operand.reduce](values) * operand.times
