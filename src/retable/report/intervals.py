"""Differences between cells over the same seeds, with a 95 % confidence interval.

The interval is the paired t interval (Student 1908): with d the differences of two cells in each of n shared seeds,
mean(d) ± t(0.975, n - 1) · s(d) / √n, s the sample standard deviation. It speaks of other seeds (weights, order of
batches, dropout), not of other data, and takes the differences for normally distributed. One seed has no interval.

Where a page makes several comparisons, the p value of the paired t test after Holm (1979) stands beside an interval:
the chance of so large a difference between equals, corrected for the number of comparisons.
"""

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

from retable.experiment.metrics import DECIMALS, Metric, NotThere

METHOD = (
    "Paired over the seeds that both have: mean of the differences [95 % confidence interval] (number of seeds). The"
    " interval is the paired t interval, mean ± t(0.975, n - 1) · s / √n; it is not corrected for the number of"
    " comparisons, and neither one seed nor what is the same in every seed has one. Where a page makes several, the"
    " paired t test's p stands beside it, corrected by Holm's method for all of them."
)
UNPAIRED = (
    "Of runs without a seed, which pair with no others: difference of the means [95 % confidence interval] (number of"
    " runs of each cell). The interval is Welch's t interval for unequal variances; it is not corrected for the number"
    " of comparisons, and neither one run nor what is the same in all runs has one. Where a page makes several, Welch's"
    " t test's p stands beside it, corrected by Holm's method for all of them."
)
MOST_SEEDS = 1000
ALIKE = {1: 6, 2: 4}  # by number of cells, runs of one value that are enough: 1 / 2^6 and 1 / C(8, 4) < 0.025
ONE_SEED, NO_SEED, SAME = "one seed: no interval", "no shared seed", "the same in {} seeds"


@dataclass(frozen=True)
class Interval:
    """A mean difference over seeds, in the metric's published unit.

    label: a cell's name, or of a claim `left - right`. mean: None where `words` say why there is none.
    low, high: ends of the 95 % confidence interval, None with fewer than two seeds. runs: of runs without a seed, how
    many each cell has; the interval is then Welch's. p: of the two-sided t test; holm: the same corrected for all
    comparisons of the page, None where there is one. differs: in which settings the two cells do.
    """

    label: str
    metric: str
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    seeds: tuple[int, ...] = ()
    words: str = ""
    p: float | None = None
    holm: float | None = None
    differs: str = ""
    runs: tuple[int, ...] = ()

    @property
    def n(self) -> int:
        """How many seeds there are; of runs that pair with none, how many the cell has that has fewest."""
        return len(self.seeds) or min(self.runs, default=0)

    @property
    def count(self) -> str:
        """E.g. `3`, `3 and 4 runs`."""
        *others, last = map(str, self.runs or (self.n,))
        return (f"{', '.join(others)} and {last}" if others else last) + (" runs" if self.runs else "")


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


def finite(value: Callable[[Any], float], by_seed: Mapping[int, Any]) -> dict[int, float]:
    """By seed what a function gives of its runs, where that exists and is finite."""
    found = {}
    for seed, runs in by_seed.items():
        with contextlib.suppress(NotThere):
            found[seed] = value(runs)
    return {seed: one for seed, one in found.items() if math.isfinite(one)}


def interval(label: str, metric: str, by_seed: Mapping[int, float], words: str = "") -> Interval:
    """The mean of some differences with its interval. Args: by_seed: seed -> difference."""
    seeds = tuple(sorted(by_seed))
    if not seeds:
        return Interval(label, metric, words=words or NO_SEED)
    found = [by_seed[seed] for seed in seeds]
    ends = t_interval(found)
    same = len(seeds) > 1 and len({round(difference, DECIMALS) for difference in found}) == 1
    remark = ", ".join(
        text for text in (words, "" if ends else ONE_SEED, SAME.format(len(seeds)) if same else "") if text
    )
    p = None if same else two_sided_p(found)  # without a spread there is nothing to test by: a number of parameters
    return Interval(label, metric, fmean(found), *(ends or (None, None)), seeds=seeds, words=remark, p=p)


