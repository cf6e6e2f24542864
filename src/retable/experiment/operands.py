"""What a claim speaks of: values of cells, and the world that gives them.

An operand is a cell's name; a number; or a mapping with one of
    cell: name; mean, lowest or highest: [cells]
and the options, which may also stand on the claim for all its operands:
    metric, label;  times: a factor;  at: the value at this epoch;
    over: max, min, or change (the mean of |value - the epoch's before|) over the epochs  [since: from this epoch on];
    fall_done: the share of the fall from the first to the last epoch that is done by this epoch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Protocol

from retable.errors import ConfigError
from retable.experiment.fields import Fields, is_list, is_number, listed
from retable.experiment.metrics import FINAL, Curve, Metric, NotThere, When

ALL_RUNS = "all runs"
OPTIONS = ("metric", "times", "at", "over", "since", "fall_done")
REDUCTIONS = {"mean": fmean, "lowest": min, "highest": max}


@dataclass(frozen=True)
class Operand:
    """What a claim speaks of: `metric` of `cells`, reduced over them (mean, lowest, highest), or `constant`."""

    label: str
    cells: tuple[str, ...] = ()
    reduce: str = "mean"
    constant: float | None = None
    metric: str = ""
    when: When = FINAL
    times: float = 1.0

    def value(self, world: "World") -> float:
        """Its value in a world.  Raises: NotThere."""
        if self.constant is not None:
            return self.constant
        return REDUCTIONS[self.reduce]([world.cell(cell, self) for cell in self.cells]) * self.times

    def curve(self, world: "World") -> Curve:
        """Its curve in a world; a mean over cells is taken epoch by epoch.  Raises: NotThere."""
        curves = [world.curve(cell, self) for cell in self.cells]
        if not curves:
            raise NotThere("a number has no value an epoch")
        shared = set.intersection(*map(set, curves))
        reduce = REDUCTIONS[self.reduce]
        return {epoch: reduce([curve[epoch] for curve in curves]) * self.times for epoch in sorted(shared)}


def number(value: float) -> Operand:
    """A constant as an operand."""
    return Operand(label="", constant=value)


class World(Protocol):
    """What a claim is evaluated on: the runs of a table, one of their seeds, or the published values."""

    def cell(self, name: str, operand: Operand) -> float:
        """The operand's metric of a cell, at the operand's epoch.  Raises: NotThere, with the reason."""

    def curve(self, name: str, operand: Operand) -> Curve:
        """The operand's metric of a cell by epoch.  Raises: NotThere."""


@dataclass(frozen=True)
class Given(Fields):
    """The keys of one statement as the file gives them, and what its operands may name."""

    cells: Sequence[str] = ()
    metrics: Mapping[str, Metric] = field(default_factory=dict)

    def operand(self, data: Any) -> Operand:
        if is_number(data):
            return Operand(label="", constant=float(data))
        data = {"cell": data} if isinstance(data, str) else data
        where = f"{self.where}: operand"
        reductions = ("cell", *REDUCTIONS)
        Fields.of(where, data, {*reductions, *OPTIONS, "label"})
        fields = Fields(where, {**{key: self.data[key] for key in OPTIONS if self.has(key)}, **data})
        chosen = [key for key in reductions if fields.has(key)]
        if len(chosen) != 1:
            raise ConfigError(f"{where}: {data!r} is not accepted; accepted is exactly one of {listed(reductions)}")
        names = fields.names(chosen[0], self.cells)
        if chosen[0] == "cell" and len(names) > 1:
            raise fields.fault("cell", "one cell's name")
        default = names[0] if len(names) == 1 else f"{chosen[0]} of {listed(names)}"
        times = fields.number("times", 1.0)
        if times != 1:
            default = f"{times:g} x {default}"
        if sum(fields.has(key) for key in ("at", "over", "fall_done")) > 1:
            raise ConfigError(f"{where}: {data!r} is not accepted; accepted is one of at, over and fall_done")
        metric = fields.choice("metric", self.metrics)
        if self.metrics[metric].reach is not None and any(fields.has(key) for key in ("at", "over", "fall_done")):
            raise fields.fault("metric", "one without reach, where at, over or fall_done is given")
        if fields.has("since") and not fields.has("over"):
            raise fields.fault("since", "only with over")
        when = When(
            at=fields.whole("at", 0) if fields.has("at") else None,
            over=fields.choice("over", ("max", "min", "change")) if fields.has("over") else None,
            since=fields.whole("since", 0) if fields.has("since") else None,
            fall_done=fields.whole("fall_done", 0) if fields.has("fall_done") else None,
        )
        reduce = chosen[0] if chosen[0] != "cell" else "mean"
        return Operand(fields.text("label", default), names, reduce, metric=metric, when=when, times=times)

    def operands(self, keys: Sequence[str]) -> tuple[Operand, ...]:
        """The operands. Args: keys: `of`; two keys that go together, e.g. left and right; or either of these."""
        pair = [key for key in keys if key != "of"]
        if not pair or ("of" in keys and not any(map(self.has, pair))):
            return self.several()
        if self.has("of"):
            raise self.fault("of", f"either {' and '.join(pair)}, or of")
        for key in pair:
            if not self.has(key):
                raise self.fault(key, "an operand: a cell's name, a number or a mapping")
        return tuple(self.operand(self.data[key]) for key in pair)

    def compared(self, keys: Sequence[str]) -> tuple[Operand, ...]:
        """As `operands`, at least two of them: one alone is in any order, and in no distance of itself."""
        found = self.operands(keys)
        if len(found) < 2:
            raise self.fault("of", "two operands or more")
        return found

    def several(self, all_runs: bool = False) -> tuple[Operand, ...]:
        """The operands of `of`, all cells by default. Args: all_runs: whether `all runs` may stand there."""
        given = self.data.get("of")
        if given == ALL_RUNS and not all_runs:
            raise self.fault("of", f"a list of operands; {ALL_RUNS!r} is for best, best_in and worst")
        given = self.cells if given is None or given == ALL_RUNS else given
        given = [given] if isinstance(given, (str, Mapping)) else given
        if not is_list(given) or not given:
            raise self.fault("of", "a list of operands" + (f", or {ALL_RUNS!r}" if all_runs else ""))
        return tuple(map(self.operand, given))
