"""Claims as data. A claim is a text, a kind and what it speaks of; `each` says the same of several, and all must hold.

    - {text: all 0.3 is best, kind: best, metric: val, cell: all 0.3}
    - text: p = 0.3 has the smaller gap at each position
      kind: greater
      metric: gap
      left: none
      each: [{right: conv 0.3}, {right: fc 0.3}, {right: all 0.3}]

`beside` is a list as `each` is, of statements that are said with the claim and do not decide it.

Each kind is a class below, named as in the file. Its keys, beside text, kind, note, each and the options of operands,
are those of its operands and its fields; `holds` judges it. A new kind is one such class. A tie is no win: `best` with
an equal second does not hold, nor does `ordered` with equals. Values, by too, are in the metric's published unit.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from itertools import pairwise
from statistics import fmean
from typing import Any, ClassVar, Self

from retable.errors import ConfigError
from retable.experiment.fields import Fields, is_list, listed
from retable.experiment.metrics import Curve, Metric, NotThere
from retable.experiment.operands import ALL_RUNS, OPTIONS, Given, Operand, World

EPSILON = 1e-9  # figures are decimals: 0.8 - 0.75 is 0.05
KINDS: dict[str, type["Statement"]] = {}


@dataclass(frozen=True)
class Claim:
    """A claim of the publication: all its statements must hold."""

    id: str
    text: str
    kind: str
    statements: tuple["Statement", ...]
    note: str = ""
    beside: tuple["Statement", ...] = ()  # said with the claim; they do not decide it

    @property
    def absolute(self) -> bool:
        constants = (o.constant for statement in self.statements for o in statement.operands)
        return any(s.absolute for s in self.statements) or any(constant is not None for constant in constants)

    @property
    def all_runs(self) -> bool:
        return any(isinstance(statement, Ranked) and statement.all_runs for statement in self.statements)

    @property
    def cells(self) -> tuple[str, ...]:
        """Every cell it speaks of, each once, in order."""
        return tuple(
            dict.fromkeys(cell for s in (*self.statements, *self.beside) for o in s.operands for cell in o.cells)
        )


def parse_claims(table: Fields, cells: Sequence[str], metrics: Mapping[str, Metric]) -> tuple[Claim, ...]:
    """Raises: ConfigError."""
    data = table.data.get("claims") or []
    if not is_list(data):
        raise table.fault("claims", "a list of claims")
    source = table.text("source")
    return tuple(
        parse_claim(f"{table.where}: claims[{number}]", f"{source} ({number + 1})", claim, cells, metrics)
        for number, claim in enumerate(data)
    )


def parse_claim(where: str, id: str, data: Any, cells: Sequence[str], metrics: Mapping[str, Metric]) -> Claim:
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: {data!r} is no claim; accepted is a mapping with text, kind and the kind's keys")
    kind = KINDS[Fields(where, data).choice("kind", KINDS)]
    keys = {*kind.keys(), *OPTIONS}
    fields = Fields.of(where, data, {"text", "kind", "note", "each", "beside", *keys})
    text = fields.text("text")
    common = {key: value for key, value in data.items() if key in keys}
    found: dict[str, list[Statement]] = {"each": [], "beside": []}
    for key, statements in found.items():
        mappings = data.get(key, [{}] if key == "each" else [])
        if not is_list(mappings) or (key in data and not mappings):
            raise fields.fault(key, "a list of mappings, one a statement")
        for number, own in enumerate(mappings):
            place = f"{where}.{key}[{number}]" if key in data else where
            Fields.of(place, own, keys)
            statements.append(kind.read(Given(place, {**common, **own}, cells, metrics)))
    note = fields.text("note") if fields.has("note") else ""
    return Claim(id, text, kind.kind, tuple(found["each"]), note, tuple(found["beside"]))


@dataclass(frozen=True)
class Figure:
    """An operand's value, as text and by whether higher is better."""

    label: str
    value: float
    said: str
    lower_is_better: bool

    @property
    def merit(self) -> float:
        return -self.value if self.lower_is_better else self.value


@dataclass(frozen=True)
class Evidence:
    """A world of figures, and how they are written: name_metric says whether a figure's text names its metric."""

    world: World
    metrics: Mapping[str, Metric]
    name_metric: bool = False

    def figure(self, operand: Operand) -> Figure:
        metric = self.metrics.get(operand.metric)
        value = operand.value(self.world)
        if metric is None:
            text = "never" if math.isinf(value) else f"{value:g}"
        else:
            text = metric.spell(value, digits=None if operand.when.fall_done is None else 3)
        said = f"{self.label(operand)} {text}".strip()
        return Figure(operand.label, value, said, metric is not None and metric.better == "lower")

    def figures(self, operands: Sequence[Operand]) -> list[Figure]:
        return [self.figure(operand) for operand in operands]

    def label(self, operand: Operand) -> str:
        metric = operand.metric if self.name_metric else ""
        return " ".join(word for word in (operand.label, metric, operand.when.text) if word)


