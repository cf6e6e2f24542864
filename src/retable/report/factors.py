"""In which settings compared cells differ, by their runs' resolved configs: in the table's factor alone, or in more.

A comparison says something of dropout only where nothing but dropout differs. The keys that a table's cells match by,
and its rows and columns, are its factors; where compared cells differ in another key, too, they are confounded.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from retable.config.keys import flatten, is_part_of_a_run
from retable.experiment.table import Table
from retable.report.runs import RunRecord, equal
from retable.report.settings import is_progress


@dataclass(frozen=True)
class Differing:
    """Keys in which cells differ: those that are factors of the table, and the others."""

    factors: tuple[str, ...] = ()
    confounded: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """E.g. `dropout.p`, `dropout.p; confounded: optimizer.lr`; empty where nothing differs."""
        texts = [", ".join(self.factors)] if self.factors else []
        return "; ".join([*texts, *([f"confounded: {', '.join(self.confounded)}"] if self.confounded else [])])


def differing(table: Table, cells: Sequence[Sequence[RunRecord]]) -> Differing:
    """In which settings compared cells differ. Args: cells: the runs of each; the first is compared with all others."""
    cells = [runs for runs in cells if runs]
    found = {
        key
        for runs in cells[1:]
        for key in keys_that_differ(cells[0][0], runs[0])
        if is_of_a_cell(key, cells[0]) and is_of_a_cell(key, runs)
    }
    found -= {metric.column.replace("/", ".") for metric in table.metrics.values() if metric.column}
    named = {*table.rows, *table.columns, *(key for cell in table.cells.values() for key in cell.match)}
    return Differing(tuple(sorted(found & named)), tuple(sorted(found - named)))


def keys_that_differ(left: RunRecord, right: RunRecord) -> Iterable[str]:
    """Keys of which both have a value, and not the same; of a group with another option (`model.name`) that alone.

    A key that one run lacks is no difference: it may have been run before there was such a key.
    """
    ours, theirs = (settings(record) for record in (left, right))
    keys = {key for key in ours.keys() & theirs.keys() if not equal(ours[key], theirs[key])}
    options = {key.rpartition(".")[0] for key in keys if key.endswith(".name")}
    return {key for key in keys if key.endswith(".name") or key.partition(".")[0] not in options}


def is_of_a_cell(key: str, runs: Sequence[RunRecord]) -> bool:
    """Whether a key is a setting of these runs together.

    It is not where it names each run, nor where the runs differ in it themselves, as in the columns of metrics of a CSV
    file with a row a run.
    """
    values = [settings(record).get(key) for record in runs]
    names = all(value == record.name for value, record in zip(values, runs, strict=True))
    return not names and all(equal(value, values[0]) for value in values)


def settings(record: RunRecord) -> dict[str, object]:
    if record.identity:
        flat = dict(record.identity)
    else:
        flat = {key: value for key, value in flatten(dict(record.config)).items() if not is_progress(key)}
    return {key: value for key, value in flat.items() if key != "seed" and is_part_of_a_run(key)}
