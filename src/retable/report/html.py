"""The HTML page of one table: everything about it in one file, from its run directories alone.

The page refers to nothing but its runs' own files, by paths relative to itself; style, script, charts and the shown
pictures stand in it. It reads without JavaScript, which only adds sorting and the picking out of a chart's line.
"""

import base64
import functools
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from retable.config.keys import lookup
from retable.experiment.kinds import spell
from retable.experiment.metrics import Metric
from retable.experiment.table import Table
from retable.experiment.values import NotThere, scalar
from retable.report.charts import charts, quality_of
from retable.report.evaluated import Entry, Row, remarks, table_rows
from retable.report.intervals import METHOD, claim_intervals, differences, interval_text
from retable.report.markdown import at, covers, heading, labels, places, published_text, short, shown
from retable.report.reproduce import command, commit, device, versions, versions_text
from retable.report.runs import UNFINISHED, Assigned, RunRecord
from retable.report.verdicts import FAILS, HOLDS, NOT_COMPARABLE, NOT_JUDGED, UNDECIDED, Verdict, judge

# Sign and style of a verdict: told apart without colour too.
SIGNS = {
    HOLDS: ("✓", "holds"),
    FAILS: ("✗", "fails"),
    UNDECIDED: ("?", "open"),
    NOT_JUDGED: ("–", "none"),
    NOT_COMPARABLE: ("≠", "none"),
}
_FILES = (("config", "config.yaml"), ("log", "log.txt"), ("history", "history.csv"), ("result", "result.json"))
_PICTURES_BYTES = 6_000_000  # of pictures that stand in a page; the rest is linked


@dataclass(frozen=True)
class Page:
    """What an index says of a table, and the page itself. holds: claims that hold; broken: (path, reason)."""

    table: Table
    text: str
    verdicts: tuple[Verdict, ...]
    statuses: Mapping[str, int]
    marks: tuple[str, ...]
    broken: tuple[tuple[str, str], ...]

    @property
    def holds(self) -> int:
        return sum(verdict.verdict == HOLDS for verdict in self.verdicts)

    @property
    def href(self) -> str:
        return f"{quote(self.table.name)}/index.html"


