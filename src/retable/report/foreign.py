"""Tables of runs that other programs have recorded: read, grouped by their settings, put into a table's cells.

A table's file is the one that a sweep trains (`experiment.table`), here without need of a grid. What these runs do not
record (the seed, the data's fingerprint, the code's commit) is named on the page.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retable.atomic import read_yaml
from retable.config.keys import canonical, flatten, lookup
from retable.errors import ConfigError, DataError, RetableError, first_line, in_one_line
from retable.experiment.fields import listed
from retable.experiment.table import Table, name_of, parse_table
from retable.report.runs import Assigned, Remark, RunRecord, Runs, assign, cells_of, equal
from retable.report.settings import factors, factors_text, is_whole, one_a_cell, settings_of
from retable.report.sources import source
from retable.report.sources.base import EXAMPLE, UNSEEDED, Source, nested, seed_of, with_names
from retable.run.files import FINISHED

if TYPE_CHECKING:
    from retable.report.swept import Swept


@dataclass(frozen=True)
class Foreign:
    """Runs of another program. notes: what a reader must know of them, a sentence each."""

    records: tuple[RunRecord, ...]
    notes: tuple[Remark, ...]


def read_foreign(
    program: str,
    locations: Sequence[str],
    seed: str | None = None,
    where: Mapping[str, Any] | None = None,
    without: Sequence[str] = (),
    metrics: Sequence[str] = (),
    name: str | None = None,
) -> Foreign:
    """Read all runs of a program at some locations.

    Args:
        program: a name of `sources.SOURCES`.
        seed: key of the setting that is the seed, and so no setting; by default the one that is called so (`SEEDS`).
        where: value by key of a setting that a run must have.
        without: keys of settings and figures that are left out.
        metrics: columns that are figures, and so no settings.
        name: pattern of the runs' names that says which settings stand in them (`with_names`).

    Raises:
        ConfigError, DataError: as the source does; where `seed` or one of `without` is in no run, or no run meets
            `where`.
    """
    reader = source(program)
    read = {location: _read(reader, location) for location in locations}
    records = [record for found in read.values() for record in found]
    records = with_names(records, name) if name else records
    chosen = [record for record in records if all(equal(lookup(record.config, k), v) for k, v in (where or {}).items())]
    if not chosen:
        raise ConfigError(f"--where: none of {len(records)} runs is so; settings that vary: {factors_text(records)}")
    records = in_one_form(chosen)
    if seed:
        records = [replace(record, seed=seed_of(record.config, seed)) for record in records]
        if all(record.seed == UNSEEDED for record in records):
            raise ConfigError(f"--seed {seed}: is in no run a whole number; settings: {listed(settings_of(records))}")
        records = [without_keys(record, [seed]) for record in records]
    for key in without:
        left = [without_keys(record, [key]) for record in records]
        if left == records:
            raise ConfigError(f"--without {key}: is in no run; settings: {listed(settings_of(records))}")
        records = left
    records = [without_keys(record, metrics, history=False) for record in records]
    notes = [f"{len(records)} {'run' if len(records) == 1 else 'runs'} read from {reader.title}."]
    unseeded = sum(record.seed == UNSEEDED for record in records)
    lacking = [_of("the data's fingerprint", len(records), len(records))]
    without_commit = sum("git" not in record.result for record in records)
    lacking += [_of("the code's commit", without_commit, len(records))] if without_commit else []
    lacking += [_of("the seed", unseeded, len(records))] if unseeded else []
    notes.append(f"Not recorded: {', '.join(reversed(lacking))}.")
    if unseeded:
        notes.append(
            "Runs without a seed pair with no others: where they have part, intervals are those of unpaired runs."
        )
    if not reader.status_recorded:
        title = f"{reader.title[0].upper()}{reader.title[1:]}"
        notes.append(f"{title} does not say which runs ended well: those with figures are taken as finished.")
    notes += [doubt for location, found in read.items() for doubt in reader.doubts(location, found)]
    return Foreign(tuple(records), tuple(Remark(note, "recorded") for note in notes))


def _read(reader: Source, location: str) -> list[RunRecord]:
    try:
        return reader.read(location)
    except RetableError:
        raise
    except Exception as error:  # somebody else's files may hold anything
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise DataError(
            f"{location}: is not as {reader.title} leaves it ({reason}); accepted: {reader.place}"
        ) from error


def _of(what: str, count: int, total: int) -> str:
    return what if count == total else f"{what} in {count} of {total} runs"


def read_table(path: Path) -> Table:
    """A table's file: the mapping under `table`, or the whole file. A grid and published epochs may be left out.

    Raises: ConfigError.
    """
    try:
        data = read_yaml(path)
    except OSError as error:
        raise ConfigError(f"--table {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise ConfigError(f"--table {path}: cannot be read as YAML: {in_one_line(error)}") from None
    table = data.get("table", data) if isinstance(data, Mapping) else None
    if not isinstance(table, Mapping):
        raise ConfigError(f"--table {path}: holds no table; accepted: see `retable table new`")
    defaults = {"source": path.stem, "title": path.stem, "published_epochs": 1, "grid": [{}]}
    return parse_table(defaults | dict(table), name_of(path), str(path))


def table_of(table: Table, foreign: Foreign) -> Assigned:
    """The runs in the table's cells, and what a reader must know of them.

    Raises: ConfigError where no run is in any cell.
    """
    keys = {key for cell in table.cells.values() for key in cell.match}
    figures = [m.column for m in table.metrics.values() if m.column and dotted(m.column) not in keys]
    records = [without_keys(record, figures, history=False) for record in foreign.records]
    records = [replace(record, task=table.task, config=complete(record.config, keys)) for record in records]
    cells = [tuple(cells_of(table, record.config)) for record in records]
    if not any(cells):
        require_factors(records)
        raise ConfigError(f"{table.name}: no run meets a cell's match; settings that vary: {factors_text(records)}")
    records, repeats = without_repeats(numbered(records, cells))
    assigned = assign(table, Runs(tuple(records), ()))
    notes = (*repeats, *mixed(assigned.cells))
    return replace(assigned, foreign=True, notes=(*foreign.notes, *(Remark(text, "recorded") for text in notes)))


def require_factors(records: Sequence[RunRecord]) -> None:
    """Raises: ConfigError where runs differ in nothing but the seed, with what may help."""
    if not factors(records):
        raise ConfigError(
            "the runs differ in nothing but the seed; accepted: runs of several settings, or --name with a pattern of"
            f" their names, e.g. --name '{EXAMPLE}' (a name: {records[0].name})"
        )


def swept_of(foreign: Foreign, name: str, metrics: Sequence[str] = (), made_by: str = "") -> "Swept":
    """The runs as a sweep, grouped by everything that varied but the seed.

    Args: metrics: the columns that are shown, by default those of a draft; made_by: see `Evaluated`.

    Raises: ConfigError where nothing varied.
    """
    from retable.report.swept import sweep_of

    require_factors(foreign.records)
    hint = one_a_cell(foreign.records)
    keys = list(factors(foreign.records))
    settings = [{key: lookup(record.config, key) for key in keys} for record in foreign.records]
    records, repeats = without_repeats(numbered(foreign.records, [canonical(one) for one in settings]))
    settings = [{key: lookup(record.config, key) for key in keys} for record in records]
    notes = [*foreign.notes, *(Remark(text, "recorded") for text in (*repeats, *([hint] if hint else [])))]
    return sweep_of(records, settings, name, notes, metrics, foreign=True, made_by=made_by)


def without_keys(record: RunRecord, keys: Sequence[str], history: bool = True) -> RunRecord:
    """A run without some settings, by their keys. Args: history: whether figures of these names go, too."""
    if not keys:
        return record
    gone = set(map(dotted, keys))
    kept = {column: values for column, values in record.history.items() if not history or dotted(column) not in gone}
    return replace(record, config=_pruned(record.config, gone), history=kept)


def dotted(column: str) -> str:
    """A column's name as the key of a setting."""
    return column.replace("/", ".")