@dataclass(frozen=True)
class Statement:
    """One elementary statement of a claim, and the base of the kinds. A field is a key of the file.

    operand_keys: the keys of its operands: `of`, two that go together (left and right, from and to), or either.
    absolute: whether it holds a figure against a threshold instead of against another run's figure.
    """

    kind: ClassVar[str]
    operand_keys: ClassVar[tuple[str, ...]]
    absolute: ClassVar[bool] = False
    operands: tuple[Operand, ...]

    def __init_subclass__(cls) -> None:
        """A class that says its operands is a kind, named as the class is."""
        if "operand_keys" in vars(cls):
            cls.kind = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()
            KINDS[cls.kind] = cls

    @classmethod
    def keys(cls) -> tuple[str, ...]:
        return (*cls.operand_keys, *(one.name for one in fields(cls) if one.name != "operands"))

    @classmethod
    def read(cls, given: Given) -> Self:
        """Raises: ConfigError."""
        options: dict[str, Any] = {}
        for one in fields(cls)[1:]:
            if one.type is bool:
                options[one.name] = given.flag(one.name)
            else:
                options[one.name] = given.number(one.name, None if one.default is MISSING else one.default)
        return cls(given.operands(cls.operand_keys), **options)

    def holds(self, evidence: "Evidence") -> tuple[bool, str]:
        """Whether it holds, and the numbers behind that.  Raises: NotThere, with the reason why it cannot be said."""
        raise NotImplementedError

    @property
    def difference(self) -> tuple[Operand, Operand] | None:
        """The higher and the lower operand, where it says that one figure exceeds another."""
        return None


@dataclass(frozen=True)
class Ranked(Statement):
    """Names cells among `of` (cells, or `all runs`; default: all cells)."""

    name_keys: ClassVar[tuple[str, ...]]
    named: tuple[str, ...]
    all_runs: bool

    @classmethod
    def keys(cls) -> tuple[str, ...]:
        return (*cls.name_keys, *cls.operand_keys)

    @classmethod
    def read(cls, given: Given) -> Self:
        operands = given.several(all_runs=True)
        key = next((key for key in cls.name_keys if given.has(key)), cls.name_keys[0])
        named = given.names(key, [operand.label for operand in operands])
        return cls(operands, named, all_runs=given.data.get("of") == ALL_RUNS)

    def widen(self, names: Sequence[str]) -> Self:
        """With an operand for each other setting that was run."""
        like = self.operands[0]
        more = tuple(Operand(label=name, cells=(name,), metric=like.metric, when=like.when) for name in names)
        return replace(self, operands=self.operands + more)

    def split(self, evidence: Evidence) -> tuple[list[Figure], list[Figure]]:
        """The named ones, and the others."""
        figures = evidence.figures(self.operands)
        return [f for f in figures if f.label in self.named], [f for f in figures if f.label not in self.named]


@dataclass(frozen=True)
class Best(Ranked):
    """`cell` is the best of `of`, or the n `cells` are the n best.

    among: {metric, above}: only of those of which that metric ends above this value; the named ones must be of them.
    """

    name_keys, operand_keys = ("cell", "cells"), ("of",)
    among: tuple[str, float] | None = None

    @classmethod
    def keys(cls) -> tuple[str, ...]:
        return (*super().keys(), "among")

    @classmethod
    def read(cls, given: Given) -> Self:
        statement = super().read(given)
        if not given.has("among"):
            return statement
        limit = Fields.of(f"{given.where}: among", given.data["among"], ("metric", "above"))
        return replace(statement, among=(limit.choice("metric", given.metrics), limit.number("above")))

    def holds(self, evidence: Evidence) -> tuple[bool, str]:
        if self.among:
            metric, least = self.among
            ends = evidence.figures([Operand(o.label, o.cells, metric=metric) for o in self.operands])
            low = [figure for figure in ends if not above(figure.value, least)]
            if named := [figure for figure in low if figure.label in self.named]:
                return False, ", ".join(f"{f.said} {sign(f.value, least)} {least:g}" for f in named)
            out = {figure.label for figure in low}
            kept = replace(self, among=None, operands=tuple(o for o in self.operands if o.label not in out))
            won, text = kept.holds(evidence)
            return won, text + (f"; of those above {least:g} in {metric}, not {', '.join(sorted(out))}" if out else "")
        named, others = self.split(evidence)
        shown = ", ".join(figure.said for figure in named)
        if not others:
            return True, shown
        last, rival = min(named, key=lambda f: f.merit), max(others, key=lambda f: f.merit)
        won = outdoes(last, rival)
        return won, f"{shown} {sign(last.value, rival.value)} {rival.said} ({'next' if won else 'best other'})"


