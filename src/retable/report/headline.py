"""How many claims hold, in a line: what a table's page and the index say of a table first."""

from collections import Counter
from collections.abc import Sequence

from retable.report.scale import SAMPLE
from retable.report.verdicts import FAILS, HOLDS, MISSING, NOT_EVALUATED, UNDECIDED, Verdict


def holding(verdicts: Sequence[Verdict]) -> int:
    """How many claims hold."""
    return sum(verdict.verdict == HOLDS for verdict in verdicts)


def judged(verdicts: Sequence[Verdict]) -> bool:
    """Whether any claim was judged: holds, or does not."""
    return any(verdict.verdict in (HOLDS, FAILS) for verdict in verdicts)


def unjudged(verdict: Verdict) -> tuple[str, str]:
    """(what a claim is that neither holds nor fails, why where one word says it)."""
    if verdict.verdict == NOT_EVALUATED:
        return NOT_EVALUATED, SAMPLE
    missing = verdict.verdict == UNDECIDED and any(reason.endswith(MISSING) for reason in verdict.reasons)
    return verdict.verdict, "cells missing" if missing else ""


def claims_line(verdicts: Sequence[Verdict]) -> str:
    """How many claims hold, and how many verdicts are resolved.

    E.g. `3 of 5 claims hold, 2 of them resolved; 1 that does not hold is resolved`; of sample data alone `5 claims, not
    judged: sample data`; where for several reasons none was judged, `6 claims: 4 not judged (sample data), 2 undecided
    (cells missing)`.
    """
    if not verdicts:
        return "no claims"
    if not judged(verdicts):
        found = Counter(map(unjudged, verdicts))
        start = f"{len(verdicts)} claim{'s' if len(verdicts) > 1 else ''}"
        if len(found) == 1:
            return f"{start}, {': '.join(filter(None, next(iter(found))))}"
        return f"{start}: {', '.join(f'{n} {what}' + (f' ({why})' if why else '') for (what, why), n in found.items())}"
    held = holding(verdicts)
    resolved = [verdict.verdict for verdict in verdicts if verdict.resolution and verdict.resolution.resolved]
    text = f"{held} of {len(verdicts)} claims hold"
    if held:
        text += f", {resolved.count(HOLDS) or 'none'} of them resolved"
    if failed := resolved.count(FAILS):
        text += f"; {failed} that {'does' if failed == 1 else 'do'} not hold {'is' if failed == 1 else 'are'} resolved"
    return text
