"""When to stop early, as report B describes it in two forms (B2.4-B2.6). Each is a function of the history alone.

So a run that was killed between its last epoch and its end stops at the same epoch when it is continued. A rule can
also be watched only: the run trains all its epochs, and its result says after which of them each form would have
stopped.
"""

import math
from collections.abc import Sequence
from typing import Any

from retable import checks


class _Rule:
    """A rule of early stopping.

    Args:
        metric: bare name, e.g. dice.
        epsilon: threshold of the distance, in the metric's unit.
        from_epoch: first epoch that may be the last, from 1.
        apply: false trains to the end and only notes where the rule would have stopped.
    """

    def __init__(self, metric: str = "dice", epsilon: float = 0.03, from_epoch: int = 20, apply: bool = True) -> None:
        checks.number("epsilon", epsilon, 0)
        checks.integer("from_epoch", from_epoch, 1)
        checks.boolean("apply", apply)
        self.metric, self.epsilon, self.from_epoch, self.apply = metric, epsilon, from_epoch, apply

    def stops_after(self, rows: Sequence[dict[str, Any]]) -> int | None:
        """The epoch after which training ends, or None if it goes on.

        Args:
            rows: the history up to now, an epoch a row: `epoch`, `train/<metric>`, `val/<metric>`.
        """
        return self.exceeded_after(rows) if self.apply else None

    def both_forms(self, rows: Sequence[dict[str, Any]]) -> dict[str, int]:
        """After which epoch of `rows` each of the two forms would stop with this one's settings, 0 for never."""
        forms = {"change": Change, "gap": Gap}
        settings = self.metric, self.epsilon, self.from_epoch
        return {name: form(*settings).exceeded_after(rows) or 0 for name, form in forms.items()}

    def exceeded_after(self, rows: Sequence[dict[str, Any]]) -> int | None:
        """The first epoch from `from_epoch` on at which the distance exceeds epsilon, or None."""
        for index, row in enumerate(rows):
            if row["epoch"] >= self.from_epoch:
                distance = self._distance(rows, index)
                if distance is not None and distance > self.epsilon:
                    return int(row["epoch"])
        return None

    def _distance(self, rows: Sequence[dict[str, Any]], index: int) -> float | None:
        raise NotImplementedError


class Change(_Rule):
    """|val - previous val| > epsilon, the previous one being that of the last epoch that was validated."""

    def _distance(self, rows: Sequence[dict[str, Any]], index: int) -> float | None:
        before = (row.get(f"val/{self.metric}") for row in reversed(rows[:index]))
        previous = next((value for value in before if value is not None), None)
        return _absolute_difference(rows[index].get(f"val/{self.metric}"), previous)


class Gap(_Rule):
    """|train - val| > epsilon."""

    def _distance(self, rows: Sequence[dict[str, Any]], index: int) -> float | None:
        return _absolute_difference(rows[index].get(f"train/{self.metric}"), rows[index].get(f"val/{self.metric}"))


class Patience:
    """No gain of more than min_delta for `patience` validated epochs, as Lightning's EarlyStopping counts them.

    Args:
        metric: column of the history, e.g. val/dice.
        higher_is_better: its direction.
        patience: epochs.
        min_delta: a gain must exceed it.
        apply: false trains to the end and only notes where the rule would have stopped.
    """

    def __init__(
        self, metric: str, higher_is_better: bool, patience: int = 10, min_delta: float = 0.0, apply: bool = True
    ) -> None:
        checks.integer("patience", patience, 1)
        checks.number("min_delta", min_delta, 0)
        checks.boolean("apply", apply)
        self.metric, self.sign = metric, 1 if higher_is_better else -1
        self.patience, self.min_delta, self.apply = patience, min_delta, apply

    def stops_after(self, rows: Sequence[dict[str, Any]]) -> int | None:
        """The epoch after which training ends, or None if it goes on. Args: rows: the history up to now."""
        return self.exceeded_after(rows) if self.apply else None

    def both_forms(self, rows: Sequence[dict[str, Any]]) -> dict[str, int]:
        """After which epoch of `rows` the rule would stop, 0 for never."""
        return {"patience": self.exceeded_after(rows) or 0}

    def exceeded_after(self, rows: Sequence[dict[str, Any]]) -> int | None:
        """The epoch at whose end `patience` epochs have brought no gain, or None; epoch 0 was not trained."""
        best, waited = -math.inf, 0
        for row in rows:
            value = row.get(self.metric)
            if value is None or row["epoch"] == 0:
                continue
            gained = self.sign * value - self.min_delta > best
            best, waited = (self.sign * value, 0) if gained else (best, waited + 1)
            if waited >= self.patience:
                return int(row["epoch"])
        return None


def _absolute_difference(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else abs(one - other)
