"""The kinds of claims that rank cells: which is the best, or the worst, of several. A tie is no win."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self, TypeVar

from retable.errors import ConfigError
from retable.experiment.fields import Fields
from retable.experiment.operands import ALL_RUNS, Given, Operand, number
from retable.experiment.statement import Comparison, Evidence, Statement, Value, above, outdoes, sign

Labelled = TypeVar("Labelled", Operand, Value)


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
        labels = [operand.label for operand in operands]
        # By its name alone a claim on one of them would be on both, and hold of any values.
        if twice := [label for label in labels if labels.count(label) > 1]:
            raise ConfigError(f"{given.where}: of: two are called {twice[0]}; accepted is a label for each")
        named = given.names(key, labels)
        return cls(operands, named, all_runs=given.data.get("of") == ALL_RUNS)

    @property
    def speaks_of_all_runs(self) -> bool:
        return self.all_runs

    def widen(self, names: Sequence[str]) -> Self:
        """With an operand for each other setting."""
        if not self.all_runs:
            return self
        like = self.operands[0]
        more = tuple(Operand(label=name, cells=(name,), metric=like.metric, when=like.when) for name in names)
        return replace(self, operands=self.operands + more)

    def split(self, found: Sequence[Labelled]) -> tuple[list[Labelled], list[Labelled]]:
        """The operands, or values of operands, that are named, and the others."""
        named = [one for one in found if one.label in self.named]
        return named, [one for one in found if one.label not in self.named]


@dataclass(frozen=True)
class Best(Ranked):
    """`cell` is the best of `of`, or the n `cells` are the n best.

    among: {metric, above}: of those alone whose metric ends above this value; the named ones must be among them.
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

    @property
    def names_threshold(self) -> bool:
        return self.among is not None

    def below(self, evidence: Evidence) -> list[Value]:
        """The operands that `among` leaves out, with the values for which it does."""
        if self.among is None:
            return []
        metric, least = self.among
        ends = evidence.values([Operand(o.label, o.cells, metric=metric) for o in self.operands])
        return [value for value in ends if not above(value.value, least)]

    def holds(self, evidence: Evidence) -> tuple[bool, str]:
        if self.among:
            metric, least = self.among
            low = self.below(evidence)
            if named := [value for value in low if value.label in self.named]:
                return False, ", ".join(f"{f.text} {sign(f.value, least)} {least:g}" for f in named)
            out = {value.label for value in low}
            kept = replace(self, among=None, operands=tuple(o for o in self.operands if o.label not in out))
            won, text = kept.holds(evidence)
            return won, text + (f"; of those above {least:g} in {metric}, not {', '.join(sorted(out))}" if out else "")
        named, others = self.split(evidence.values(self.operands))
        shown = ", ".join(value.text for value in named)
        if not others:
            return True, shown
        last, rival = min(named, key=lambda f: f.merit), max(others, key=lambda f: f.merit)
        won = outdoes(last, rival)
        return won, f"{shown} {sign(last.value, rival.value)} {rival.text} ({'next' if won else 'best other'})"

    def comparisons(self, evidence: Evidence) -> list[Comparison]:
        named, others = self.split(self.operands)
        found = []
        if self.among:
            metric, least = self.among
            ends = [Operand(operand.label, operand.cells, metric=metric) for operand in named]
            found = [evidence.exceeds(end, number(least)) for end in ends]
            out = {value.label for value in self.below(evidence)}
            others = [operand for operand in others if operand.label not in out]
        return found + [evidence.outdoes(one, other) for one in named for other in others]


class BestIn(Ranked):
    """The best of `of` is one of `cells`."""

    name_keys, operand_keys = ("cells",), ("of",)

    def holds(self, evidence: Evidence) -> tuple[bool, str]:
        named, others = self.split(evidence.values(self.operands))
        inside = max(named, key=lambda f: f.merit)
        if not others:
            return True, inside.text
        rival = max(others, key=lambda f: f.merit)
        return outdoes(inside, rival), f"{inside.text} {sign(inside.value, rival.value)} {rival.text}"

    def comparisons(self, evidence: Evidence) -> list[Comparison]:
        named, others = self.split(self.operands)
        inside = max(named, key=lambda operand: evidence.value_of(operand).merit)
        return [evidence.outdoes(inside, other) for other in others]


class Worst(Ranked):
    """`cell` is the worst of `of`."""

    name_keys, operand_keys = ("cell",), ("of",)

    def holds(self, evidence: Evidence) -> tuple[bool, str]:
        (named, *_), others = self.split(evidence.values(self.operands))
        if not others:
            return True, named.text
        rival = min(others, key=lambda f: f.merit)
        won = outdoes(rival, named)
        return won, f"{named.text} {sign(named.value, rival.value)} {rival.text} ({'next' if won else 'worst other'})"

    def comparisons(self, evidence: Evidence) -> list[Comparison]:
        (named, *_), others = self.split(self.operands)
        return [evidence.outdoes(other, named) for other in others]
