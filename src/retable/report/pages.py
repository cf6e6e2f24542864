"""The files of a table's report, written in one place for `retable report` and for the end of a sweep."""

from collections.abc import Sequence
from pathlib import Path

from retable import atomic
from retable.experiment.table import Table
from retable.report.evaluated import table_rows
from retable.report.latex import latex_table
from retable.report.markdown import csv_text, report
from retable.report.runs import Assigned

REPORT = "report.md"
Entries = Sequence[tuple[Table, Assigned]]


def write_pages(table: Table, assigned: Assigned, folder: Path) -> Path:
    """Write report.md, report.csv and report.tex into the folder; returns the first."""
    atomic.write_text(folder / REPORT, report(table, assigned))
    atomic.write_text(folder / "report.csv", csv_text(table, table_rows(table, assigned)))
    atomic.write_text(folder / "report.tex", latex_table(table, assigned))
    return folder / REPORT


def write_all(entries: Entries, folder: Path, studies: Path | None = None) -> tuple[list[Path], Path | None]:
    """Write each table's pages into <folder>/<name>, and the HTML pages; returns the former, and the index."""
    pages = [write_pages(table, assigned, folder / table.name) for table, assigned in entries]
    return pages, write_index(entries, folder, studies)


def write_index(entries: Entries, folder: Path, studies: Path | None = None) -> Path | None:
    """The HTML pages of the tables, and the index over them, whose path is returned; `studies`: see `write_site`."""
    if not entries:
        return None
    from retable.report.site import write_site

    return write_site(entries, folder, studies)