class BestIn(Ranked):
    """The best of `of` is one of `cells`."""

    name_keys, operand_keys = ("cells",), ("of",)

    def holds(self, evidence: Evidence) -> tuple[bool, str]:
        named, others = self.split(evidence)
        inside = max(named, key=lambda f: f.merit)
        if not others:
            return True, inside.said
        rival = max(others, key=lambda f: f.merit)
        return outdoes(inside, rival), f"{inside.said} {sign(inside.value, rival.value)} {rival.said}"


class Worst(Ranked):
    """`cell` is the worst of `of`."""

    name_keys, operand_keys = ("cell",), ("of",)

    def holds(self, evidence: Evidence) -> tuple[bool, str]:
        (named, *_), others = self.split(evidence)
        if not others:
            return True, named.said
        rival = min(others, key=lambda f: f.merit)
        won = outdoes(rival, named)
        return won, f"{named.said} {sign(named.value, rival.value)} {rival.said} ({'next' if won else 'worst other'})"


@dataclass(frozen=True)
class Greater(Statement):
    """left > right + by."""

    operand_keys = ("left", "right")
    by: float = 0.0

    def holds(self, evidence: Evidence) -> tuple[bool, str]:
        left, right = evidence.figures(self.operands)
        by = f" (by {left.value - right.value:.4g}, claimed over {self.by:g})" if self.by else ""
        return above(left.value, right.value, self.by), f"{left.said} {sign(left.value, right.value)} {right.said}{by}"

    @property
    def difference(self) -> tuple[Operand, Operand] | None:
        return self.operands[0], self.operands[1]


class FewerEpochs(Statement):
    """left < right, over a metric with `reach`."""

    operand_keys = ("left", "right")

    @classmethod
    def read(cls, given: Given) -> Self:
        reach = [name for name, metric in given.metrics.items() if metric.reach is not None]
        statement = super().read(given)
        if any(operand.metric not in reach for operand in statement.operands):
            raise given.fault("metric", f"one with reach: {listed(reach)}")
        return statement

    def holds(self, evidence: Evidence) -> tuple[bool, str]:
        left, right = evidence.figures(self.operands)
        return above(right.value, left.value), f"{left.said} {sign(left.value, right.value)} {right.said}"

    @property
    def difference(self) -> tuple[Operand, Operand] | None:
        return self.operands[1], self.operands[0]


@dataclass(frozen=True)
class Within(Statement):
    """|left - right| <= by, or the spread of `of`. relative: by is a share of the last one; strict: < by."""

    operand_keys = ("left", "right", "of")
    by: float
    relative: bool = False
    strict: bool = False

    def holds(self, evidence: Evidence) -> tuple[bool, str]:
        figures = evidence.figures(self.operands)
        values = [figure.value for figure in figures]
        if any(map(math.isinf, values)):
            raise NotThere("a threshold is never reached")
        apart = max(values) - min(values)
        if self.relative:
            if values[-1] == 0:
                raise NotThere(f"{figures[-1].label} is 0, of which nothing is a share")
            apart /= abs(values[-1])
        close = apart < self.by - EPSILON if self.strict else apart <= self.by + EPSILON
        shown = f"{100 * apart:.1f} %" if self.relative else f"{apart:.4g}"
        limit = f"{100 * self.by:g} %" if self.relative else f"{self.by:g}"
        said = ", ".join(figure.said for figure in figures)
        return close, f"{said}: {shown} apart, claimed {'under' if self.strict else 'at most'} {limit}"


@dataclass(frozen=True)
class Threshold(Statement):
    """Each of `of` against a value, on the side of it that `direction` says."""

    absolute = True
    direction: ClassVar[int]
    value: float
    strict: bool = False

    def holds(self, evidence: Evidence) -> tuple[bool, str]:
        closest = min(evidence.figures(self.operands), key=lambda f: self.direction * f.value)
        margin = self.direction * (closest.value - self.value)
        holds = margin > EPSILON if self.strict else margin >= -EPSILON
        return holds, f"{closest.said} {sign(closest.value, self.value)} {self.value:g}"


class AtLeast(Threshold):
    """of >= value, each operand. strict: > value."""

    operand_keys = ("of",)
    direction = 1


