"""Differences between cells whose runs have no seed, where no run of one belongs to a run of another.

The interval is Welch's (1947): a difference is a sum of means, one a cell, each over n_i runs that deviate by s_i. With
v_i = s_i² / n_i, it is d ± t(0.975, f) · √Σ v_i, where by Satterthwaite (1946) f = (Σ v_i)² / Σ (v_i² / (n_i - 1)). Of
two cells it is the t test of unequal variances, of one cell that of one sample. The order of the runs plays no part.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, stdev

from retable.experiment.metrics import DECIMALS, Curve, NotThere
from retable.experiment.operands import Operand, World
from retable.experiment.statement import Comparison
from retable.report.intervals import Interval, runs_needed
from retable.report.resolution import LEVEL, Resolution, to_decide
from retable.report.runs import RunRecord
from retable.report.worlds import RunsWorld

ONE_RUN, SAME_RUNS = "a cell of one run: no interval", "the same in all runs"


@dataclass(frozen=True)
class Estimate:
    """A difference of means over runs. spreads, counts: of each cell that has part in it, the sample standard deviation
    of what one run adds (0 for a single run), and how many runs there are."""

    mean: float
    spreads: tuple[float, ...]
    counts: tuple[int, ...]

    @property
    def error(self) -> float:
        """The standard error."""
        return math.sqrt(sum(spread**2 / n for spread, n in zip(self.spreads, self.counts, strict=True)))

    @property
    def degrees(self) -> float:
        """Degrees of freedom, by Satterthwaite."""
        parts = [spread**2 / n for spread, n in zip(self.spreads, self.counts, strict=True)]
        return sum(parts) ** 2 / sum(part**2 / (n - 1) for part, n in zip(parts, self.counts, strict=True))

    @property
    def p_above(self) -> float | None:
        """One-sided: the chance of so large a difference, or a larger one, where the true one is 0; None where a cell
        has one run.

        Values without a spread say nothing of the spread of others. There it is the share of the ways to deal them out
        among the cells that sets them so far apart: of two cells Fisher's exact test, of one the sign test.
        """
        return self._p(1)

    @property
    def p_below(self) -> float | None:
        """As `p_above`, of so small a difference, or a smaller one. Equals in every run are no win, as a loss is."""
        return self._p(-1)

    def _p(self, sign: int) -> float | None:
        if min(self.counts) < 2:
            return None
        from scipy.special import stdtr

        if self.error:
            return float(stdtr(self.degrees, -sign * self.mean / self.error))
        if len(self.counts) > 2:
            return 0.5  # no such test
        apart = 0.5 ** self.counts[0] if len(self.counts) == 1 else 1 / math.comb(sum(self.counts), self.counts[0])
        return apart if sign * self.mean > 0 or (self.mean == 0 and sign < 0) else 1 - apart

    def interval(self, label: str, metric: str, words: str = "") -> Interval:
        """As a page shows it."""
        if min(self.counts) < 2:
            words = ", ".join(filter(None, (words, ONE_RUN)))
            return Interval(label, metric, self.mean, runs=self.counts, words=words)
        if not self.error:
            words = ", ".join(filter(None, (words, SAME_RUNS)))
            return Interval(label, metric, self.mean, self.mean, self.mean, runs=self.counts, words=words)
        from scipy.special import stdtrit

        half = float(stdtrit(self.degrees, 0.975)) * self.error
        above = self.p_above or 0.0
        p = 2 * min(above, 1 - above)
        return Interval(
            label, metric, self.mean, self.mean - half, self.mean + half, words=words, p=p, runs=self.counts
        )


def estimate(parts: Sequence[Sequence[float]], mean: float) -> Estimate:
    """Args: parts: of each cell what its runs add, but for a constant. mean: the difference itself."""
    rounded = [[round(value, DECIMALS) for value in values] for values in parts]  # so that a tie is one
    spreads = tuple(stdev(values) if len(values) > 1 else 0.0 for values in rounded)
    return Estimate(round(mean, DECIMALS), spreads, tuple(map(len, parts)))


@dataclass(frozen=True)
class _Asked(RunsWorld):
    """A world that notes which cells were asked for."""

    asked: dict[str, None] = field(default_factory=dict)

    def cell(self, name: str, operand: Operand) -> float:
        self.asked[name] = None
        return super().cell(name, operand)

    def curve(self, name: str, operand: Operand) -> Curve:
        self.asked[name] = None
        return super().curve(name, operand)


def estimate_of(margin: Callable[[World], float], world: RunsWorld) -> Estimate | None:
    """The estimate of a difference from the runs of a world.

    A run's part in it is what the difference would be if its cell had this run alone. Where the mean of these is not
    the difference, it is no sum of means (the lowest of several cells, which may be another one with other runs).

    Returns:
        None where it is no sum of means, or not finite.

    Raises:
        NotThere: where a run lacks the value.
    """
    noting = _Asked(world.table, world.runs)
    mean = margin(noting)
    parts = [
        [margin(replace(world, runs={**world.runs, name: [run]})) for run in world.runs[name]] for name in noting.asked
    ]
    if not parts or not all(math.isfinite(value) for values in ([mean], *parts) for value in values):
        return None
    # Differences of large values are rounded: what is no sum of means is off by a share of the runs' spread.
    tolerances = [1e-6 * (max(values) - min(values)) + 1e-9 * max(1.0, abs(mean)) for values in parts]
    if any(abs(fmean(values) - mean) > most for values, most in zip(parts, tolerances, strict=True)):
        return None
    return estimate(parts, mean)


def difference_of(label: str, metric: str, high: Operand, low: Operand, world: RunsWorld) -> Interval | None:
    """The interval of one value minus another; None where there is no such estimate."""
    try:
        found = estimate_of(lambda one: high.value(one) - low.value(one), world)
    except NotThere:
        return None
    return found and found.interval(label, metric)


def of_two(label: str, metric: str, left: Sequence[float], right: Sequence[float], words: str = "") -> Interval:
    """The mean of some runs minus that of others."""
    return estimate([left, right], fmean(left) - fmean(right)).interval(label, metric, words)


def resolve_unpaired(holds: bool, comparisons: Sequence[Comparison], world: RunsWorld) -> Resolution | None:
    """As `resolution.resolve`, of runs that pair with nothing."""
    if not comparisons:
        return None
    counts = tuple(len(runs) for runs in world.runs.values())
    exact = [one.fails(round(_margin(one, world), DECIMALS)) for one in comparisons if one.exact]
    certain = exact if holds else [below for below in exact if below]
    if certain and (not holds or len(exact) == len(comparisons)):
        return Resolution(True, min(counts), runs=counts)
    left = [one for one in comparisons if not one.exact]
    found = [(one, made) for one in left if (made := _estimate(one, world)) is not None]
    if not holds:  # which is not the doing of equals that are enough, in every run
        found = [(one, made) for one, made in found if not one.ties or made.mean or made.error] or found
    open_ = Resolution(False, min(counts), runs=counts)
    tests = [(p, one, made) for one, made in found if (p := made.p_below) is not None]
    if not tests or (holds and len(tests) < len(left)):
        return open_
    least, one, deciding = min(tests, key=lambda test: test[0])
    above = deciding.p_above
    p = above if holds and above is not None else min(1.0, len(left) * least)
    shown, two_sided = deciding.interval(one.label, one.metric), min(1.0, 2 * p)
    if p < LEVEL:
        return replace(open_, resolved=True, deciding=shown, p=two_sided)
    needed = [runs_needed(made.mean, made.spreads) if (made.mean > 0) == holds else None for _, _, made in tests]
    enough = to_decide(needed, holds, min(counts))
    return replace(open_, needed=enough, beyond=enough is None, deciding=shown, p=two_sided)


def _margin(comparison: Comparison, world: RunsWorld) -> float:
    try:
        return comparison.margin(world)
    except NotThere:
        return 0.0


def _estimate(comparison: Comparison, world: RunsWorld) -> Estimate | None:
    try:
        return estimate_of(comparison.margin, world)
    except NotThere:
        return None


def seeded(cells: Mapping[str, Sequence[RunRecord]]) -> bool:
    """Whether every run has a seed."""
    return all(run.seeded for runs in cells.values() for run in runs)
