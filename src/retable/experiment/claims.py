"""Claims as data. A claim is a text, a kind and what it speaks of; `each` says the same of several, and all must hold.

    - {text: all 0.3 is best, kind: best, metric: val, cell: all 0.3}
    - text: p = 0.3 has the smaller gap at each position
      kind: greater
      metric: gap
      left: none
      each: [{right: conv 0.3}, {right: fc 0.3}, {right: all 0.3}]

Kinds and their keys beside text, kind, metric, each and the operand's options:
    best          cell (or cells: the n best are these n)  [of: cells, or `all runs`; default: all cells]
                  [among: {metric, above}: only those of which a metric ends above this; the named one must be of them]
    best_in       cells: the best is one of these          [of]
    worst         cell                                     [of]
    greater       left > right + by                        [by: 0]
    within        |left - right| <= by, or the spread of   [relative: by is a share of right; strict: <]
    at_least      of >= value, each operand                [strict: >]
    at_most       of <= value, each operand                [strict: <]
    at_chance     |of - value| <= by, each operand; value is what guessing gives
    ordered       of, as `direction: ascending` or descending
    fewer_epochs  left < right, over a metric with `reach`
    falls         from > to; or with of and window: the mean of each `window` epochs is below that of those before
    every_epoch   left > right at every epoch
`beside` is a list as `each` is, of statements that are said with the claim and do not decide it.
A tie is no win. Values are in the metric's published unit; by and value too.

An operand is a cell's name; a number; or a mapping with one of
    cell: name; mean, lowest or highest: [cells]
and the options, which may also stand on the claim for all its operands:
    metric, label;  times: a factor;  at: the value at this epoch;
    over: max, min, or change (the mean of |value - the epoch's before|) over the epochs  [since: from this epoch on];
    fall_done: the share of the fall from the first to the last epoch that is done by this epoch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from retable.errors import ConfigError
from retable.experiment.fields import Fields, is_list, is_number, listed

ALL_RUNS = "all runs"
OPTIONS = ("metric", "times", "at", "over", "since", "fall_done")
KINDS: dict[str, tuple[str, ...]] = {
    "best": ("cell", "cells", "of", "among"),
    "best_in": ("cells", "of"),
    "worst": ("cell", "of"),
    "greater": ("left", "right", "by"),
    "within": ("left", "right", "of", "by", "relative", "strict"),
    "at_least": ("of", "value", "strict"),
    "at_most": ("of", "value", "strict"),
    "at_chance": ("of", "value", "by"),
    "ordered": ("of", "direction"),
    "fewer_epochs": ("left", "right"),
    "falls": ("from", "to", "of", "window"),
    "every_epoch": ("left", "right"),
}


@dataclass(frozen=True)
class Operand:
    """What a claim speaks of: `metric` of `cells`, reduced over them (mean, lowest, highest), or `constant`."""

    label: str
    cells: tuple[str, ...] = ()
    reduce: str = "mean"
    constant: float | None = None
    metric: str = ""
    at: int | None = None
    over: str | None = None
    since: int | None = None
    fall_done: int | None = None
    times: float = 1.0

    @property
    def final(self) -> bool:
        """Whether it is the last epoch's value, as published tables give it."""
        return self.at is None and self.over is None and self.fall_done is None


@dataclass(frozen=True)
class Check:
    """One elementary statement. operands: left and right, from and to, or the list `of`; named: the winners."""

    kind: str
    operands: tuple[Operand, ...]
    paired: bool = False
    named: tuple[str, ...] = ()
    all_runs: bool = False
    value: float = 0.0
    by: float = 0.0
    relative: bool = False
    strict: bool = False
    descending: bool = False
    window: int | None = None
    among: tuple[str, float] | None = None

    @property
    def absolute(self) -> bool:
        """Whether it holds a figure against a threshold instead of against another run's figure."""
        return self.kind in ("at_least", "at_most") or any(operand.constant is not None for operand in self.operands)


@dataclass(frozen=True)
class Claim:
    id: str
    text: str
    kind: str
    checks: tuple[Check, ...]
    note: str = ""
    beside: tuple[Check, ...] = ()

    @property
    def absolute(self) -> bool:
        return any(check.absolute for check in self.checks)

    @property
    def all_runs(self) -> bool:
        return any(check.all_runs for check in self.checks)

    @property
    def cells(self) -> tuple[str, ...]:
        """Every cell it speaks of, each once, in order."""
        operands = (operand for check in (*self.checks, *self.beside) for operand in check.operands)
        return tuple(dict.fromkeys(cell for operand in operands for cell in operand.cells))


def parse_claims(table: Fields, cells: list[str], metrics: Mapping[str, Any]) -> tuple[Claim, ...]:
    """Args: metrics: name -> Metric.  Raises: ConfigError."""
    data = table.data.get("claims") or []
    if not is_list(data):
        raise table.fault("claims", "a list of claims")
    source = table.text("source")
    return tuple(
        parse_claim(f"{table.where}: claims[{number}]", f"{source} ({number + 1})", claim, cells, metrics)
        for number, claim in enumerate(data)
    )


