"""Which run directories make up which experiment's table, from what the directories say.

Runs of many tables lie in one folder. A run is of a table if its identity is that of a point of the table's grid, but
for the seed and for what sets the scale (epochs, limits, share of the data). What else a command set for all its runs
(`experiment=cifar/dropout model.width=16`) is read off the runs' own overrides, and the grid is composed with it. So
runs fall into groups, a scale and such a setting each, which must not be mixed: the group nearest to the published
table is shown, the others are named. This is the report's only module that composes configs.
"""

import functools
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from retable.config.compose import Composer
from retable.config.identity import identity, same_run
from retable.config.keys import CHOOSING, SCALE, canonical, is_equal, is_part_of_a_run, key_of
from retable.errors import ConfigError
from retable.experiment.grid import Grid, expand
from retable.experiment.table import Table, load_table, parse_table
from retable.report.one_data import chosen_data, of_one_data
from retable.report.runs import Assigned, Remark, RunRecord, Runs, assign, cells_of, meets
from retable.run.files import FINISHED, metrics_of

MOST_LISTED = 4  # directories that a remark names
# May differ between the runs of a group: seeds are averaged, and a table of several precisions says so.
_FREE = (*SCALE, "seed", "trainer.precision")
# Overrides that change no result, or say which table was asked for.
_NO_SETTING = ("data", "seed", *CHOOSING, *SCALE, "trainer.precision")


@dataclass
class Group:
    """Runs of one table that may stand side by side. setting: overrides beside the grid's and the scale's.

    scale: the values of `keys.SCALE` that differ from the grid's own, by key. cells: those that have runs.
    """

    setting: tuple[str, ...]
    scale: tuple[tuple[str, Any], ...]
    records: list[RunRecord] = field(default_factory=list)
    cells: set[str] = field(default_factory=set)

    @property
    def text(self) -> str:
        return " ".join([*(f"{key}={value}" for key, value in self.scale), *self.setting]) or "as published"

    @property
    def merit(self) -> tuple[Any, ...]:
        """Ordered by: more than one shared cell, real data, the table's own settings, whole batches, more data, epochs.

        A group of one cell is last because most tables share their baseline with another that ran at another scale.
        """
        scale = dict(self.scale)
        limits = sum(key not in ("data.source", "data.fraction", "trainer.max_epochs") for key in scale)
        return (
            min(2, len(self.cells)),
            scale.get("data.source") != "sample",
            -len(self.setting),
            -limits,
            scale.get("data.fraction", 1.0),
            scale.get("trainer.max_epochs", float("inf")),
            sum(record.status == FINISHED for record in self.records),
        )


@dataclass(frozen=True)
class Point:
    """One point of a grid: overrides, identity without the keys of _FREE, the defaults of its keys, its own scale."""

    overrides: Sequence[str]
    identity: Mapping[str, Any]
    defaults: Mapping[str, Any]
    scale: Mapping[str, Any]


def tables_of(
    runs: Runs,
    experiments: Sequence[str] = (),
    where: Mapping[str, Any] | None = None,
    composer: Composer | None = None,
    shown: Collection[Path] = (),
) -> list[tuple[Table, Assigned]]:
    """The tables that the runs are of, in the experiments' order, each with its runs.

    Args:
        experiments: their names; by default those of conf/experiment that the runs make (`is_made`).
        where: resolved value by key that a run must have, e.g. {"trainer.max_epochs": 30}.
        shown: directories of runs: where a table has several groups, that with most of these is shown.

    Raises:
        ConfigError: for an experiment that does not exist or has no table.
    """
    composer = composer or Composer()
    known = composer.options("experiment")
    for name in experiments:
        if name not in known:
            raise ConfigError(f"--experiment {name}: no such experiment; accepted: {', '.join(known)}")
    matcher = Matcher((r for r in runs.records if r.identity and meets(r.config, where or {})), composer)
    wanted = set(map(os.path.realpath, shown))
    found = []
    for name in experiments or known:
        if not experiments and not matcher.may_have(name):
            continue
        table, groups = matcher.groups(name)
        groups.sort(key=lambda group: -sum(os.path.realpath(r.path) in wanted for r in group.records))
        chosen, *others = groups or [Group((), ())]
        if not experiments and not matcher.is_made(name, table, chosen.cells):
            continue
        varied = alternatives(table, chosen, others)
        others = [group for group in others if not any(group is one for one in varied.values())]
        data = chosen_data((r for group in varied.values() for r in group.records), wanted)
        data |= chosen_data(chosen.records, wanted)
        records, changed = of_one_data(chosen.records, data)
        assigned = assign(table, Runs(tuple(records), runs.broken))
        under = {t: assign(table, Runs(tuple(of_one_data(group.records, data)[0]), ())) for t, group in varied.items()}
        remarks = (*notes(chosen, others), *changed, *repeated(records, assigned))
        found.append((table, Assigned(assigned.cells, assigned.others, runs.broken, remarks, under)))
    return found


