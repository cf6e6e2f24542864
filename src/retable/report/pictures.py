"""Which of the runs' pictures a table's page shows, which is also what `retable export` keeps.

A run draws PNG; an exported one has WebP, which is smaller.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from retable.experiment.shown import Beside
from retable.report.evaluated import Evaluated
from retable.report.layout import quality_of
from retable.report.rows import rated
from retable.report.runs import RunRecord
from retable.run.files import FIGURES

SUFFIXES = (".png", ".webp")
# Pictures of the data alone, which are the same whatever was trained.
OF_DATA = ("class_distribution", "class_samples", "flips", "slices", "styles")
# Drawn of every run by itself: the page's charts show all runs' curves together.
OF_HISTORY = ("curves", "gradient_norms")


def pictures(found: Evaluated, folder: Path) -> list[dict[str, Any]]:
    """Every cell's own pictures, those of the best cell and the baseline first; a picture of the data alone once."""
    shown: list[dict[str, Any]] = []
    first = representatives(found)
    inside, seen = len(first), {id(record) for _, record in first}
    others = [
        (row.cell.name, row.finished[0]) for row in found.rows if row.finished and id(row.finished[0]) not in seen
    ]
    drawn: set[str] = set()
    for role, record in [*first, *others]:
        paths = [path for path in figures_of(record) if path.stem not in drawn]
        drawn |= {path.stem for path in paths if path.stem in OF_DATA}
        if paths:
            images = [{"name": caption(path), "href": link(path, folder)} for path in paths]
            shown.append({"role": role, "run": record.name, "images": images, "inside": len(shown) < inside})
    return shown


def beside(found: Evaluated, folder: Path) -> list[dict[str, Any]]:
    """What the table wants to be seen side by side: one picture of the first seed of each of the cells."""
    shown = []
    for one in asked(found):
        images = [{"cell": cell, "href": link(path, folder)} for cell, path in pictures_beside(found, one)]
        if images:
            shown.append({"name": caption(Path(one.picture)), "images": images})
    return shown


def asked(found: Evaluated) -> tuple[Beside, ...]:
    return (*found.table.pictures, *(Beside(one.picture, (one.beside,)) for one in found.table.compare))


def pictures_beside(found: Evaluated, one: Beside) -> list[tuple[str, Path]]:
    by_cell = {row.cell.name: row.finished[0] for row in found.rows if row.finished}
    paths = [(cell, path) for cell in one.cells if cell in by_cell for path in figures_of(by_cell[cell])]
    return [(cell, path) for cell, path in paths if path.stem == one.picture]


def kept(entries: Sequence[Evaluated]) -> list[Path]:
    """What of the runs' pictures is worth keeping for the pages of these tables.

    Of the best cell and of the baseline all but the history's; of any cell those that the table wants side by side. A
    picture of the data alone once a task, from a cell that a table wants it of if there is one.
    """
    wanted = [(found, path) for found in entries for one in asked(found) for _, path in pictures_beside(found, one)]
    own = [(found, path) for found in entries for _, run in representatives(found) for path in figures_of(run)]
    wanted += [(found, path) for found, path in own if path.stem not in OF_HISTORY]
    chosen: dict[Path, None] = {}
    drawn: set[tuple[str, str]] = set()
    for found, path in wanted:
        of_data = (found.table.task, path.stem)
        if path.stem not in OF_DATA or of_data not in drawn:
            drawn.add(of_data)
            chosen[path] = None
    return list(chosen)


def representatives(found: Evaluated) -> list[tuple[str, RunRecord]]:
    """(role, run): the first seed of the best cell, and of the baseline where it is another."""
    table, rows = found.table, found.rows
    metric = quality_of(table)
    ranked = rated(rows, metric) if metric else []
    best = next((row for row in (*ranked, *rows) if row.finished), None)
    chosen = [(f"best cell, {best.cell.name}", best.finished[0])] if best else []
    base = next((row for row in rows if row.cell.name == table.baseline and row.finished), None)
    if base and base is not best:
        chosen.append((f"baseline, {base.cell.name}", base.finished[0]))
    return chosen


def figures_of(record: RunRecord) -> list[Path]:
    """A run's pictures by name; where one lies there in two formats, the PNG, which the run itself drew."""
    if not record.path:
        return []
    found: dict[str, Path] = {}
    for suffix in SUFFIXES:
        for path in (Path(record.path) / FIGURES).glob(f"*{suffix}"):
            found.setdefault(path.stem, path)
    return [found[stem] for stem in sorted(found)]


def caption(path: Path) -> str:
    return path.stem.replace("_", " ")


def relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def link(path: Path, folder: Path) -> str:
    return quote(relative(path, folder))
