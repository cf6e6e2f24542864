"""The HTML page of one table: everything about it in one file, from its run directories alone.

The page refers to nothing but its runs' own files, pictures among them, and the table's other formats beside it, by
paths relative to itself; style, script and charts stand in it. It reads without JavaScript, which adds sorting,
filtering, columns to hide, values under the pointer, and copying.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from retable.config.keys import lookup
from retable.experiment.metrics import Metric, NotThere
from retable.experiment.table import Table
from retable.report import copies
from retable.report.alternatives import UNDER
from retable.report.evaluated import Evaluated
from retable.report.intervals import ONE_SEED, interval_text
from retable.report.latex import latex_table
from retable.report.layout import Layout, epoch_layout, heading, published_text
from retable.report.markdown import markdown_table
from retable.report.page import environment, status_text
from retable.report.pictures import beside, caption, figures_of, link, pictures, relative
from retable.report.reproduce import command, commit, device, versions, versions_text
from retable.report.rows import Entry
from retable.report.runs import RunRecord
from retable.report.unpaired import ONE_RUN
from retable.report.verdicts import NOT_COMPARABLE, Verdict
from retable.run import files

if TYPE_CHECKING:
    from retable.report.plots import Chart
    from retable.report.swept import Swept

MOST_ACROSS = 7  # metrics beside each other in the table of differences
_FILES = (("config", files.CONFIG), ("log", files.LOG), ("history", files.HISTORY), ("result", files.RESULT))
_COPIES = (("Markdown", copies.REPORT), ("CSV", copies.CSV), ("LaTeX", copies.LATEX))


@dataclass(frozen=True)
class Page:
    """What an index says of a table, and the page itself. broken: (path, reason)."""

    found: Evaluated
    text: str
    statuses: Mapping[str, int]
    marks: tuple[str, ...]
    broken: tuple[tuple[str, str], ...]


def table_page(found: Evaluated, folder: Path, index: str, swept: "Swept | None" = None) -> Page:
    """The page of one table.

    Args:
        folder: where the page will stand.
        index: the address of the index from there, empty where there is none.
        swept: where the table is of what varied in a sweep, more of it.
    """
    table, runs = found.table, found.runs
    listed = [(cell, record) for cell, records in runs.cells.items() for record in records]
    used = [record for _, record in listed]
    listed += [
        (f"{cell}, {setting}", record)
        for setting, under in runs.alternatives.items()
        for cell, records in under.cells.items()
        for record in records
    ]
    statuses = Counter(record.status for record in used)
    broken = tuple((relative(Path(one.path), folder), one.reason) for one in runs.broken)
    text = (
        environment()
        .get_template("table.html")
        .render(
            table=table,
            command=found.command,
            index=index,
            headline=found.claims_line,
            remarks=[remark for remark in found.remarks if remark.kind not in ("broken", "assumed")],
            assumed=table.assumed,
            broken=broken,
            grid=grid(found.layout),
            by_epoch=[(heading(one.metric), grid(epoch_layout(one))) for one in found.by_epoch],
            class_tables=found.class_tables,
            notes=[(row.cell.name, row.cell.note) for row in found.rows if row.cell.note],
            claims=claims(found),
            baseline=baseline(found),
            under=UNDER,
            untried=found.untried,
            variations=found.under_assumptions,
            method=found.method,
            resolved=found.resolved,
            over=found.over,
            charts=[(chart, [Markup(panel) for panel in chart.panels]) for chart in drawn(found, swept)],
            sweep=more(swept),
            published=found.has_published,
            regenerated=found.regenerated,
            copies=[(name, file) for name, file in _COPIES if (folder / file).exists()],
            latex=latex_table(found),
            markdown=markdown_table(found),
            beside=beside(found, folder),
            pictures=pictures(found, folder),
            runs=[run_line(found, cell, run, folder) for cell, run in listed],
            metrics=[heading(metric) for metric in found.metrics],
            versions=versions([run for _, run in listed]),
            statuses=[(status_text(status), count) for status, count in sorted(statuses.items())],
            others=len(runs.others),
        )
    )
    return Page(found, text, statuses, tuple(marks(found, used)), broken)


def drawn(found: Evaluated, swept: "Swept | None") -> "Sequence[Chart]":
    """A table's charts, or a sweep's lighter ones."""
    if swept:
        from retable.report.swept import curves

        return curves(swept)
    from retable.report.drawing import charts  # matplotlib, of which a sweep's page has no need

    return charts(found)


def more(swept: "Swept | None") -> dict[str, Any] | None:
    """What a sweep's page shows beside the table, its drawings as markup."""
    if not swept:
        return None
    from retable.report.swept import sections

    context = sections(swept)
    if context["effects"]:
        context["effect_panels"] = [Markup(panel) for panel in context["effects"].panels]
    return context | {"parallel": Markup(context["parallel"]) if context["parallel"] else None}