def alternatives(table: Table, chosen: Group, others: Sequence[Group]) -> dict[str, Group]:
    """The groups that are of the chosen one's settings and scale but for one assumed setting, by its override."""
    found = {}
    for one in table.assumptions:
        for text in map(one.override, one.alternatives):
            wanted = {*chosen.setting, text}
            group = next((g for g in others if set(g.setting) == wanted and g.scale == chosen.scale), None)
            if group:
                found[text] = group
    return found


def notes(chosen: Group, others: Sequence[Group]) -> tuple[Remark, ...]:
    remarks = []
    if chosen.setting:
        remarks.append(Remark(f"Set for every run beside the experiment: {' '.join(chosen.setting)}.", "setting"))
    if others:
        counted = "; ".join(f"{len(group.records)} with {group.text}" for group in others)
        remarks.append(Remark(f"Not in this table, of other data, scale or settings: {counted} (runs).", "left out"))
    return tuple(remarks)


def repeated(records: Iterable[RunRecord], assigned: Assigned) -> list[Remark]:
    """A remark on finished runs that are left out since the same run stands elsewhere, with other figures."""
    shown = {canonical(run.identity): run for found in (*assigned.cells.values(), assigned.others) for run in found}
    left = []
    for record in records:
        kept = shown.get(canonical(record.identity), record)
        if kept is not record and record.status == FINISHED and figures(record) != figures(kept):
            left.append(record.path)
    if not left:
        return []
    listed = ", ".join(left[:MOST_LISTED]) + (f" and {len(left) - MOST_LISTED} more" if left[MOST_LISTED:] else "")
    return [Remark(f"Trained more than once, with other figures, and shown once; left out: {listed}.", "left out")]


def figures(record: RunRecord) -> str:
    """The metrics of all epochs."""
    return canonical(metrics_of(record.history))


