"""Where the values of a claim come from: the runs of its cells, or what was published of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from retable.experiment.metrics import Curve, NotThere, Published
from retable.experiment.operands import Operand
from retable.experiment.table import Table
from retable.report.runs import RunRecord


@dataclass(frozen=True)
class RunsWorld:
    """Values of runs: a cell's is the mean over its records, which is a single one where one seed is evaluated."""

    table: Table
    runs: Mapping[str, Sequence[RunRecord]]

    def cell(self, name: str, operand: Operand) -> float:
        metrics = self.table.metrics
        try:
            return fmean(metrics[operand.metric].value(run, metrics, operand.when) for run in self.runs[name])
        except NotThere as error:
            raise NotThere(f"{name}: {error}") from None

    def curve(self, name: str, operand: Operand) -> Curve:
        metrics = self.table.metrics
        try:
            curves = [metrics[operand.metric].curve(run, metrics) for run in self.runs[name]]
            for run in self.runs[name]:
                metrics[operand.metric].value(run, metrics)  # which says that a curve has ended as nan or infinite
        except NotThere as error:
            raise NotThere(f"{name}: {error}") from None
        if any(set(found) != set(curves[0]) for found in curves):
            raise NotThere(f"{name}: the seeds have different epochs")
        return {epoch: fmean(found[epoch] for found in curves) for epoch in curves[0]}


@dataclass(frozen=True)
class PublishedWorld:
    """The published values, on which claims are evaluated, too. ends: the end of a (cell, metric)'s range to take."""

    table: Table
    ends: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def cell(self, name: str, operand: Operand) -> float:
        published, metric = self.published(name, operand.metric), self.table.metrics[operand.metric]
        final = operand.when.final
        if final and (name, operand.metric) in self.ends:
            return self.ends[name, operand.metric]
        if published and final and published.value is not None:
            return published.value
        if final and metric.difference and not (published and published.curve):
            left, right = (
                self.cell(name, replace(operand, metric=side)) if isinstance(side, str) else side
                for side in metric.difference
            )
            return (left - right) * metric.scale
        return operand.when.of(self.curve(name, operand), operand.metric)

    def curve(self, name: str, operand: Operand) -> Curve:
        published = self.published(name, operand.metric)
        if not published or not published.curve:
            raise NotThere(f"{name}: no {operand.metric} was published" + ("" if operand.when.final else " an epoch"))
        return dict(published.curve)

    def published(self, name: str, metric: str) -> Published | None:
        return self.table.cells[name].published.get(metric) if name in self.table.cells else None


def of_seed(cells: Mapping[str, Sequence[RunRecord]], seed: int) -> dict[str, list[RunRecord]]:
    return {name: [run for run in found if run.seed == seed] for name, found in cells.items()}