def two_sided_p(differences: Sequence[float]) -> float | None:
    """The p value of the t test that the mean is 0; None for fewer than two values.

    >>> two_sided_p([1.0]) is None
    True
    """
    lower = lower_p(differences)
    return None if lower is None else 2 * min(lower, 1 - lower)


def lower_p(differences: Sequence[float]) -> float | None:
    """One-sided: the chance of so small a mean, or a smaller one, where the true one is 0; None for fewer than two.

    Values without a spread, such as an epoch that is the same in all seeds, say nothing of the spread of others: there
    it is the sign test's, 1 / 2^n for n values below 0.
    """
    if len(differences) < 2:
        return None
    from scipy.special import stdtr

    mean, spread = fmean(differences), stdev(differences)
    if spread == 0:
        alike = 0.5 ** len(differences)
        return 0.5 if mean == 0 else 1 - alike if mean > 0 else alike
    return float(stdtr(len(differences) - 1, mean / spread * math.sqrt(len(differences))))


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down correction: the i-th smallest of m times m - i + 1, never below those before it.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected, least = [0.0] * len(ps), 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=lambda place: ps[place])):
        least = max(least, min(1.0, (len(ps) - rank) * ps[place]))
        corrected[place] = least
    return corrected


def corrected(found: Sequence[Interval]) -> list[Interval]:
    """The intervals with Holm's p values, where there are several tests."""
    ps = [one.p for one in found if one.p is not None]
    if len(ps) < 2:
        return list(found)
    values = iter(holm(ps))
    return [one if one.p is None else replace(one, holm=next(values)) for one in found]


def seeds_needed(mean: float, spread: float) -> int | None:
    """How many paired seeds would resolve a difference: as `runs_needed`, of what one seed adds.

    >>> seeds_needed(1.0, 1.0)
    10
    """
    return runs_needed(mean, (spread,))


def runs_needed(mean: float, spreads: Sequence[float]) -> int | None:
    """How many runs of each cell would resolve a difference, if its mean and the cells' sample deviations are as these:
    the least n with n >= (t(0.975, f) + t(0.8, f))² Σ s² / mean², f as in `unpaired` (of one cell n - 1), so that the
    95 % interval excludes 0 in 80 % of cases. Without a spread the sign test of one cell, or Fisher's exact test of
    two, is to resolve it.

    Returns:
        None where more than MOST_SEEDS would be needed, or no number would do.

    >>> runs_needed(1.0, (1.0, 1.0))
    17
    """
    from scipy.special import stdtrit

    squares = [spread**2 for spread in spreads]
    total = sum(squares)
    if not total:
        return ALIKE.get(len(spreads))
    if mean == 0:
        return None
    # The quantiles of Student's distribution exceed the normal ones, 1.95996 and 0.84162.
    for n in range(max(2, int(min(MOST_SEEDS, 2.8015**2 * total / mean**2))), MOST_SEEDS + 1):
        degrees = (n - 1) * total**2 / sum(square**2 for square in squares)
        if n >= float(stdtrit(degrees, 0.975) + stdtrit(degrees, 0.8)) ** 2 * total / mean**2:
            return n
    return None


def method(found: Sequence[Interval]) -> str:
    """How the differences of a page came about."""
    paired = any(one.seeds for one in found) or not any(one.runs for one in found)
    return " ".join(([METHOD] if paired else []) + ([UNPAIRED] if any(one.runs for one in found) else []))


def p_text(p: float) -> str:
    """E.g. `p = 0.012`, `p < 0.001`."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}" if p < 0.1 else f"p = {p:.2f}"


def interval_text(found: Interval, metric: Metric) -> str:
    """E.g. `+1.20 [-0.35, +2.75] (3)`, or `+1.20 (one seed: no interval)`."""
    if found.mean is None:
        return found.words
    text = metric.signed(found.mean)
    same = found.low == found.high if found.runs else SAME.format(found.n) in found.words
    if found.low is not None and found.high is not None and not same:
        text += f" [{metric.signed(found.low)}, {metric.signed(found.high)}] ({found.count})"
        text += f", Holm {p_text(found.holm)}" if found.holm is not None else ""
    return f"{text} ({found.words})" if found.words else text