@functools.cache
def environment() -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("retable.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals |= {"signs": SIGNS, "style": asset("style.css"), "script": asset("page.js")}
    return found


def asset(name: str) -> Markup:
    return Markup((Path(__file__).parent / "templates" / name).read_text(encoding="utf-8"))


def table_page(table: Table, runs: Assigned, folder: Path, index: str) -> Page:
    """Args: folder: where the page will stand; index: the address of the index, from there."""
    rows = table_rows(table, runs)
    verdicts = tuple(judge(table, runs))
    judged = claims(table, runs, verdicts)
    used = [record for found in runs.cells.values() for record in found]
    statuses = Counter(record.status for record in used)
    broken = tuple((relative(Path(one.path), folder), one.reason) for one in runs.broken)
    text = (
        environment()
        .get_template("table.html")
        .render(
            table=table,
            index=index,
            holds=sum(verdict.verdict == HOLDS for verdict in verdicts),
            remarks=honesty(table, rows, runs),
            broken=broken,
            grid=grid(table, rows),
            notes=[(row.cell.name, row.cell.note) for row in rows if row.cell.note],
            claims=judged,
            intervals=any(texts for _, _, texts in judged),
            baseline=baseline(table, rows),
            method=METHOD,
            charts=[(chart, [Markup(panel) for panel in chart.panels]) for chart in charts(table, rows)],
            pictures=pictures(table, rows, folder),
            runs=run_lines(table, runs, folder),
            metrics=[heading(metric) for metric in shown(table)],
            versions=versions(used),
            statuses=[(status_text(status), count) for status, count in sorted(statuses.items())],
            others=len(runs.others),
        )
    )
    return Page(table, text, verdicts, statuses, tuple(marks(rows, used)), broken)


def honesty(table: Table, rows: Sequence[Row], runs: Assigned) -> list[str]:
    """The remarks, without the broken directories (they have a list of their own), and devices in words."""
    said = [text for text in remarks(table, rows, runs) if not text.startswith(("Broken", "Runs of different device"))]
    devices = sorted({device(record) for row in rows for record in row.runs} - {""})
    if len(devices) > 1:
        said.insert(0, f"The runs come from different devices: {'; '.join(devices)}.")
    commits = sorted({commit(record) for row in rows for record in row.runs} - {""})
    if len(commits) > 1:
        said.append(f"The runs come from different versions of the code: {', '.join(commits)}.")
    return said


def marks(rows: Sequence[Row], used: Sequence[RunRecord]) -> list[str]:
    """Short words for the index: sample data, 30 of 100 epochs, 2 failed."""
    found = sorted({row.scale for row in rows if row.scale})
    if any(record.source == "sample" for record in used) and "sample data" not in found:
        found.append("sample data")
    missing = sum(not row.runs for row in rows)
    return found + ([f"{missing} of {len(rows)} cells missing"] if missing else [])


def grid(table: Table, rows: Sequence[Row]) -> dict[str, Any]:
    """The table in the publication's layout: groups of columns, and lines of (label, entries or None)."""
    metrics = shown(table)
    if not table.rows:
        groups = [("", metrics)]
        lines = [(row.cell.name, [(row.entries[m.name], m) for m in metrics]) for row in rows]
    else:
        columns = places(table, rows, table.columns) if table.columns else [()]
        groups = [(" ".join(labels(table, table.columns, column)), metrics) for column in columns]
        lines = []
        for line in places(table, rows, table.rows, partial=True):
            found = [row for row in rows if at(row.cell, table.rows) == line]
            figures: list[tuple[Entry | None, Metric]] = []
            for column in columns:
                row = next((row for row in found if covers(row.cell, table.columns, column)), None)
                figures += [(row.entries[m.name] if row else None, m) for m in metrics]
            lines.append((" ".join(labels(table, table.rows, line)), figures))
    return {
        "corner": " ".join(short(key) for key in table.rows) or "cell",
        "groups": [(name, [heading(m) for m in found]) for name, found in groups],
        "grouped": any(name for name, _ in groups),
        "lines": [(name, [figure(entry, metric) for entry, metric in found]) for name, found in lines],
    }


def figure(entry: Entry | None, metric: Metric) -> dict[str, Any] | None:
    """One figure as texts; None where the publication has no such cell."""
    if entry is None:
        return None
    mean = "" if entry.mean is None else spell(entry.mean, metric)
    difference = ""
    if entry.published is not None and entry.mean is not None:
        text = spell(entry.difference, metric) if entry.difference is not None else ""
        difference = (text if text.startswith("-") else f"+{text}") if text else "not comparable"
    return {
        "mean": mean,
        "std": "" if entry.std is None else spell(entry.std, metric),
        "n": entry.n if mean else 0,
        "words": entry.words,
        "published": "" if entry.published is None else published_text(entry.published, metric),
        "difference": difference,
        "best": entry.best,
        "sort": "" if entry.mean is None else repr(entry.mean),
    }


def claims(table: Table, runs: Assigned, verdicts: Sequence[Verdict]) -> list[tuple[Verdict, str, list[str]]]:
    """(verdict, the claim's note, its intervals as text)."""
    found = []
    for claim, verdict, intervals in zip(table.claims, verdicts, claim_intervals(table, runs, verdicts), strict=True):
        texts = [f"{one.label}: {interval_text(one, table.metrics[one.metric])}" for one in intervals]
        found.append((verdict, claim.note, texts))
    return found


def baseline(table: Table, rows: Sequence[Row]) -> dict[str, Any] | None:
    """Each cell's paired difference to the baseline, a line a cell; None in a table without one."""
    found = differences(table, rows)
    if not found or not any(row.runs for row in rows):
        return None
    names = list(dict.fromkeys(one.label for one in found))
    lines = [
        (name, [(interval_text(one, table.metrics[one.metric]), one.mean) for one in found if one.label == name])
        for name in names
    ]
    return {"name": table.baseline, "lines": lines}


def pictures(table: Table, rows: Sequence[Row], folder: Path) -> list[dict[str, Any]]:
    """The best cell's own pictures, and of the baseline what can differ from them (no samples of the data)."""
    room, found = _PICTURES_BYTES, []
    for role, record in representatives(table, rows):
        images = []
        for path in figures_of(record):
            if found and "samples" in path.name:
                continue
            room -= path.stat().st_size
            data = f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}" if room > 0 else ""
            images.append({"name": caption(path), "href": link(path, folder), "data": data})
        if images:
            found.append({"role": role, "run": record.name, "images": images})
    return found


