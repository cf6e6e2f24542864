"""The files of a report: a table's own, and the HTML pages with an index over them.

    <folder>/index.html                 all claims, a line each; the tables, by report
    <folder>/cifar/dropout/index.html   one table; beside it report.md, report.csv and report.tex, where values were
                                        published epoch by epoch epochs.csv and epochs.tex, and for the index table.json

They are a function of the run directories: the same directories give the same bytes.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

from retable import atomic
from retable.report.evaluated import Evaluated


def write_site(
    entries: Sequence[Evaluated],
    folder: Path | str,
    studies: Path | None = None,
    command: str = "",
    asked: Collection[str] = (),
) -> Path:
    """Write the pages of all given tables, and the index over them and what else has a page in the folder.

    Args:
        entries: the tables, each with its runs.
        folder: where the pages will stand.
        studies: folder of the receptive field studies that the index lists; by default `receptive` beside `folder`.
        command: what made the tables; by default the sweep of each one's experiment.
        asked: names of tables that somebody asked for, which stand in the index before those that only share runs.

    Returns:
        The index.
    """
    from retable.report.html import table_page  # half a second, of which the end of most sweeps has no need
    from retable.report.index import note_table, write_index

    folder = Path(folder)
    for found in entries:
        place = folder / found.table.name
        page = table_page(found, place, "../" * len(Path(found.table.name).parts) + "index.html", command)
        atomic.write_text(place / "index.html", page.text)
        note_table(page, place, asked=bool(command) or found.table.name in asked)
    return write_index(folder, studies)