def parse_claim(where: str, id: str, data: Any, cells: list[str], metrics: Mapping[str, Any]) -> Claim:
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: {data!r} is no claim; accepted is a mapping with text, kind and the kind's keys")
    kind = Fields(where, data).choice("kind", KINDS)
    keys = {*KINDS[kind], *OPTIONS}
    fields = Fields.of(where, data, {"text", "kind", "note", "each", "beside", *keys})
    text = fields.text("text")
    common = {key: value for key, value in data.items() if key in keys}
    checks: dict[str, list[Check]] = {"each": [], "beside": []}
    for key, found in checks.items():
        statements = data.get(key, [{}] if key == "each" else [])
        if not is_list(statements) or (key in data and not statements):
            raise fields.fault(key, "a list of mappings, one a statement")
        for number, own in enumerate(statements):
            place = f"{where}.{key}[{number}]" if key in data else where
            Fields.of(place, own, keys)
            found.append(parse_check(Fields(place, {**common, **own}), kind, cells, metrics))
    note = fields.text("note") if fields.has("note") else ""
    return Claim(id, text, kind, tuple(checks["each"]), note, tuple(checks["beside"]))


def parse_check(fields: Fields, kind: str, cells: list[str], metrics: Mapping[str, Any]) -> Check:
    pairs = ("from", "to") if kind == "falls" else ("left", "right")
    paired = any(fields.has(key) for key in pairs) or "of" not in KINDS[kind]
    if paired and fields.has("of"):
        raise fields.fault("of", f"either {pairs[0]} and {pairs[1]}, or of")
    if paired:
        for key in pairs:
            if not fields.has(key):
                raise fields.fault(key, "an operand: a cell's name, a number or a mapping")
        given = [fields.data[key] for key in pairs]
    else:
        given = fields.data.get("of")
        given = cells if given is None or given == ALL_RUNS else given
        given = [given] if isinstance(given, (str, Mapping)) else given
        if not is_list(given) or not given:
            raise fields.fault("of", "a list of operands" + (f", or {ALL_RUNS!r}" if "cell" in KINDS[kind] else ""))
    operands = tuple(parse_operand(fields, operand, cells, metrics) for operand in given)
    labels = [operand.label for operand in operands]
    all_runs = fields.data.get("of") == ALL_RUNS
    if all_runs and kind not in ("best", "worst", "best_in"):
        raise fields.fault("of", f"a list of operands; {ALL_RUNS!r} is for best, best_in and worst")
    named: tuple[str, ...] = ()
    if kind in ("best", "best_in", "worst"):
        named = fields.names("cells" if fields.has("cells") else "cell", labels)
    if kind == "fewer_epochs" and any(metrics[operand.metric].reach is None for operand in operands):
        raise fields.fault("metric", f"one with reach: {listed(m for m in metrics if metrics[m].reach is not None)}")
    if kind == "falls" and not paired and not fields.has("window"):
        raise fields.fault("window", "a number of epochs, where of is given")
    return Check(
        kind=kind,
        operands=operands,
        paired=paired,
        named=named,
        all_runs=all_runs,
        value=fields.number("value") if "value" in KINDS[kind] else 0.0,
        by=fields.number("by") if kind in ("within", "at_chance") else fields.number("by", 0.0),
        relative=fields.flag("relative"),
        strict=fields.flag("strict"),
        descending=kind == "ordered" and fields.choice("direction", ("ascending", "descending")) == "descending",
        window=fields.whole("window", 1) if fields.has("window") else None,
        among=parse_among(fields, metrics) if fields.has("among") else None,
    )


def parse_among(check: Fields, metrics: Mapping[str, Any]) -> tuple[str, float]:
    fields = Fields.of(f"{check.where}: among", check.data["among"], ("metric", "above"))
    return fields.choice("metric", metrics), fields.number("above")


def parse_operand(check: Fields, data: Any, cells: list[str], metrics: Mapping[str, Any]) -> Operand:
    if is_number(data):
        return Operand(label="", constant=float(data))
    data = {"cell": data} if isinstance(data, str) else data
    where = f"{check.where}: operand"
    reductions = ("cell", "mean", "lowest", "highest")
    Fields.of(where, data, {*reductions, *OPTIONS, "label"})
    options = {key: check.data[key] for key in OPTIONS if check.has(key)}
    fields = Fields(where, {**options, **data})
    chosen = [key for key in reductions if fields.has(key)]
    if len(chosen) != 1:
        raise ConfigError(f"{where}: {data!r} is not accepted; accepted is exactly one of {listed(reductions)}")
    names = fields.names(chosen[0], cells)
    if chosen[0] == "cell" and len(names) > 1:
        raise fields.fault("cell", "one cell's name")
    default = names[0] if len(names) == 1 else f"{chosen[0]} of {listed(names)}"
    times = fields.number("times", 1.0)
    if times != 1:
        default = f"{times:g} x {default}"
    if sum(fields.has(key) for key in ("at", "over", "fall_done")) > 1:
        raise ConfigError(f"{where}: {data!r} is not accepted; accepted is one of at, over and fall_done")
    metric = fields.choice("metric", metrics)
    if metrics[metric].reach is not None and any(fields.has(key) for key in ("at", "over", "fall_done")):
        raise fields.fault("metric", "one without reach, where at, over or fall_done is given")
    if fields.has("since") and not fields.has("over"):
        raise fields.fault("since", "only with over")
    return Operand(
        label=fields.text("label", default),
        cells=names,
        reduce=chosen[0] if chosen[0] != "cell" else "mean",
        metric=metric,
        at=fields.whole("at", 0) if fields.has("at") else None,
        over=fields.choice("over", ("max", "min", "change")) if fields.has("over") else None,
        since=fields.whole("since", 0) if fields.has("since") else None,
        fall_done=fields.whole("fall_done", 0) if fields.has("fall_done") else None,
        times=times,
    )
