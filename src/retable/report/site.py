"""The files of a report: a table's own, and the HTML pages with an index over them.

    <folder>/index.html                 all claims, a line each; the tables, by report
    <folder>/cifar/dropout/index.html   one table; beside it report.md, report.csv and report.tex, and where values
                                        were published epoch by epoch, epochs.csv and epochs.tex

They are a function of the run directories: the same directories give the same bytes.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retable import atomic
from retable.experiment.table import Table
from retable.report.evaluated import Evaluated
from retable.report.verdicts import claims_line

if TYPE_CHECKING:
    from retable.report.html import Page


def write_site(
    entries: Sequence[Evaluated], folder: Path | str, studies: Path | None = None, command: str = ""
) -> Path:
    """Write the pages of all given tables, and the index over them.

    Args:
        entries: the tables, each with its runs.
        folder: where the pages will stand.
        studies: folder of the receptive field studies that the index lists; by default `receptive` beside `folder`.
        command: what made the tables; by default the sweep of each one's experiment.

    Returns:
        The index. It speaks of the given tables alone, so that all that are to stand in it must be given.
    """
    from retable.report.html import table_page  # half a second, of which the end of most sweeps has no need

    folder = Path(folder)
    pages = []
    for found in sorted(entries, key=lambda entry: order(entry.table)):
        place = folder / found.table.name
        page = table_page(found, place, "../" * len(Path(found.table.name).parts) + "index.html", command)
        atomic.write_text(place / "index.html", page.text)
        pages.append(page)
    atomic.write_text(folder / "index.html", index_page(pages, folder, studies or folder.parent / "receptive"))
    return folder / "index.html"


def write_index(folder: Path) -> Path:
    """Write the index of a folder in which only sweeps without an experiment, and receptive fields, have pages."""
    atomic.write_text(folder / "index.html", index_page((), folder, folder.parent / "receptive"))
    return folder / "index.html"


def index_page(pages: "Sequence[Page]", folder: Path, studies: Path) -> str:
    from retable.report.page import SIGNS, environment, status_text
    from retable.report.receptive_page import index_lines
    from retable.report.sweep_page import sweep_lines

    claims = [(page, verdict) for page in pages for verdict in page.found.verdicts]
    counts = [(verdict, sum(v.verdict == verdict for _, v in claims)) for verdict in SIGNS]
    broken = {
        os.path.normpath(os.path.join(page.found.table.name, path)).replace(os.sep, "/"): reason
        for page in pages
        for path, reason in page.broken
    }
    fields, unreadable = index_lines(studies, folder)
    return (
        environment()
        .get_template("index.html")
        .render(
            claims=claims,
            regenerated=not pages or any(page.found.regenerated for page in pages),
            headline=claims_line([verdict for _, verdict in claims]),
            counts=[(verdict, count) for verdict, count in counts if count],
            reports=reports(pages),
            broken=sorted([*broken.items(), *unreadable]),
            fields=fields,
            sweeps=sweep_lines(folder),
            status_text=status_text,
        )
    )


def reports(pages: "Sequence[Page]") -> list[dict[str, Any]]:
    """The tables by the report that they are from: A1.2 is of A1."""
    names = list(dict.fromkeys(report_of(page.found.table) for page in pages))
    found = []
    for name in names:
        own = [page for page in pages if report_of(page.found.table) == name]
        verdicts = [verdict for page in own for verdict in page.found.verdicts]
        title = f"Report {name}" if re.fullmatch(r"[A-Z]\d?", name) else name
        found.append({"name": name, "title": title, "pages": own, "headline": claims_line(verdicts)})
    return found


def report_of(table: Table) -> str:
    return table.source.split(".")[0].split()[0].rstrip(",")  # `A2, side of the patches`


def order(table: Table) -> tuple[Any, ...]:
    """A1.2 before A1.10, D1 before D1.2, and E.1 in its place."""
    parts = re.findall(r"\d+|\D+", table.source)
    return (*((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts), (-1, 0, table.name))
