"""The page of a sweep that no experiment asked for, made again from the note that lies beside it.

`sweep.json` says which runs the page is of, so that it can be made while they train.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from retable import atomic
from retable.errors import ConfigError
from retable.report.copies import write_table
from retable.report.layout import short
from retable.report.runs import read_run
from retable.report.swept import Swept, factors_of, sweep_of

NOTE = "sweep.json"


def noted(folder: Path) -> dict[str, Any] | None:
    """What the note in a folder says; None where there is none that is whole."""
    note = atomic.read_json(folder / NOTE)
    runs = note.get("runs") if note else None
    if note is None or not isinstance(runs, list) or not runs:
        return None
    kinds = {"directory": str, "settings": dict}
    whole = all(isinstance(one, dict) and all(isinstance(one.get(k), v) for k, v in kinds.items()) for one in runs)
    return note if whole and not any("\0" in one["directory"] for one in runs) else None


def note_sweep(folder: Path, title: str, command: str, runs: Sequence[tuple[Path, Mapping[str, Any]]]) -> None:
    """Leave beside a sweep's page which runs it is of. Args: runs: (directory, what was set for it)."""
    listed = [
        {"directory": Path(os.path.relpath(path, folder)).as_posix(), "settings": dict(one)} for path, one in runs
    ]
    atomic.write_json(folder / NOTE, {"title": title, "command": command, "runs": listed})


def write_sweep_page(folder: Path, index: str = "") -> Path | None:
    """Make the page of the sweep whose note lies in a folder; None where it has nothing to show yet.

    Args: index: the address of the index, from the page.
    """
    note = noted(folder)
    if note is None:
        return None
    records, settings = [], []
    for one in note["runs"]:
        try:
            records.append(read_run(Path(os.path.normpath(folder / one["directory"]))))
        except (OSError, ValueError):  # not begun, or being written
            continue
        settings.append(one["settings"])
    try:
        swept = sweep_of(records, settings, str(note.get("title")), made_by=str(note.get("command") or ""))
    except ConfigError:
        return None
    return write_swept(swept, folder, index)


def write_swept(swept: Swept, folder: Path, index: str) -> Path:
    from retable.report.html import table_page

    write_table(swept.found, folder)
    page = table_page(swept.found, folder, index, swept)
    atomic.write_text(folder / "index.html", page.text)
    return folder / "index.html"


def sweep_lines(folder: Path) -> list[dict[str, str]]:
    """What an index says of the sweeps' pages below its folder."""
    found = []
    for path in sorted(folder.rglob(NOTE)):
        note = noted(path.parent)
        if note and (path.parent / "index.html").exists():
            keys = factors_of([one["settings"] for one in note["runs"]])
            found.append(
                {
                    "title": str(note.get("title")),
                    "href": (path.parent / "index.html").relative_to(folder).as_posix(),
                    "runs": str(len(note["runs"])),
                    "varied": json.dumps({short(key): values for key, values in keys.items()}, default=str)[
                        1:-1
                    ].replace('"', ""),
                }
            )
    return found
