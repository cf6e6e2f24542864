"""A table as CSV: a line a cell and metric, in full precision. The same run directories give the same bytes."""

import csv
import io
from collections.abc import Mapping
from typing import Any

from retable.experiment.metrics import Published
from retable.report.evaluated import Evaluated
from retable.report.intervals import Interval
from retable.report.rows import Entry, Row

HEAD = (
    *("table", "cell", "metric", "unit", "mean", "std", "n"),
    *("published", "published_low", "published_high", "difference", "words", "scale"),
    *("baseline", "baseline_difference", "baseline_low", "baseline_high", "baseline_n", "baseline_words"),
)


def csv_text(found: Evaluated) -> str:
    """The whole file; columns as in HEAD."""
    paired = {(one.label, one.metric): one for one in found.differences}
    file = io.StringIO()
    writer = csv.DictWriter(file, HEAD, lineterminator="\n")
    writer.writeheader()
    for row in found.rows:
        for entry in row.entries.values():
            writer.writerow(_line(found, row, entry, paired.get((row.cell.name, entry.metric))))
    return file.getvalue()


EPOCHS_HEAD = (
    *("table", "cell", "metric", "unit", "epoch", "mean", "std", "n"),
    *("published", "difference", "words", "scale"),
)


def csv_by_epoch(found: Evaluated) -> str:
    """What was published epoch by epoch, a line a metric, cell and epoch; columns as in EPOCHS_HEAD. Else empty."""
    scales = {row.cell.name: row.scale for row in found.rows}
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(EPOCHS_HEAD)
    for one in found.by_epoch:
        for number, cell in enumerate(one.cells):
            for epoch, entries in one.lines:
                e = entries[number]
                published = e.published.value if e.published else None
                values = (epoch, e.mean, e.std, e.n, published, e.difference, e.words, scales[cell])
                writer.writerow((found.table.name, cell, one.metric.name, one.metric.unit, *values))
    return file.getvalue() if found.by_epoch else ""


def _line(found: Evaluated, row: Row, entry: Entry, paired: Interval | None) -> Mapping[str, Any]:
    """A line of the file. Args: paired: the difference from the baseline, where there is one."""
    published = entry.published or Published()
    return {
        "table": found.table.name,
        "cell": row.cell.name,
        "metric": entry.metric,
        "unit": found.table.metrics[entry.metric].unit,
        "mean": entry.mean,
        "std": entry.std,
        "n": entry.n,
        "published": published.value,
        "published_low": published.low,
        "published_high": published.high,
        "difference": entry.difference,
        "words": entry.words,
        "scale": row.scale,
        "baseline": found.table.baseline if paired else None,
        "baseline_difference": paired.mean if paired else None,
        "baseline_low": paired.low if paired else None,
        "baseline_high": paired.high if paired else None,
        "baseline_n": paired.n if paired else None,
        "baseline_words": paired.words if paired else None,
    }
