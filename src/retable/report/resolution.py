"""How certain a verdict is: whether other seeds could reverse it, and how many would decide.

A claim rests on comparisons, each of which must exceed 0 (`Statement.comparisons`). It is *resolved to hold* where the
95 % interval of every comparison over the shared seeds lies above 0: an intersection-union test, which needs no
correction for their number (Berger 1982). It is *resolved not to hold* where the interval of at least one lies below 0,
there corrected for their number (Bonferroni), since the most extreme of many was picked.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from retable.experiment.metrics import DECIMALS
from retable.experiment.operands import World
from retable.experiment.statement import Comparison
from retable.report.intervals import MOST_SEEDS, Interval, finite, interval, lower_p, p_text, seeds_needed

RESOLVED = (
    "Resolved: the 95 % interval over seeds of every difference that the claim rests on excludes the other side; not to"
    " hold: that of at least one, corrected for their number. The seeds that would decide are those with which the"
    " spread seen would do so in 80 % of cases; by the images' spread: with the one that follows from how single images"
    " came out in these seeds, as runs err independently of one another (Jordan 2024, arXiv 2304.01910)."
)
UNPAIRED = (
    "Resolved: the 95 % interval over runs of every difference that the claim rests on excludes the other side; not to"
    " hold: that of at least one, corrected for their number. The runs that would decide are those with which the"
    " spread seen would do so in 80 % of cases."
)
LEVEL = 0.025  # one-sided: the 95 % interval excludes 0


@dataclass(frozen=True)
class Resolution:
    """Whether a verdict is resolved, by the comparison that decides it: the least certain one.

    n: seeds. needed: how many would resolve it, from the mean and spread seen; None where that can't be known, or where
    it is resolved. beyond: more than MOST_SEEDS would be needed. p: two-sided, of the verdict; holm: corrected for all
    claims of the page. predicted: whether the spread is what the runs' single images predict, in place of the one seen.
    runs: how many each cell has, where they have no seeds.
    """

    resolved: bool
    n: int
    needed: int | None = None
    beyond: bool = False
    deciding: Interval | None = None
    p: float | None = None
    holm: float | None = None
    predicted: bool = False
    runs: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """E.g. `not resolved at 3 seeds`, `resolved at 3 to 5 runs a cell`."""
        most = max(self.runs, default=self.n)
        count = f"{self.n} to {most}" if most > self.n else str(self.n)
        what = ("run" if self.runs else "seed") + ("s" if most != 1 else "") + (" a cell" if self.runs else "")
        return f"{'' if self.resolved else 'not '}resolved at {count} {what}"

    @property
    def more(self) -> str:
        """What would decide it; empty where it is decided or not known."""
        by = " by the images' spread" if self.predicted else ""
        what = " runs a cell" if self.runs else ""
        if self.beyond:
            return f"more than {MOST_SEEDS:,}{what} would be needed{by}"
        return f"about {self.needed}{what} would decide{by}" if self.needed else ""

    @property
    def test(self) -> str:
        """E.g. `p = 0.012, 0.048 after Holm`."""
        if self.p is None:
            return ""
        return p_text(self.p) + (f", after Holm {p_text(self.holm)}" if self.holm is not None else "")


def resolve(
    holds: bool,
    comparisons: Sequence[Comparison],
    worlds: Mapping[int, World],
    predicted: Callable[[Comparison], float | None] = lambda comparison: None,
) -> Resolution | None:
    """How certain a verdict is; None for a claim without comparisons.

    Args:
        holds: the verdict on the means.
        worlds: of each seed alone.
        predicted: the spread over seeds of a comparison, where it can be known from single images.
    """
    if not comparisons or not worlds:
        return None
    found = [(one, margins(one, worlds)) for one in comparisons]
    exact = [one.fails(max(values.values(), default=0.0)) for one, values in found if one.exact]
    certain = exact if holds else [below for below in exact if below]
    if certain and (not holds or len(exact) == len(found)):
        return Resolution(True, len(worlds))
    found = [(one, values) for one, values in found if not one.exact]
    total = len(found)
    if not holds:  # which is not the doing of equals that are enough, in every seed
        found = [(one, v) for one, v in found if not (one.ties and v and not any(v.values()))] or found
    n = min(len(values) for _, values in found)
    if n < 2:
        return Resolution(False, n)
    tests = [(below_p(list(values.values())), one, values) for one, values in found]
    least, one, values = min(tests, key=lambda test: test[0])
    above = lower_p([-value for value in values.values()])
    p = above if holds and above is not None else min(1.0, total * least)
    shown, two_sided = interval(one.label, one.metric, values), min(1.0, 2 * p)
    if p < LEVEL:
        return Resolution(True, n, deciding=shown, p=two_sided)
    spreads = [believed(predicted(one), list(values.values())) for _, one, values in tests]
    by_images = all(spread is not None for spread in spreads)
    spreads = spreads if by_images else [None] * len(tests)
    counts = [needed_of(list(test[2].values()), holds, spread) for test, spread in zip(tests, spreads, strict=True)]
    needed = to_decide(counts, holds, n)
    return Resolution(False, n, needed, needed is None, shown, two_sided, predicted=by_images)


def to_decide(counts: Sequence[int | None], holds: bool, n: int) -> int | None:
    """How many seeds resolve a verdict, from how many each of its comparisons needs: all of them to hold, one not to.

    More than the n that there are, which did not do: by chance, or as several comparisons were corrected for.
    """
    known = [count for count in counts if count is not None]
    if not known or (holds and len(known) < len(counts)):
        return None
    return max(max(known) if holds else min(known), n + 1)


def below_p(values: Sequence[float]) -> float:
    """As `lower_p`; a tie in every seed is no win, as a loss in every seed is."""
    if not any(values):
        return 0.5 ** len(values)
    found = lower_p(values)
    assert found is not None
    return found


def margins(comparison: Comparison, worlds: Mapping[int, World]) -> dict[int, float]:
    """Seed -> margin, where the seed has a finite one; rounded, so that a tie is one."""
    return {seed: round(value, DECIMALS) for seed, value in finite(comparison.margin, worlds).items()}


def believed(predicted: float | None, values: Sequence[float]) -> float | None:
    """A predicted spread, unless that of the values is too large for it: a chi-squared test of the variance at 5 %.

    Runs that are not trained to the end differ by more than images' chances: some have learned what others have not.

    >>> believed(1.0, [0.0, 2.0]), believed(1.0, [0.0, 3.0])
    (1.0, None)
    """
    if not predicted:
        return None
    from scipy.special import chdtrc

    degrees = len(values) - 1
    return predicted if chdtrc(degrees, degrees * (stdev(values) / predicted) ** 2) >= 0.05 else None


def needed_of(values: Sequence[float], holds: bool, predicted: float | None = None) -> int | None:
    """Seeds that one comparison needs to be resolved the verdict's way; None where its mean points the other way.

    Args: predicted: the spread over seeds, by default the sample's.
    """
    mean, spread = fmean(values), stdev(values) if predicted is None else predicted
    return seeds_needed(mean, spread) if (mean > 0) == holds else None
