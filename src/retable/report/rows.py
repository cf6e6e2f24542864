"""The rows of a table: each cell's values with their spread over seeds, beside the published ones.

Only finished runs are averaged; whatever else there is of a cell (nothing, failed, diverged, unfinished, other data) is
stated in words beside the value, never left blank and never averaged in.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

from retable.experiment.metrics import FINAL, Metric, NotANumber, NotThere, Published, When
from retable.experiment.table import Cell, Table
from retable.report.runs import Assigned, RunRecord
from retable.report.scale import Scale, alike, describe, scale_of
from retable.run.files import FINISHED

MISSING, NOT_RECORDED, NO_NUMBER = "missing", "not recorded", "not a number"


@dataclass(frozen=True)
class Entry:
    """One metric of one cell, in the published unit.

    mean, std: over `n` seeds; std is the sample standard deviation, None with fewer than two, and not shown where it is
    exactly 0, as of a constant. An infinite mean: never reached. difference: mean minus published; for a published
    range from its nearer end, 0 inside; None of sample data and at reduced scale. words: what there is in place of, or
    beside, the value. best: no cell is better, and some cell is worse.
    """

    metric: str
    mean: float | None = None
    std: float | None = None
    n: int = 0
    published: Published | None = None
    difference: float | None = None
    words: str = ""
    best: bool = False


@dataclass(frozen=True)
class Row:
    """A cell with its entries by metric.

    runs: all that there are of the cell; finished: those that the values are made of, one a seed.
    scale: what the runs were reduced by, empty where nothing. words: what else there is of the cell than finished runs.
    """

    cell: Cell
    entries: Mapping[str, Entry]
    runs: tuple[RunRecord, ...] = ()
    scale: str = ""
    finished: tuple[RunRecord, ...] = ()
    words: str = ""


@dataclass(frozen=True)
class ByEpoch:
    """A metric that was published epoch by epoch: a line an epoch, with an entry for each of the cells."""

    metric: Metric
    cells: tuple[str, ...]
    lines: tuple[tuple[int, tuple[Entry, ...]], ...]


def tables_by_epoch(table: Table, rows: Sequence[Row]) -> list[ByEpoch]:
    """One for each metric that has a published curve, in the published epochs."""
    found = []
    for metric in table.metrics.values():
        own = [row for row in rows if metric.name in row.cell.published and row.cell.published[metric.name].curve]
        epochs = sorted({epoch for row in own for epoch in row.cell.published[metric.name].curve})
        lines = tuple((epoch, tuple(entry_at(table, row, metric, epoch) for row in own)) for epoch in epochs)
        if lines:
            found.append(ByEpoch(metric, tuple(row.cell.name for row in own), lines))
    return found


def entry_at(table: Table, row: Row, metric: Metric, epoch: int) -> Entry:
    """A cell's value at an epoch; a dash where its runs have not got so far."""
    scales = [scale_of(record, row.cell.epochs, row.cell.fraction) for record in row.finished]
    words = () if row.finished else (row.words or MISSING,)
    found = entry(table, row.cell, metric, row.finished, words, scales, epoch)
    last = max((max(record.history.get("epoch") or (0,)) for record in row.finished), default=math.inf)
    return replace(found, words="–") if epoch > last else found


def table_rows(table: Table, runs: Assigned) -> list[Row]:
    """A row a cell, with every metric that is shown, in the table's order or ranked, cells without a value last."""
    shown = [metric for metric in table.metrics.values() if metric.shown]
    rows = [table_row(table, cell, runs.cells.get(cell.name, ()), shown) for cell in table.cells.values()]
    if table.ranked:
        sign = -1 if table.metrics[table.ranked].better == "higher" else 1
        means = {row.cell.name: row.entries[table.ranked].mean for row in rows}
        rows.sort(key=lambda row: sign * mean if (mean := means[row.cell.name]) is not None else math.inf)
    return mark_best(rows, shown)


