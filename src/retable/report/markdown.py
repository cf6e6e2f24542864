"""A table as Markdown in the publication's layout, and as CSV. The same run directories give the same bytes."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from retable.experiment.kinds import spell
from retable.experiment.metrics import Metric, Published
from retable.experiment.table import Cell, Table
from retable.report.evaluated import NOT_COMPARABLE, Entry, Row, remarks, table_rows
from retable.report.intervals import METHOD, Interval, claim_intervals, differences, interval_text
from retable.report.runs import Assigned
from retable.report.verdicts import HOLDS, Verdict, judge

LEGEND = "Each figure: mean ± sample standard deviation (n seeds) / published / difference. Best in bold."
CSV_HEAD = (
    *("table", "cell", "metric", "unit", "mean", "std", "n"),
    *("published", "published_low", "published_high", "difference", "words", "scale"),
    *("baseline", "baseline_difference", "baseline_low", "baseline_high", "baseline_n", "baseline_words"),
)
Texter = Callable[[Entry, Metric], str]


def report(table: Table, runs: Assigned) -> str:
    """The whole page: what to know, the table, the differences from its baseline, the claims."""
    rows = table_rows(table, runs)
    parts = [f"# {table.source} · {table.title}", f"`python train.py -m experiment={table.name}`"]
    said = remarks(table, rows, runs)
    parts += ["\n".join(f"- {line}" for line in said)] if said else []
    parts += [markdown_table(table, rows), LEGEND]
    paired = differences(table, rows)
    if paired:
        parts.append(differences_section(table, paired))
    if table.claims:
        verdicts = judge(table, runs)
        found = [intervals_text(one, table) for one in claim_intervals(table, runs, verdicts)]
        parts.append(claims_section(verdicts, found))
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Table, rows: Sequence[Row]) -> str:
    return grid(layout(table, rows))


def layout(table: Table, rows: Sequence[Row], text: Texter | None = None, absent: str = "–") -> list[list[str]]:
    """The lines of the table, head first: pivoted where the table says rows, else a line a cell.

    Args: text: one figure (default: `figure`); absent: what stands where the publication has no cell.
    """
    text = text or figure
    return pivot(table, rows, text, absent) if table.rows else plain(table, rows, text)


def plain(table: Table, rows: Sequence[Row], text: Texter) -> list[list[str]]:
    metrics = shown(table)
    lines = [["", *(heading(metric) for metric in metrics)]]
    return lines + [[row.cell.name, *(text(row.entries[m.name], m) for m in metrics)] for row in rows]


def pivot(table: Table, rows: Sequence[Row], text: Texter, absent: str) -> list[list[str]]:
    """A cell that says nothing of a column's keys (a baseline) stands in every column of its line."""
    metrics = shown(table)
    columns = column_places(table, rows)
    head = [" ".join(short(key) for key in table.rows)]
    head += [
        " ".join([*labels(table, table.columns, column), heading(metric)]).strip()
        for column in columns
        for metric in metrics
    ]
    lines = [head]
    for line in places(table, rows, table.rows, partial=True):
        found = [row for row in rows if at(row.cell, table.rows) == line]
        texts = [" ".join(labels(table, table.rows, line))]
        for column in columns:
            row = next((r for r in found if covers(r.cell, table.columns, column)), None)
            texts += [text(row.entries[m.name], m) if row else absent for m in metrics]
        lines.append(texts)
    return lines


def column_places(table: Table, rows: Sequence[Row]) -> list[tuple[Any, ...]]:
    """The values of the columns' keys, a tuple a group of columns; one empty tuple where there are no such keys."""
    return places(table, rows, table.columns) if table.columns else [()]


def shown(table: Table) -> list[Metric]:
    return [metric for metric in table.metrics.values() if metric.shown]


def at(cell: Cell, keys: Sequence[str]) -> tuple[Any, ...]:
    return tuple(cell.match.get(key) for key in keys)


def covers(cell: Cell, keys: Sequence[str], place: tuple[Any, ...]) -> bool:
    return all(key not in cell.match or cell.match[key] == value for key, value in zip(keys, place, strict=True))


def places(table: Table, rows: Sequence[Row], keys: Sequence[str], partial: bool = False) -> list[tuple[Any, ...]]:
    """The distinct values of the keys, in the cells' order; without `partial` those that a cell states in full."""
    found = [at(row.cell, keys) for row in rows if partial or all(key in row.cell.match for key in keys)]
    return list(dict.fromkeys(found)) or [tuple(None for _ in keys)]


def labels(table: Table, keys: Sequence[str], place: tuple[Any, ...]) -> list[str]:
    """How the publication calls the values; a value that a cell leaves open is not named."""
    return [
        table.labels.get(key, {}).get(str(value), str(value))
        for key, value in zip(keys, place, strict=True)
        if value is not None
    ]


