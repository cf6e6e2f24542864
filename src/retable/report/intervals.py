"""Differences between cells over the same seeds, with a 95 % confidence interval.

The interval is the paired t interval (Student 1908): with d the differences of two cells in each of n shared seeds,
mean(d) ± t(0.975, n - 1) · s(d) / √n, s the sample standard deviation. It speaks of other seeds (weights, order of
batches, dropout), not of other data, and takes the differences for normally distributed. One seed has no interval.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from retable.experiment.claims import Check, Claim
from retable.experiment.kinds import spell
from retable.experiment.metrics import Metric
from retable.experiment.table import Table
from retable.experiment.values import NotThere, RunsWorld, scalar, worth
from retable.report.evaluated import Row
from retable.report.runs import Assigned, RunRecord
from retable.report.scale import alike, scale_of
from retable.report.verdicts import FAILS, HOLDS, Verdict, shared_seeds

METHOD = (
    "Paired over the seeds that both have: mean of the differences [95 % confidence interval] (number of seeds). The"
    " interval is the paired t interval, mean ± t(0.975, n - 1) · s / √n; it is not corrected for the number of"
    " comparisons, and one seed has none."
)
ONE_SEED, NO_SEED = "one seed: no interval", "no shared seed"
# Kinds whose statement is that one figure exceeds another: (index of the higher operand, index of the lower one).
_DIRECTED = {"greater": (0, 1), "falls": (0, 1), "fewer_epochs": (1, 0)}


@dataclass(frozen=True)
class Interval:
    """A mean difference over seeds, in the metric's published unit.

    label: a cell's name, or of a claim `left - right`. mean: None where `words` say why there is none.
    low, high: ends of the 95 % confidence interval, None with fewer than two seeds.
    """

    label: str
    metric: str
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    seeds: tuple[int, ...] = ()
    words: str = ""

    @property
    def n(self) -> int:
        return len(self.seeds)


def t_interval(differences: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """Ends of the interval around the mean; None for fewer than two values.

    >>> t_interval([1.0]) is None
    True
    """
    if len(differences) < 2:
        return None
    from scipy.special import stdtrit  # scipy.stats takes a second to import

    n = len(differences)
    half = float(stdtrit(n - 1, (1 + confidence) / 2)) * stdev(differences) / math.sqrt(n)
    return fmean(differences) - half, fmean(differences) + half


def interval(label: str, metric: str, by_seed: Mapping[int, float], words: str = "") -> Interval:
    """Args: by_seed: seed -> difference."""
    seeds = tuple(sorted(by_seed))
    if not seeds:
        return Interval(label, metric, words=words or NO_SEED)
    found = [by_seed[seed] for seed in seeds]
    ends = t_interval(found)
    said = ", ".join(text for text in (words, "" if ends else ONE_SEED) if text)
    return Interval(label, metric, fmean(found), *(ends or (None, None)), seeds=seeds, words=said)


def differences(table: Table, rows: Sequence[Row]) -> list[Interval]:
    """Each cell against the table's baseline in each metric that is shown, in the table's order; none without one."""
    base = next((row for row in rows if row.cell.name == table.baseline), None)
    if base is None:
        return []
    metrics = [metric for metric in table.metrics.values() if metric.shown]
    return [difference(table, row, base, metric) for row in rows if row is not base for metric in metrics]


def difference(table: Table, row: Row, base: Row, metric: Metric) -> Interval:
    """One cell minus the baseline. A seed that lacks the figure on either side is left out, and said."""
    name = row.cell.name
    scales = [scale_of(run, one.cell.epochs, one.cell.fraction) for one in (row, base) for run in one.finished]
    if not row.finished or not base.finished:
        lacking = row if not row.finished else base
        said = lacking.entries[metric.name].words
        return Interval(name, metric.name, words=said if lacking is row else f"baseline: {said}")
    if not alike(scales):
        return Interval(name, metric.name, words="runs of different scale")
    ours, theirs = ({run.seed: run for run in one.finished} for one in (row, base))
    shared = sorted(set(ours) & set(theirs))
    found: dict[int, float] = {}
    for seed in shared:
        try:
            left, right = (scalar(one[seed], metric, table.metrics) for one in (ours, theirs))
        except NotThere:
            continue
        if math.isfinite(left) and math.isfinite(right):
            found[seed] = left - right
    absent = len(shared) - len(found)
    words = "" if not absent else "no figure" if not found else f"no figure in {absent} of {len(shared)} seeds"
    return interval(name, metric.name, found, words)


def claim_intervals(table: Table, runs: Assigned, verdicts: Sequence[Verdict]) -> list[tuple[Interval, ...]]:
    """For each claim an interval a statement that sets one figure over another; empty where none makes sense.

    So it is for `greater`, `fewer_epochs` and `falls` from-to between figures of runs. A choice among many (`best`) has
    none: its runner-up is picked after the fact. A claim that is not judged has none either.
    """
    return [
        claim_interval(table, claim, runs.cells) if verdict.verdict in (HOLDS, FAILS) else ()
        for claim, verdict in zip(table.claims, verdicts, strict=True)
    ]


def claim_interval(table: Table, claim: Claim, cells: Mapping[str, Sequence[RunRecord]]) -> tuple[Interval, ...]:
    used = {name: list(cells.get(name, ())) for name in claim.cells}
    seeds = shared_seeds(used)
    worlds = {
        seed: RunsWorld(table, {name: [run for run in found if run.seed == seed] for name, found in used.items()})
        for seed in seeds
    }
    return tuple(check_interval(check, worlds) for check in claim.checks if has_interval(check))


def has_interval(check: Check) -> bool:
    return check.kind in _DIRECTED and check.paired and all(operand.constant is None for operand in check.operands)


def check_interval(check: Check, worlds: Mapping[int, RunsWorld]) -> Interval:
    high, low = (check.operands[index] for index in _DIRECTED[check.kind])
    found = {}
    for seed, world in worlds.items():
        try:
            value = worth(world, high) - worth(world, low)
        except NotThere:
            continue
        if math.isfinite(value):
            found[seed] = value
    return interval(f"{high.label} - {low.label}", high.metric, found)


def interval_text(found: Interval, metric: Metric) -> str:
    """E.g. `+1.20 [-0.35, +2.75] (3)`, or `+1.20 (one seed: no interval)`."""
    if found.mean is None:
        return found.words
    text = signed(found.mean, metric)
    if found.low is not None and found.high is not None:
        text += f" [{signed(found.low, metric)}, {signed(found.high, metric)}] ({found.n})"
    return f"{text} ({found.words})" if found.words else text


def signed(value: float, metric: Metric) -> str:
    text = spell(value, metric)
    return text if text.startswith("-") else f"+{text}"
