"""The kinds of claims that compare values, or a curve with itself: a class each, named as in the file.

Each says whether it holds, and the comparisons that this rests on. Equals are not in order. Kinds that rank cells
are in `retable.experiment.best`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise, permutations
from statistics import fmean
from typing import ClassVar, Self

from retable.experiment.fields import listed
from retable.experiment.metrics import EPSILON, Curve, NotThere
from retable.experiment.operands import Given, Operand, World, number
from retable.experiment.statement import Comparison, Evidence, Statement, above, sign


@dataclass(frozen=True)
class Greater(Statement):
    """left > right + by."""

    operand_keys = ("left", "right")
    by: float = 0.0

    def holds(self, evidence: Evidence) -> tuple[bool, str]:
        left, right = evidence.values(self.operands)
        by = f" (by {left.value - right.value:.4g}, claimed over {self.by:g})" if self.by else ""
        return above(left.value, right.value, self.by), f"{left.text} {sign(left.value, right.value)} {right.text}{by}"

    def comparisons(self, evidence: Evidence) -> list[Comparison]:
        return [evidence.exceeds(*self.operands, self.by)]

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
        left, right = evidence.values(self.operands)
        return above(right.value, left.value), f"{left.text} {sign(left.value, right.value)} {right.text}"

    def comparisons(self, evidence: Evidence) -> list[Comparison]:
        return [evidence.exceeds(self.operands[1], self.operands[0])]

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

    @classmethod
    def read(cls, given: Given) -> Self:
        given.compared(cls.operand_keys)
        return super().read(given)

    def holds(self, evidence: Evidence) -> tuple[bool, str]:
        found = evidence.values(self.operands)
        values = [value.value for value in found]
        if any(map(math.isinf, values)):
            raise NotThere("a threshold is never reached")
        spread = max(values) - min(values)
        if self.relative:
            if values[-1] == 0:
                raise NotThere(f"{found[-1].label} is 0, of which nothing is a share")
            spread /= abs(values[-1])
        close = spread < self.by - EPSILON if self.strict else spread <= self.by + EPSILON
        spread = 0.0 if spread < EPSILON else spread
        shown = f"{100 * spread:.1f} %" if self.relative else f"{spread:.4g}"
        limit = f"{100 * self.by:g} %" if self.relative else f"{self.by:g}"
        texts = ", ".join(value.text for value in found)
        return close, f"{texts}: {shown} apart, claimed {'under' if self.strict else 'at most'} {limit}"

    def comparisons(self, evidence: Evidence) -> list[Comparison]:
        """That no two of them are further apart, either way round (two one-sided tests, Schuirmann 1987)."""
        ties = not self.strict
        if not self.relative:
            return [evidence.exceeds(right, left, -self.by, ties) for left, right in permutations(self.operands, 2)]
        last = self.operands[-1]

        def margin(left: Operand, right: Operand, world: World) -> float:
            return self.by * abs(last.value(world)) - (left.value(world) - right.value(world))

        return [
            replace(evidence.exceeds(right, left, ties=ties), margin=partial(margin, left, right), operands=())
            for left, right in permutations(self.operands, 2)
        ]


@dataclass(frozen=True)
class Threshold(Statement):
    """Each of `of` against a value, on the side of it that `direction` says."""

    absolute = True
    direction: ClassVar[int]
    value: float
    strict: bool = False

    def holds(self, evidence: Evidence) -> tuple[bool, str]:
        closest = min(evidence.values(self.operands), key=lambda f: self.direction * f.value)
        margin = self.direction * (closest.value - self.value)
        holds = margin > EPSILON if self.strict else margin >= -EPSILON
        return holds, f"{closest.text} {sign(closest.value, self.value)} {self.value:g}"

    def comparisons(self, evidence: Evidence) -> list[Comparison]:
        pairs = [(operand, number(self.value))[:: self.direction] for operand in self.operands]
        return [evidence.exceeds(high, low, ties=not self.strict) for high, low in pairs]


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

    absolute = True  # whatever has hardly been trained is at chance
    operand_keys = ("of",)
    value: float
    by: float

    def holds(self, evidence: Evidence) -> tuple[bool, str]:
        found = evidence.values(self.operands)
        holds = all(abs(value.value - self.value) <= self.by + EPSILON for value in found)
        return holds, f"{', '.join(value.text for value in found)} against {self.value:g} ± {self.by:g}"

    def comparisons(self, evidence: Evidence) -> list[Comparison]:
        value = number(self.value)
        pairs = [pair for operand in self.operands for pair in ((operand, value), (value, operand))]
        return [evidence.exceeds(high, low, -self.by, ties=True) for high, low in pairs]


@dataclass(frozen=True)
class Ordered(Statement):
    """The operands of `of` stand in the order of `direction`, ascending or descending."""

    operand_keys = ("of",)
    direction: str

    @classmethod
    def read(cls, given: Given) -> Self:
        return cls(given.compared(cls.operand_keys), given.choice("direction", ("ascending", "descending")))

    def holds(self, evidence: Evidence) -> tuple[bool, str]:
        found = evidence.values(self.operands)
        text, holds = found[0].text, True
        for left, right in pairwise(found):
            text += f" {sign(left.value, right.value)} {right.text}"
            high, low = (left, right) if self.direction == "descending" else (right, left)
            holds = above(high.value, low.value) and holds
        return holds, text

    def comparisons(self, evidence: Evidence) -> list[Comparison]:
        order = self.operands if self.direction == "descending" else self.operands[::-1]
        return [evidence.exceeds(high, low) for high, low in pairwise(order)]


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
            start, end = evidence.values(self.operands)
            return above(start.value, end.value), f"{start.text} to {end.text}"
        holds, texts = True, []
        for operand in self.operands:
            means = windows(operand.curve(evidence.world), self.window)
            if len(means) < 2:
                raise NotThere(f"{operand.label} has fewer than two times {self.window} epochs")
            rises = [number + 1 for number in range(1, len(means)) if not above(means[number - 1], means[number])]
            holds = holds and not rises
            found = f"rises in window {', '.join(map(str, rises))}" if rises else f"falls in all {len(means)} windows"
            texts.append(f"{evidence.label(operand)} {found}")
        return holds, ", ".join(texts)

    def comparisons(self, evidence: Evidence) -> list[Comparison]:
        if self.window is None:
            return [evidence.exceeds(*self.operands)]
        size = self.window

        def fall(operand: Operand, place: int, world: World) -> float:
            before, after = windows(operand.curve(world), size)[place : place + 2]
            return before - after

        return [
            Comparison(
                f"{evidence.label(operand)} window {at + 1} - {at + 2}", operand.metric, partial(fall, operand, at)
            )
            for operand in self.operands
            for at in range(len(windows(operand.curve(evidence.world), size)) - 1)
        ]

    @property
    def difference(self) -> tuple[Operand, Operand] | None:
        return (self.operands[0], self.operands[1]) if self.window is None else None


class EveryEpoch(Statement):
    """left > right at every epoch."""

    operand_keys = ("left", "right")

    def holds(self, evidence: Evidence) -> tuple[bool, str]:
        left, right = self._curves(evidence)
        fails = [epoch for epoch in sorted(left) if not above(left[epoch], right[epoch])]
        labels = [evidence.label(operand) for operand in self.operands]
        at = f"; not at {some(fails)}" if fails else ""
        return not fails, f"{labels[0]} > {labels[1]} at {len(left) - len(fails)} of {len(left)} epochs{at}"

    def comparisons(self, evidence: Evidence) -> list[Comparison]:
        left, right = self.operands
        label = f"{evidence.label(left)} - {evidence.label(right)}"

        def margin(epoch: int, world: World) -> float:
            return left.curve(world)[epoch] - right.curve(world)[epoch]

        epochs = sorted(self._curves(evidence)[0])
        return [Comparison(f"{label} at epoch {epoch}", left.metric, partial(margin, epoch)) for epoch in epochs]

    def _curves(self, evidence: Evidence) -> tuple[Curve, Curve]:
        left, right = (operand.curve(evidence.world) for operand in self.operands)
        if set(left) != set(right):
            raise NotThere("the two have different epochs")
        return left, right


def windows(curve: Curve, size: int) -> list[float]:
    """Means of each `size` epochs; epochs left over at the end are in none."""
    values = [curve[epoch] for epoch in sorted(curve)]
    return [fmean(values[start : start + size]) for start in range(0, len(values) - size + 1, size)]


def some(epochs: Sequence[int], most: int = 5) -> str:
    return ", ".join(map(str, epochs[:most])) + (f" and {len(epochs) - most} more" if len(epochs) > most else "")