def representatives(table: Table, rows: Sequence[Row]) -> list[tuple[str, RunRecord]]:
    """(role, run): the first seed of the best cell, and of the baseline where it is another."""
    metric = quality_of(table)
    rated = [row for row in rows if row.finished and metric and metric.name in row.entries]
    rated = [row for row in rated if metric and row.entries[metric.name].mean is not None]
    sign = 1 if metric is None or metric.better == "higher" else -1
    best = max(rated, key=lambda row: sign * (row.entries[metric.name].mean or 0.0)) if metric and rated else None
    best = best or next((row for row in rows if row.finished), None)
    chosen = [(f"best cell, {best.cell.name}", best.finished[0])] if best else []
    base = next((row for row in rows if row.cell.name == table.baseline and row.finished), None)
    if base and base is not best:
        chosen.append((f"baseline, {base.cell.name}", base.finished[0]))
    return chosen


def run_lines(table: Table, runs: Assigned, folder: Path) -> list[dict[str, Any]]:
    """A line a run of the table's cells, in the table's order."""
    return [run_line(table, name, record, folder) for name, found in runs.cells.items() for record in found]


def run_line(table: Table, cell: str, record: RunRecord, folder: Path) -> dict[str, Any]:
    path = Path(record.path)
    there = set(os.listdir(path)) if record.path and path.is_dir() else set()
    planned = record.result.get("config_epochs") or lookup(record.config, "trainer.max_epochs")
    seconds = lookup(record.result, "seconds.total")
    return {
        "name": record.name,
        "href": link(path, folder) + "/" if there else "",
        "cell": cell,
        "seed": record.seed,
        "source": "" if record.source == "real" else f"{record.source} data",
        "status": status_text(record.status),
        "finished": record.status == "finished",
        "reason": str(record.result.get("reason") or ""),
        "figures": [value_text(record, metric, table) for metric in shown(table)],
        "epochs": (int(max(record.history.get("epoch") or [0])), planned),
        "seconds": "" if not isinstance(seconds, (int, float)) else f"{seconds:.0f}",
        "device": device(record),
        "precision": str(record.result.get("precision") or lookup(record.config, "trainer.precision", "")),
        "commit": commit(record),
        "data": str(lookup(record.result, "data.fingerprint") or "")[:8],
        "versions": versions_text(record),
        "files": [(name, link(path / file, folder)) for name, file in _FILES if file in there],
        "pictures": [(caption(p), link(p, folder)) for p in figures_of(record)] if "figures" in there else [],
        "command": command(record.overrides, record.seed),
    }


def value_text(record: RunRecord, metric: Metric, table: Table) -> tuple[str, str]:
    """(text, value to sort by) of one run's figure."""
    try:
        value = scalar(record, metric, table.metrics)
    except NotThere:
        return "–", ""
    return spell(value, metric), repr(value)


def status_text(status: str) -> str:
    return "running or interrupted" if status == UNFINISHED else status


def figures_of(record: RunRecord) -> list[Path]:
    return sorted((Path(record.path) / "figures").glob("*.png")) if record.path else []


def caption(path: Path) -> str:
    return path.stem.replace("_", " ")


def relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def link(path: Path, folder: Path) -> str:
    return quote(relative(path, folder))