def marks(found: Evaluated, used: Sequence[RunRecord]) -> list[str]:
    """Short words for the index: sample data, 30 of 100 epochs, 2 failed."""
    scales = sorted({row.scale for row in found.rows if row.scale})
    if any(record.source == "sample" for record in used) and "sample data" not in scales:
        scales.append("sample data")
    missing = sum(not row.runs for row in found.rows)
    return scales + ([f"{missing} of {len(found.rows)} cells missing"] if missing else [])


def grid(laid: Layout) -> dict[str, Any]:
    """A table in the publication's layout: groups of columns, and lines of (label, values as texts)."""
    heads = [heading(metric) for metric in laid.metrics]
    return {
        "corner": laid.corner or "cell",
        "groups": [(group, heads) for group in laid.groups],
        "grouped": any(laid.groups),
        "lines": [(name, [entry_texts(e, m) for e, m in zip(entries, laid.columns, strict=True)])
                  for name, entries in laid.lines],
    }  # fmt: skip


def entry_texts(entry: Entry | None, metric: Metric) -> dict[str, Any] | None:
    """One value as texts; None where the publication has no such cell."""
    if entry is None:
        return None
    mean = "" if entry.mean is None else metric.spell(entry.mean)
    difference = ""
    if entry.published is not None and entry.mean is not None:
        difference = NOT_COMPARABLE if entry.difference is None else metric.signed(entry.difference)
    return {
        "mean": mean,
        "std": "" if not entry.std else metric.spell(entry.std),
        "n": entry.n if mean else 0,
        "words": entry.words,
        "published": "" if entry.published is None else published_text(entry.published),
        "difference": difference,
        "best": entry.best,
        "sort": "" if entry.mean is None else repr(entry.mean),
    }


def claims(found: Evaluated) -> list[tuple[Verdict, str, list[str]]]:
    """(verdict, the claim's note, what it rests on as text)."""
    return [
        (v, claim.note, v.evidence(found.table.metrics))
        for claim, v in zip(found.table.claims, found.verdicts, strict=True)
    ]


def baseline(found: Evaluated) -> dict[str, Any] | None:
    """Each cell's paired difference to the baseline; None in a table without one.

    A line a cell, or where there are many metrics a line a metric, so that the page's width holds them: each value as
    (difference, interval with what else the cell shows, number to sort by).
    """
    if not found.differences or not any(row.runs for row in found.rows):
        return None
    alone = all(one.words in (ONE_SEED, ONE_RUN) for one in found.differences if one.mean is not None)
    lines: dict[str, list[tuple[str, str, float | None]]] = {}
    for one in found.differences:
        text = interval_text(
            replace(one, words="") if alone and one.mean is not None else one, found.table.metrics[one.metric]
        )
        difference, _, more = (text, "", "") if one.mean is None else text.partition(" ")
        lines.setdefault(one.label, []).append((difference, more, one.mean))
    heads = [heading(metric) for metric in found.metrics]
    differs = [next(one.differs for one in found.differences if one.label == cell) for cell in lines]
    shown = {"name": found.table.baseline, "one_seed": alone, "across": len(heads) > MOST_ACROSS}
    if shown["across"]:
        across = [list(line) for line in zip(*lines.values(), strict=True)]
        return shown | {"heads": list(lines), "lines": list(zip(heads, across, strict=True)), "differs": differs}
    return shown | {"heads": heads, "lines": list(lines.items()), "differs": differs}


def run_line(found: Evaluated, cell: str, record: RunRecord, folder: Path) -> dict[str, Any]:
    """A line of the table of runs."""
    path = Path(record.path)
    there = set(os.listdir(path)) if record.path and path.is_dir() else set()
    seconds = lookup(record.result, "seconds.total")
    return {
        "name": record.name,
        "href": link(path, folder) + "/" if there else "",
        "cell": cell,
        "seed": record.seed if record.seeded else "–",
        "source": "" if record.source == "real" else f"{record.source} data",
        "status": status_text(record.status),
        "finished": record.status == files.FINISHED,
        "reason": str(record.result.get("reason") or ""),
        "metrics": [value_text(record, metric, found.table) for metric in found.metrics],
        "epochs": epochs_of(record),
        "seconds": "" if not isinstance(seconds, (int, float)) else f"{seconds:.0f}",
        "device": device(record),
        "precision": record.precision,
        "commit": commit(record),
        "data": record.fingerprint,
        "versions": versions_text(record),
        "files": [(name, link(path / file, folder)) for name, file in _FILES if file in there],
        "pictures": [(caption(p), link(p, folder)) for p in figures_of(record)] if files.FIGURES in there else [],
        "command": command(record.overrides, record.seed),
    }


def epochs_of(record: RunRecord) -> tuple[int | None, int | None]:
    """How many epochs a run has trained, and how many were asked for; None where its record does not say."""
    trained = record.trained_epochs
    if record.summary and trained <= 1:  # of its end alone, which without a word of epochs counts as one
        return None, None
    return trained, record.planned_epochs


def value_text(record: RunRecord, metric: Metric, table: Table) -> tuple[str, str]:
    """(text, value to sort by) of one run's metric."""
    try:
        value = metric.value(record, table.metrics)
    except NotThere:
        return "–", ""
    return metric.spell(value), repr(value)
