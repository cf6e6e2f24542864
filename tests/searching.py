"""How Hypothesis searches: the same cases every time; with HYPOTHESIS_EXAMPLES=5000 as many others, by chance.

Tests that search import what they take of Hypothesis from here, and are skipped where it is not installed.
"""

import os

import pytest

hypothesis = pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, assume, example, given, settings  # noqa: E402
from hypothesis import strategies as some  # noqa: E402

__all__ = ["assume", "example", "few", "given", "is_one_line", "many", "some"]

EXAMPLES = os.environ.get("HYPOTHESIS_EXAMPLES")
_COMMON = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
few = settings(max_examples=int(EXAMPLES or 60), derandomize=EXAMPLES is None, **_COMMON)
many = settings(few, max_examples=int(EXAMPLES or 150))


def is_one_line(error: Exception, start: str = "") -> None:
    """A refusal says something, in one line, that begins so."""
    message = str(error)
    assert message, repr(error)
    assert "\n" not in message, message
    assert message.startswith(start), message
