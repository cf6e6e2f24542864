"""The pages of tables, and the index over a folder's pages.

    <folder>/index.html                 all claims, a line each; the tables, by report
    <folder>/cifar/dropout/index.html   one table; beside it report.md, report.csv and report.tex, where values were
                                        published epoch by epoch epochs.csv and epochs.tex, and for the index table.json

The index is made from what lies there, so that no command forgets what another has made: a table's note, `table.json`,
says what stands in it; a sweep without an experiment has its own (`sweep_page`). All are a function of the run
directories: the same directories give the same bytes.
"""

import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from retable import atomic
from retable.report.headline import claims_line, holding, judged
from retable.report.page import SIGNS, environment, status_text
from retable.report.resolution import Resolution
from retable.report.settings import Differing
from retable.report.verdicts import Verdict

if TYPE_CHECKING:
    from retable.report.evaluated import Evaluated
    from retable.report.html import Page

NOTE = "table.json"
_RESOLUTION = ("resolved", "n", "needed", "beyond", "predicted", "runs")
_TEXTS = ("id", "text", "verdict", "numbers", "scale_note", "published", "under")


@dataclass(frozen=True)
class Listed:
    """What the index says of a table. name: where its page stands, below the index's folder.

    statuses: number of runs by status. marks: short words, e.g. `30 of 100 epochs`. broken: (path from the page,
    reason). aside: whether nobody asked for it and most of its cells are missing: its runs are another table's, or of a
    sweep without one. regenerated: whether it regenerates a publication.
    """

    name: str
    source: str
    title: str
    verdicts: tuple[Verdict, ...]
    statuses: Mapping[str, int]
    marks: tuple[str, ...]
    broken: tuple[tuple[str, str], ...]
    aside: bool
    regenerated: bool = True

    @property
    def href(self) -> str:
        return f"{quote(self.name)}/index.html"

    @property
    def holds(self) -> int:
        return holding(self.verdicts)

    @property
    def claims_text(self) -> str:
        """E.g. `2 of 3`; words where no claim was judged."""
        return f"{self.holds} of {len(self.verdicts)}" if judged(self.verdicts) else claims_line(self.verdicts)


def write_site(
    entries: "Sequence[Evaluated]",
    folder: Path | str,
    studies: Path | None = None,
    asked: Collection[str] = (),
) -> Path:
    """Write the pages of all given tables, and the index over them and what else has a page in the folder.

    Args:
        entries: the tables, each with its runs.
        folder: where the pages will stand.
        studies: folder of the receptive field studies that the index lists; by default `receptive` beside `folder`.
        asked: names of tables that somebody asked for, which stand in the index before those that only share runs.

    Returns:
        The index.
    """
    from retable.report.html import table_page  # half a second, of which the end of most sweeps has no need

    folder = Path(folder)
    for found in entries:
        place = folder / found.table.name
        page = table_page(found, place, "../" * len(Path(found.table.name).parts) + "index.html")
        atomic.write_text(place / "index.html", page.text)
        note_table(page, place, asked=bool(found.made_by) or found.table.name in asked)
    return write_index(folder, studies)


def note_table(page: "Page", place: Path, asked: bool) -> None:
    """Leave beside a table's page what the index says of it. Args: asked: whether it was named by who made it."""
    table, runs = page.found.table, page.found.runs
    records = [record for found in (*runs.cells.values(), runs.others) for record in found]
    asked |= any(f"experiment={table.name}" in record.overrides for record in records)
    missing = sum(not row.runs for row in page.found.rows)
    aside = not asked and 2 * missing > len(page.found.rows)
    claims = [
        {key: getattr(verdict, key) for key in (*_TEXTS, "held", "seeds", "reasons")}
        | {"confounded": verdict.differs.confounded}
        | {"resolution": {k: getattr(verdict.resolution, k) for k in _RESOLUTION} if verdict.resolution else None}
        for verdict in page.found.verdicts
    ]
    note = {"source": table.source, "title": table.title, "claims": claims, "statuses": dict(page.statuses)}
    atomic.write_json(
        place / NOTE,
        note | {"marks": page.marks, "broken": page.broken, "aside": aside, "regenerated": page.found.regenerated},
    )


