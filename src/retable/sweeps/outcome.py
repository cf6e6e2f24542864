"""What became of a sweep's runs, and the rules by which failures stop it."""

from dataclasses import dataclass, field
from typing import Any

from retable.sweeps.plan import Run


@dataclass
class Outcome:
    """What became of a pool's runs.

    Attributes:
        failures: (run, reason) of those that failed now.
        interrupted: whether runs are left because somebody asked to stop.
        stopped_by: why the sweep stopped by itself, or None.
    """

    failures: list[tuple[Run, str]] = field(default_factory=list)
    interrupted: bool = False
    stopped_by: str | None = None


class StopRules:
    """Notes failures in an outcome, and stops the sweep by `sweep.on_failure` and `sweep.same_reason_limit`.

    Args:
        settings: conf/base.yaml's `sweep`.
        outcome: where failures go, and why the sweep stopped.
    """

    def __init__(self, settings: dict[str, Any], outcome: Outcome) -> None:
        self._settings, self._outcome = settings, outcome
        self._in_a_row: list[str] = []  # reasons of the last failures, all the same

    def note_success(self) -> None:
        """A run ended as it should."""
        self._in_a_row = []

    def note_failure(self, run: Run, reason: str) -> None:
        """A run failed."""
        self._outcome.failures.append((run, reason))
        self._in_a_row = [*self._in_a_row, reason] if self._in_a_row[-1:] in ([], [reason]) else [reason]
        limit = self._settings["same_reason_limit"]
        if self._settings["on_failure"] == "stop":
            self._outcome.stopped_by = "sweep.on_failure=stop"
        elif limit and len(self._in_a_row) >= limit:
            self._outcome.stopped_by = f"{limit} failures in a row for one reason (sweep.same_reason_limit={limit})"