class Matcher:
    """Sorts records into the groups of one experiment after the other.

    Composing is what takes time, 20 ms a point: so it is left out for tables and settings that no record can be of.
    """

    def __init__(self, records: Iterable[RunRecord], composer: Composer) -> None:
        self.records = list(records)
        self.composer = composer
        self._grids: dict[tuple[str, ...], Grid | None] = {}
        self.stripped = [without_scale(record.identity or {}) for record in self.records]

    def setting(self, record: RunRecord) -> tuple[str, ...]:
        """What the command set beside a table's grid; nothing for a run without an experiment, which varies freely."""
        name = next((text.partition("=")[2] for text in record.overrides if key_of(text) == "experiment"), None)
        if name is None:
            return ()
        grid = self.grid(name)
        varied = {key_of(text) for point in grid.points for text in point} if grid else set()
        asked = [text for text in record.overrides if is_setting(text) and key_of(text) not in varied]
        return tuple(text for text in asked if not self._is_gone(text, record))

    def _is_gone(self, text: str, record: RunRecord) -> bool:
        """Whether what was set is a group that is not there any more: what its option held stands in the identity."""
        key = key_of(text)
        known = text.startswith("~") or "." in key or key in record.config
        return not known and not self.composer.options(key.partition("@")[0])

    def grid(self, name: str, setting: tuple[str, ...] = ()) -> Grid | None:
        """An experiment's grid; None where it is refused: the experiment is gone, or the setting is another table's."""
        arguments = (f"experiment={name}", *setting)
        if arguments not in self._grids:
            try:
                self._grids[arguments] = expand(arguments, self.composer)
            except ConfigError:
                self._grids[arguments] = None
        return self._grids[arguments]

    def may_have(self, name: str) -> bool:
        """Whether the records could make an experiment's table, by its cells alone."""
        path = self.composer.path("experiment", name)
        if path is None or "\ntable:" not in f"\n{path.read_text(encoding='utf-8')}":
            return False
        table = load_table(path)
        cells = {
            cell for record in self.records if record.task == table.task for cell in cells_of(table, record.config)
        }
        return self.is_made(name, table, cells)

    def is_made(self, name: str, table: Table, cells: set[str]) -> bool:
        """Whether somebody made this table: asked for it by name, or has runs of two of its cells, or of its only one.

        Most tables share a plain run, their baseline, which alone is no table.
        """
        asked = any(f"experiment={name}" in record.overrides for record in self.records)
        return len(cells) >= (1 if asked else min(2, len(table.cells)))

    def groups(self, name: str) -> tuple[Table, list[Group]]:
        """An experiment's table, and its groups with the one nearest to the published table first."""
        grid = self.grid(name) or expand([f"experiment={name}"], self.composer)  # again, for the error
        table = parse_table(grid.tables[name], name)
        everything = any(claim.all_runs for claim in table.claims)
        wanted = [
            number
            for number, record in enumerate(self.records)
            if record.task == table.task and (everything or cells_of(table, record.config))
        ]
        groups: dict[str, Group] = {}
        taken: set[int] = set()
        settings = {number: self.setting(self.records[number]) for number in wanted}
        free = [self.records[number].config for number in wanted if not settings[number]]
        assumed = [
            (one.override(value),)
            for one in table.assumptions
            for value in one.alternatives
            if any(canonical(one.found(config)) == canonical(value) for config in free)
        ]
        for setting in dict.fromkeys([(), *settings.values(), *assumed]):
            # A run without an experiment may have any setting: the same command has taken it for finished.
            left = [n for n in wanted if n not in taken and (not setting or settings[n] in (setting, ()))]
            points = self.points(name, setting) if left else []
            for number in left:
                record = self.records[number]
                own = [point for point in points if self._is_of(number, point)]
                if own:
                    taken.add(number)
                    # Points may differ in their scale alone (report E.1: in the share of the data): the nearest one.
                    group = Group(setting, min((scale_of(record, point) for point in own), key=len))
                    group = groups.setdefault(repr((group.setting, group.scale)), group)
                    group.records.append(record)
                    group.cells.update(cells_of(table, record.config))
        return table, sorted(groups.values(), key=lambda group: group.merit, reverse=True)

    def _is_of(self, number: int, point: Point) -> bool:
        not_new = functools.partial(self.composer.not_new, self.records[number].overrides, point.overrides)
        return same_run(self.stripped[number], point.identity, point.defaults, not_new)

    def points(self, name: str, setting: tuple[str, ...]) -> list[Point]:
        """The composed points of a grid under a setting; none where the setting does not go with it."""
        grid = self.grid(name, setting)
        try:
            return [self.point(overrides) for overrides in unique(grid.points)] if grid else []
        except ConfigError as error:
            if not setting:
                raise ConfigError(f"experiment={name}: {error}") from error
            return []

    def point(self, overrides: Sequence[str]) -> Point:
        composition = self.composer.compose(overrides)
        flat = identity(composition.config)
        return Point(
            overrides,
            without_scale(flat),
            composition.defaults,
            {key: flat[key] for key in SCALE if key in flat},
        )


def without_scale(flat: Mapping[str, Any]) -> dict[str, Any]:
    """An identity without the keys of _FREE, and without what follows them: a schedule as long as the training."""
    follows = {"scheduler.T_max"} if flat.get("scheduler.T_max") == flat.get("trainer.max_epochs") else set()
    return {key: value for key, value in flat.items() if key not in _FREE and key not in follows}


def scale_of(record: RunRecord, point: Point) -> tuple[tuple[str, Any], ...]:
    """The keys of the scale in which a run differs from its point of the grid, with the run's values."""
    flat = record.identity or {}
    known = {key: flat[key] for key in SCALE if key in flat}
    return tuple((k, v) for k, v in known.items() if not is_equal(k, v, point.scale.get(k)))


def is_setting(text: str) -> bool:
    key = key_of(text)
    return key not in _NO_SETTING and is_part_of_a_run(key)


def unique(points: Iterable[Sequence[str]]) -> list[list[str]]:
    """Points without their seed, each once."""
    stripped = (tuple(text for text in point if key_of(text) != "seed") for point in points)
    return [list(point) for point in dict.fromkeys(stripped)]