def listed(folder: Path) -> list[Listed]:
    """The tables that have a page and a whole note below a folder, in the publication's order."""
    found = []
    for path in folder.rglob(NOTE):
        note = atomic.read_json(path)
        if note is None or not (path.parent / "index.html").exists():
            continue
        try:
            found.append(_listed(path.parent.relative_to(folder).as_posix(), note))
        except (KeyError, TypeError, ValueError, AttributeError):  # another program's, or damaged
            continue
    return sorted(found, key=order)


def _listed(name: str, note: Mapping[str, Any]) -> Listed:
    return Listed(
        name,
        str(note["source"]),
        str(note["title"]),
        tuple(map(_verdict, note["claims"])),
        {str(status): int(count) for status, count in note["statuses"].items()},
        tuple(map(str, note["marks"])),
        tuple((str(path), str(reason)) for path, reason in note["broken"]),
        bool(note["aside"]),
        bool(note.get("regenerated", True)),
    )


def _verdict(note: Mapping[str, Any]) -> Verdict:
    texts = {key: str(note[key]) for key in _TEXTS}
    if not {texts["verdict"], texts["published"]} <= set(SIGNS):
        raise ValueError(texts["verdict"])
    return Verdict(
        **texts,
        held=int(note["held"]),
        seeds=int(note["seeds"]),
        reasons=tuple(map(str, note["reasons"])),
        differs=Differing(confounded=tuple(map(str, note["confounded"]))),
        resolution=_resolution(note["resolution"]) if note["resolution"] else None,
    )


def _resolution(note: Mapping[str, Any]) -> Resolution:
    return Resolution(**{**note, "runs": tuple(map(int, note.get("runs", ())))})


def write_index(folder: Path, studies: Path | None = None) -> Path:
    """Write the index of all tables, sweeps and receptive fields that have pages in a folder; returns it.

    Args: studies: folder of the receptive field studies that it lists; by default `receptive` beside `folder`.
    """
    atomic.write_text(folder / "index.html", index_page(listed(folder), folder, studies or folder.parent / "receptive"))
    return folder / "index.html"


def index_page(pages: Sequence[Listed], folder: Path, studies: Path) -> str:
    from retable.report.receptive_page import index_lines
    from retable.report.sweep_page import sweep_lines

    claims = [(page, verdict) for page in pages if not page.aside for verdict in page.verdicts]
    counts = [(verdict, sum(v.verdict == verdict for _, v in claims)) for verdict in SIGNS]
    broken = {
        os.path.normpath(os.path.join(page.name, path)).replace(os.sep, "/"): reason
        for page in pages
        for path, reason in page.broken
    }
    fields, unreadable = index_lines(studies, folder)
    return (
        environment()
        .get_template("index.html")
        .render(
            claims=claims,
            regenerated=not pages or any(page.regenerated for page in pages),
            headline=claims_line([verdict for _, verdict in claims]),
            counts=[(verdict, count) for verdict, count in counts if count],
            reports=reports(pages),
            broken=sorted([*broken.items(), *unreadable]),
            fields=fields,
            sweeps=sweep_lines(folder),
            status_text=status_text,
        )
    )


def reports(pages: Sequence[Listed]) -> list[dict[str, Any]]:
    """The tables by the report that they are from: A1.2 is of A1; last those that stand aside."""
    found = []
    main = [page for page in pages if not page.aside]
    for name in dict.fromkeys(report_of(page.source) for page in main):
        own = [page for page in main if report_of(page.source) == name]
        verdicts = [verdict for page in own for verdict in page.verdicts]
        title = f"Report {name}" if re.fullmatch(r"[A-Z]\d?", name) else name
        found.append({"name": name, "title": title, "pages": own, "headline": claims_line(verdicts)})
    if aside := [page for page in pages if page.aside]:
        words = "nobody asked for them, and most of their cells are missing"
        found.append({"name": "further", "title": "Further tables", "pages": aside, "headline": words})
    return found


def report_of(source: str) -> str:
    return source.split(".")[0].split()[0].rstrip(",")  # `A2, side of the patches`


def order(page: Listed) -> tuple[Any, ...]:
    """A1.2 before A1.10, D1 before D1.2, and E.1 in its place."""
    parts = re.findall(r"\d+|\D+", page.source)
    return (*((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts), (-1, 0, page.name))