class AtMost(Threshold):
    """of <= value, each operand. strict: < value."""

    operand_keys = ("of",)
    direction = -1


@dataclass(frozen=True)
class AtChance(Statement):
    """|of - value| <= by, each operand; value is what guessing gives."""

    operand_keys = ("of",)
    value: float
    by: float

    def holds(self, evidence: Evidence) -> tuple[bool, str]:
        figures = evidence.figures(self.operands)
        holds = all(abs(figure.value - self.value) <= self.by + EPSILON for figure in figures)
        return holds, f"{', '.join(figure.said for figure in figures)} against {self.value:g} ± {self.by:g}"


@dataclass(frozen=True)
class Ordered(Statement):
    """The operands of `of` stand in the order of `direction`, ascending or descending."""

    operand_keys = ("of",)
    direction: str

    @classmethod
    def read(cls, given: Given) -> Self:
        return cls(given.operands(cls.operand_keys), given.choice("direction", ("ascending", "descending")))

    def holds(self, evidence: Evidence) -> tuple[bool, str]:
        figures = evidence.figures(self.operands)
        text, holds = figures[0].said, True
        for left, right in pairwise(figures):
            text += f" {sign(left.value, right.value)} {right.said}"
            high, low = (left, right) if self.direction == "descending" else (right, left)
            holds = above(high.value, low.value) and holds
        return holds, text


@dataclass(frozen=True)
class Falls(Statement):
    """from > to; or with `of` and `window`: the mean of each `window` epochs is below that of those before."""

    operand_keys = ("from", "to", "of")
    window: int | None

    @classmethod
    def read(cls, given: Given) -> Self:
        operands = given.operands(cls.operand_keys)
        if given.has("from"):
            return cls(operands, None)
        if not given.has("window"):
            raise given.fault("window", "a number of epochs, where of is given")
        return cls(operands, given.whole("window", 1))

    def holds(self, evidence: Evidence) -> tuple[bool, str]:
        if self.window is None:
            start, end = evidence.figures(self.operands)
            return above(start.value, end.value), f"{start.said} to {end.said}"
        holds, said = True, []
        for operand in self.operands:
            means = windows(operand.curve(evidence.world), self.window)
            if len(means) < 2:
                raise NotThere(f"{operand.label} has fewer than two times {self.window} epochs")
            rises = [number + 1 for number in range(1, len(means)) if not above(means[number - 1], means[number])]
            holds = holds and not rises
            found = f"rises in window {', '.join(map(str, rises))}" if rises else f"falls in all {len(means)} windows"
            said.append(f"{evidence.label(operand)} {found}")
        return holds, ", ".join(said)

    @property
    def difference(self) -> tuple[Operand, Operand] | None:
        return (self.operands[0], self.operands[1]) if self.window is None else None


class EveryEpoch(Statement):
    """left > right at every epoch."""

    operand_keys = ("left", "right")

    def holds(self, evidence: Evidence) -> tuple[bool, str]:
        left, right = (operand.curve(evidence.world) for operand in self.operands)
        if set(left) != set(right):
            raise NotThere("the two have different epochs")
        fails = [epoch for epoch in sorted(left) if not above(left[epoch], right[epoch])]
        labels = [evidence.label(operand) for operand in self.operands]
        at = f"; not at {some(fails)}" if fails else ""
        return not fails, f"{labels[0]} > {labels[1]} at {len(left) - len(fails)} of {len(left)} epochs{at}"


def sign(left: float, right: float) -> str:
    return "=" if left == right or abs(left - right) <= EPSILON else ">" if left > right else "<"


def above(left: float, right: float, by: float = 0.0) -> bool:
    """Raises: NotThere, where both are thresholds that were never reached."""
    if math.isinf(left) and math.isinf(right):
        raise NotThere("neither reaches the threshold")
    return left - right > by + EPSILON


def outdoes(winner: Figure, loser: Figure) -> bool:
    """Whether one has the higher merit; one that never reaches its threshold loses to one that does."""
    if math.isinf(winner.value) and math.isinf(loser.value):
        raise NotThere("neither reaches the threshold")
    return not math.isinf(winner.value) and above(winner.merit, loser.merit)


def windows(curve: Curve, size: int) -> list[float]:
    """Means of each `size` epochs; epochs left over at the end are in none."""
    values = [curve[epoch] for epoch in sorted(curve)]
    return [fmean(values[start : start + size]) for start in range(0, len(values) - size + 1, size)]


def some(epochs: Sequence[int], most: int = 5) -> str:
    return ", ".join(map(str, epochs[:most])) + (f" and {len(epochs) - most} more" if len(epochs) > most else "")