def _pruned(config: Mapping[str, Any], gone: set[str], above: str = "") -> dict[str, Any]:
    return {
        key: _pruned(value, gone, f"{above}{key}.") if isinstance(value, Mapping) else value
        for key, value in config.items()
        if f"{above}{key}" not in gone
    }


def in_one_form(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Runs in which a number that others have without a point has none, either, so that 0 and 0.0 are one setting."""
    whole = {item for record in records for item in flatten(dict(record.config)).items() if type(item[1]) is int}

    def settled(node: Mapping[str, Any], above: str = "") -> dict[str, Any]:
        return {
            key: settled(value, f"{above}{key}.")
            if isinstance(value, Mapping)
            else int(value)
            if type(value) is float and (f"{above}{key}", value) in whole
            else value
            for key, value in node.items()
        }

    return [replace(record, config=settled(record.config)) for record in records]


def complete(config: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """A config in which a setting that a run does not have is null, so that `match` can speak of it."""
    absent = object()
    lacking = {key: None for key in keys if lookup(config, key, absent) is absent}
    return nested({**flatten(dict(config)), **lacking}) if lacking else dict(config)


def numbered(records: Sequence[RunRecord], groups: Sequence[Any]) -> list[RunRecord]:
    """Runs without a seed get one: their number within their group, counted beyond the seeds that others have."""
    used: dict[Any, set[int]] = {}
    for record, group in zip(records, groups, strict=True):
        used.setdefault(group, set()).add(record.seed)
    found = []
    for record, group in zip(records, groups, strict=True):
        if record.seed == UNSEEDED:
            seed = next(number for number in range(len(records) + 1) if number not in used[group])
            used[group].add(seed)
            record = replace(record, seed=seed, seeded=False)
        found.append(record)
    return found


def without_repeats(records: Sequence[RunRecord]) -> tuple[list[RunRecord], list[str]]:
    """Runs without those that failed or stopped and were then repeated with the same settings and seed; and a note.

    Several that finished all stay, since nothing says which of them counts.
    """
    groups: dict[str, list[RunRecord]] = {}
    keys = settings_of(records)
    for record in records:
        setting = {key: lookup(record.config, key) for key in keys} | {"seed": record.seed}
        groups.setdefault(canonical(setting), []).append(record)
    kept, dropped = [], 0
    for found in groups.values():
        finished = [record for record in found if record.status == FINISHED]
        chosen = finished if len(finished) == 1 else found
        kept += chosen
        dropped += len(found) - len(chosen)
    notes = [f"Left out: {dropped} that did not finish and were repeated with the same settings."] if dropped else []
    return kept, notes


def mixed(cells: Mapping[str, Sequence[RunRecord]]) -> list[str]:
    """A note on the settings, other than the seed, in which runs of one cell differ; empty where there are none."""
    keys: dict[str, None] = {}
    for found in cells.values():
        keys |= dict.fromkeys(factors(found))
    if not keys:
        return []
    text = f"Runs of one cell differ in {', '.join(keys)}, of which the table does not speak."
    runs = [run for found in cells.values() for run in found]
    whole = [key for key in keys if is_whole([lookup(run.config, key) for run in runs])]
    if whole and not all(run.seeded for run in runs):
        text += f" If {'it' if len(keys) == 1 else whole[0]} only tells runs apart: --seed {whole[0]}."
    return [text]
