"""Differences between cells over the same seeds, with a 95 % confidence interval.

The interval is the paired t interval (Student 1908): with d the differences of two cells in each of n shared seeds,
mean(d) ± t(0.975, n - 1) · s(d) / √n, s the sample standard deviation. It speaks of other seeds (weights, order of
batches, dropout), not of other data, and takes the differences for normally distributed. One seed has no interval.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from retable.experiment.metrics import Metric

METHOD = (
    "Paired over the seeds that both have: mean of the differences [95 % confidence interval] (number of seeds). The"
    " interval is the paired t interval, mean ± t(0.975, n - 1) · s / √n; it is not corrected for the number of"
    " comparisons, and one seed has none."
)
ONE_SEED, NO_SEED = "one seed: no interval", "no shared seed"


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


def interval_text(found: Interval, metric: Metric) -> str:
    """E.g. `+1.20 [-0.35, +2.75] (3)`, or `+1.20 (one seed: no interval)`."""
    if found.mean is None:
        return found.words
    text = metric.signed(found.mean)
    if found.low is not None and found.high is not None:
        text += f" [{metric.signed(found.low)}, {metric.signed(found.high)}] ({found.n})"
    return f"{text} ({found.words})" if found.words else text