def short(key: str) -> str:
    """`dropout.p` is p, `activation.name` is activation."""
    parts = key.split(".")
    return parts[-2] if parts[-1] == "name" and len(parts) > 1 else parts[-1]


def heading(metric: Metric) -> str:
    return metric.name.replace("_", " ") + (f" ({metric.unit})" if metric.unit else "")


def figure(entry: Entry, metric: Metric) -> str:
    """E.g. `**63.90 ± 0.40** (3) / 64.48 / -0.58`; with one seed the value alone; words where there is no figure."""
    said = entry.words
    if entry.mean is not None:
        said = spell(entry.mean, metric) + (f" ± {spell(entry.std, metric)}" if entry.std is not None else "")
        said = f"**{said}**" if entry.best else said
        said += f" ({entry.n})" if entry.n > 1 else ""
        said += f" ({entry.words})" if entry.words else ""
    if entry.published is None:
        return said
    said += f" / {published_text(entry.published, metric)}"
    if entry.mean is None:
        return said
    if entry.difference is None:
        return f"{said} / {NOT_COMPARABLE}"
    text = spell(entry.difference, metric)
    return f"{said} / {text if text.startswith('-') else f'+{text}'}"


def published_text(published: Published, metric: Metric) -> str:
    """As many digits as were published, so that 46 is not 46.00."""
    if published.value is not None:
        return f"{published.value:.10g}"
    return f"{published.low:.10g}-{published.high:.10g}"


def grid(lines: Sequence[Sequence[str]]) -> str:
    head, *body = [[text.replace("|", "\\|") for text in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *body])


def differences_section(table: Table, found: Sequence[Interval]) -> str:
    metrics = shown(table)
    texts: dict[str, list[str]] = {}
    for one in found:
        texts.setdefault(one.label, []).append(interval_text(one, table.metrics[one.metric]))
    lines = [[f"minus {table.baseline}", *(heading(metric) for metric in metrics)]]
    lines += [[name, *said] for name, said in texts.items()]
    return f"## Differences from the baseline\n\n{grid(lines)}\n\n{METHOD}"


def claims_section(verdicts: Sequence[Verdict], intervals: Sequence[str] = ()) -> str:
    """Args: intervals: a text a claim; the column is left out where none has one."""
    lines = [["claim", "verdict", "on the published figures"]]
    lines += [[f"{v.id} {v.text}", v.line, v.published] for v in verdicts]
    if any(intervals):
        lines[0].insert(2, "difference [95 % interval]")
        for line, text in zip(lines[1:], intervals, strict=True):
            line.insert(2, text or "–")
    return f"## Claims\n\n{claims_line(verdicts)}.\n\n{grid(lines)}"


def claims_line(verdicts: Sequence[Verdict]) -> str:
    """E.g. `2 of 5 claims hold`."""
    return f"{sum(verdict.verdict == HOLDS for verdict in verdicts)} of {len(verdicts)} claims hold"


def intervals_text(found: Sequence[Interval], table: Table) -> str:
    return "; ".join(f"{one.label} {interval_text(one, table.metrics[one.metric])}" for one in found)


def csv_text(table: Table, rows: Sequence[Row]) -> str:
    """A line a cell and metric, in full precision; columns as in CSV_HEAD."""
    found = {(one.label, one.metric): one for one in differences(table, rows)}
    file = io.StringIO()
    writer = csv.DictWriter(file, CSV_HEAD, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        for entry in row.entries.values():
            writer.writerow(csv_row(table, row, entry, found.get((row.cell.name, entry.metric))))
    return file.getvalue()


def csv_row(table: Table, row: Row, entry: Entry, paired: Interval | None = None) -> Mapping[str, Any]:
    """Args: paired: the difference from the baseline; the baseline itself and tables without one have none."""
    published = entry.published or Published()
    return {
        "table": table.name,
        "cell": row.cell.name,
        "metric": entry.metric,
        "unit": table.metrics[entry.metric].unit,
        "mean": entry.mean,
        "std": entry.std,
        "n": entry.n,
        "published": published.value,
        "published_low": published.low,
        "published_high": published.high,
        "difference": entry.difference,
        "words": entry.words,
        "scale": row.scale,
        "baseline": table.baseline if paired else None,
        "baseline_difference": paired.mean if paired else None,
        "baseline_low": paired.low if paired else None,
        "baseline_high": paired.high if paired else None,
        "baseline_n": paired.n if paired else None,
        "baseline_words": paired.words if paired else None,
    }


def write_markdown(path: Path | str, table: Table, runs: Assigned) -> None:
    Path(path).write_text(report(table, runs), encoding="utf-8", newline="\n")


def write_csv(path: Path | str, table: Table, runs: Assigned) -> None:
    Path(path).write_text(csv_text(table, table_rows(table, runs)), encoding="utf-8", newline="\n")
