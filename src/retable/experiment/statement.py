"""One statement of a claim: its values, whether it holds, and the comparisons that this rests on."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, Self

from retable.experiment.metrics import EPSILON, Metric, NotThere
from retable.experiment.operands import Given, Operand, World

KINDS: dict[str, type["Statement"]] = {}


@dataclass(frozen=True)
class Comparison:
    """One of the differences that a statement rests on: it holds if all of them exceed 0, whatever its kind.

    margin: of a world, in the metric's published unit. exact: whether it is the same in every seed. operands: the two
    values that it sets against each other, where it is the difference of two. ties: whether 0 is enough.
    """

    label: str
    metric: str
    margin: Callable[[World], float]
    exact: bool = False
    operands: tuple[Operand, ...] = ()
    ties: bool = False

    def fails(self, margin: float) -> bool:
        """Whether a margin is against it."""
        return margin < 0 or (margin == 0 and not self.ties)


@dataclass(frozen=True)
class Value:
    """An operand's value, as text and by whether higher is better."""

    label: str
    value: float
    text: str
    lower_is_better: bool

    @property
    def merit(self) -> float:
        return -self.value if self.lower_is_better else self.value


@dataclass(frozen=True)
class Evidence:
    """A world of values, and how they are written: name_metric says whether a value's text names its metric."""

    world: World
    metrics: Mapping[str, Metric]
    name_metric: bool = False

    def value_of(self, operand: Operand) -> Value:
        metric = self.metrics.get(operand.metric)
        value = operand.value(self.world)
        if metric is None:
            text = "never" if math.isinf(value) else f"{value:g}"
        else:
            text = metric.spell(value, digits=None if operand.when.fall_done is None else 3)
        labelled = f"{self.label(operand)} {text}".strip()
        return Value(operand.label, value, labelled, metric is not None and metric.better == "lower")

    def values(self, operands: Sequence[Operand]) -> list[Value]:
        return [self.value_of(operand) for operand in operands]

    def exceeds(self, high: Operand, low: Operand, by: float = 0.0, ties: bool = False) -> Comparison:
        """That one value is above another by more than `by`. Args: ties: or by as much."""
        label = f"{self.label(high) or format(high.constant, 'g')} - {self.label(low) or format(low.constant, 'g')}"
        exact = all(metric.exact for metric in map(self.metrics.get, (high.metric, low.metric)) if metric)
        label += f" - {by:g}" if by > 0 else f" + {-by:g}" if by < 0 else ""
        metric = high.metric or low.metric
        return Comparison(
            label, metric, lambda world: high.value(world) - low.value(world) - by, exact, (high, low), ties
        )

    def outdoes(self, winner: Operand, loser: Operand) -> Comparison:
        """That one value is better than another."""
        metric = self.metrics.get(winner.metric)
        lower = metric is not None and metric.better == "lower"
        return self.exceeds(loser, winner) if lower else self.exceeds(winner, loser)

    def label(self, operand: Operand) -> str:
        metric = operand.metric if self.name_metric else ""
        return " ".join(word for word in (operand.label, metric, operand.when.text) if word)


@dataclass(frozen=True)
class Statement:
    """One elementary statement of a claim, and the base of the kinds. A field is a key of the file.

    operand_keys: the keys of its operands: `of`, two that go together (left and right, from and to), or either.
    absolute: whether it holds a value against a threshold instead of against another run's value.
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
        """The statement that the keys state.  Raises: ConfigError."""
        options: dict[str, Any] = {}
        for one in fields(cls)[1:]:
            if one.type is bool:
                options[one.name] = given.flag(one.name)
            else:
                options[one.name] = given.number(one.name, None if one.default is MISSING else one.default)
        return cls(given.operands(cls.operand_keys), **options)

    def holds(self, evidence: "Evidence") -> tuple[bool, str]:
        """Whether it holds, and the numbers behind that.  Raises: NotThere, with the reason why that is open."""
        raise NotImplementedError

    def comparisons(self, evidence: "Evidence") -> list[Comparison] | None:
        """What its verdict rests on; None where it can't be put so.  Raises: NotThere."""
        return None

    @property
    def speaks_of_all_runs(self) -> bool:
        """Whether it is about every setting that was run, and not about the table's cells alone."""
        return False

    def widen(self, names: Sequence[str]) -> Self:
        """The same statement with each other setting that was run, where it speaks of those."""
        return self

    @property
    def names_threshold(self) -> bool:
        """Whether this statement, and not only its kind, holds a value against a threshold."""
        return self.absolute

    @property
    def difference(self) -> tuple[Operand, Operand] | None:
        """The higher and the lower operand, where it says that one value exceeds another."""
        return None


def sign(left: float, right: float) -> str:
    return "=" if left == right or abs(left - right) <= EPSILON else ">" if left > right else "<"


def above(left: float, right: float, by: float = 0.0) -> bool:
    """Whether left exceeds right by more than `by`.  Raises: NotThere, where neither ever reached its threshold."""
    if math.isinf(left) and math.isinf(right):
        raise NotThere("neither reaches the threshold")
    return left - right > by + EPSILON


def outdoes(winner: Value, loser: Value) -> bool:
    """Whether one has the higher merit; one that never reaches its threshold loses to one that does."""
    if math.isinf(winner.value) and math.isinf(loser.value):
        raise NotThere("neither reaches the threshold")
    return not math.isinf(winner.value) and above(winner.merit, loser.merit)