def table_row(table: Table, cell: Cell, records: Sequence[RunRecord], shown: Sequence[Metric]) -> Row:
    records, other = same_data(records)
    doubled = [seed for seed, count in Counter(record.seed for record in records).items() if count > 1]
    finished = [record for record in records if record.status == FINISHED and record.seed not in doubled]
    words = status_words(records, other, doubled)
    scales = [scale_of(record, cell.epochs, cell.fraction) for record in finished]
    if not alike(scales):
        finished, words = [], [*words, f"runs of different scale: {describe(scales)}"]
    entries = {metric.name: entry(table, cell, metric, finished, words, scales) for metric in shown}
    return Row(cell, entries, tuple(records), describe(scales), tuple(finished), ", ".join(words))


def same_data(records: Sequence[RunRecord]) -> tuple[list[RunRecord], int]:
    """Records of the real data where there are any, and how many of sample data stand beside them."""
    real = [record for record in records if record.source != "sample"]
    return (real, len(records) - len(real)) if real else (list(records), 0)


def status_words(records: Sequence[RunRecord], other: int, doubled: Sequence[int]) -> list[str]:
    if not records:
        return [MISSING]
    words = []
    for status, count in sorted(Counter(record.status for record in records).items()):
        if status != FINISHED:
            words.append(status if count == len(records) == 1 else f"{count} of {len(records)} {status}")
    words += [f"several runs of seed {seed}" for seed in sorted(doubled)]
    return words + ([f"{other} of other data"] if other else [])


def entry(
    table: Table,
    cell: Cell,
    metric: Metric,
    finished: Sequence[RunRecord],
    words: Sequence[str],
    scales: Sequence[Scale],
    epoch: int | None = None,
) -> Entry:
    """One value with its spread. Args: epoch: of which the value is, by default the last one's."""
    published, when = cell.published.get(metric.name), FINAL
    if epoch is not None:
        printed = published.curve.get(epoch) if published else None
        published, when = None if printed is None else Published(printed), When(at=epoch)
    sample = any(scale.sample for scale in scales)
    comparable = all(scale.full for scale in scales)
    values, lacking = [], Counter()
    for record in finished:
        try:
            values.append(metric.value(record, table.metrics, when))
        except NotThere as reason:
            lacking[NO_NUMBER if isinstance(reason, NotANumber) else NOT_RECORDED] += 1
    never = values.count(float("inf"))
    remarks = list(words)
    for what, count in lacking.items():
        remarks.append(what if count == len(finished) else f"{what} in {count} of {len(finished)}")
    if 0 < never < len(values):
        remarks.append(f"never reached in {never} of {len(values)}")
    elif never:
        remarks.append("never reached")
    mean = fmean(values) if values and not never else None
    return Entry(
        metric=metric.name,
        mean=mean,
        std=stdev(values) if mean is not None and len(values) > 1 else None,
        n=len(values),
        published=None if sample else published,
        difference=differ(mean, published) if mean is not None and comparable else None,
        words=", ".join(remarks),
    )


def differ(mean: float, published: Published | None) -> float | None:
    if published is None:
        return None
    if published.value is not None:
        return mean - published.value
    low, high = published.low or 0.0, published.high or 0.0
    return mean - low if mean < low else mean - high if mean > high else 0.0


def rated(rows: Sequence[Row], metric: Metric) -> list[Row]:
    """The rows with a value of a metric, the best first."""
    found = [row for row in rows if metric.name in row.entries and row.entries[metric.name].mean is not None]
    return sorted(found, key=lambda row: row.entries[metric.name].mean or 0.0, reverse=metric.better == "higher")


def mark_best(rows: Sequence[Row], shown: Sequence[Metric]) -> list[Row]:
    """Marks each metric's best mean, also where several share it; none where there is one value or all tie."""
    best: dict[str, float] = {}
    for metric in shown:
        means = [row.entries[metric.name].mean for row in rows]
        found = [mean for mean in means if mean is not None]
        if len(set(found)) > 1 and metric.ranks:
            best[metric.name] = max(found) if metric.better == "higher" else min(found)
    return [
        replace(
            row,
            entries={
                name: replace(entry, best=entry.mean is not None and entry.mean == best.get(name))
                for name, entry in row.entries.items()
            },
        )
        for row in rows
    ]
