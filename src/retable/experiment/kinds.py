"""The kinds of claims: whether one elementary statement holds, and the numbers behind it.

Each function takes a check and a world of figures and returns (holds, text), or raises NotThere with the reason why it
cannot be said. A tie is no win: `best` with an equal second does not hold, nor does `ordered` with equals.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import fmean

from retable.experiment.claims import Check, Operand
from retable.experiment.metrics import Metric
from retable.experiment.values import Curve, NotThere, World, worth

EPSILON = 1e-9  # figures are decimals: 0.8 - 0.75 is 0.05


@dataclass(frozen=True)
class Figure:
    """An operand's value, as text and by whether higher is better."""

    label: str
    value: float
    metric: Metric | None
    said: str

    @property
    def merit(self) -> float:
        return -self.value if self.metric and self.metric.better == "lower" else self.value


@dataclass(frozen=True)
class Bench:
    """What the kinds share: the world, the metrics, and whether a figure's text names its metric."""

    world: World
    metrics: Mapping[str, Metric]
    name_metric: bool = False

    def figure(self, operand: Operand) -> Figure:
        metric = self.metrics.get(operand.metric)
        value = worth(self.world, operand)
        return Figure(operand.label, value, metric, f"{self.label(operand)} {spell(value, metric, operand)}".strip())

    def figures(self, check: Check) -> list[Figure]:
        return [self.figure(operand) for operand in check.operands]

    def label(self, operand: Operand) -> str:
        words = [operand.label]
        if self.name_metric and operand.metric:
            words.append(operand.metric)
        if operand.at is not None:
            words.append(f"at epoch {operand.at}")
        if operand.over:
            words.append(operand.over + (f" from epoch {operand.since}" if operand.since is not None else ""))
        if operand.fall_done is not None:
            words.append(f"share of the fall by epoch {operand.fall_done}")
        return " ".join(word for word in words if word)

    def curves(self, check: Check) -> list[Curve]:
        """A curve an operand; a mean over cells is taken epoch by epoch."""
        found = []
        for operand in check.operands:
            curves = [self.world.curve(cell, operand) for cell in operand.cells]
            if not curves:
                raise NotThere("a number has no value an epoch")
            reduce = {"mean": fmean, "lowest": min, "highest": max}[operand.reduce]
            shared = set.intersection(*map(set, curves))
            found.append({e: reduce([curve[e] for curve in curves]) * operand.times for e in sorted(shared)})
        return found


def spell(value: float, metric: Metric | None, operand: Operand | None = None) -> str:
    if math.isinf(value):
        return "never"
    if metric is None:
        return f"{value:g}"
    text = f"{value:.{3 if operand and operand.fall_done is not None else metric.digits}f}"
    return text.lstrip("-") if float(text) == 0 else text


def sign(left: float, right: float) -> str:
    return "=" if left == right or abs(left - right) <= EPSILON else ">" if left > right else "<"


def above(left: float, right: float, by: float = 0.0) -> bool:
    if math.isinf(left) and math.isinf(right):
        raise NotThere("neither reaches the threshold")
    return left - right > by + EPSILON


def best(check: Check, bench: Bench) -> tuple[bool, str]:
    """The named ones have the n highest merits."""
    if check.among:
        metric, above_this = check.among
        ends = [bench.figure(Operand(operand.label, operand.cells, metric=metric)) for operand in check.operands]
        low = [figure for figure in ends if not above(figure.value, above_this)]
        named = [figure for figure in low if figure.label in check.named]
        if named:
            return False, ", ".join(f"{f.said} {sign(f.value, above_this)} {above_this:g}" for f in named)
        out = {figure.label for figure in low}
        check = replace(check, among=None, operands=tuple(o for o in check.operands if o.label not in out))
        won, text = best(check, bench)
        return won, text + (f"; of those above {above_this:g} in {metric}, not {', '.join(sorted(out))}" if out else "")
    figures = bench.figures(check)
    named = [figure for figure in figures if figure.label in check.named]
    others = [figure for figure in figures if figure.label not in check.named]
    if not others:
        return True, ", ".join(figure.said for figure in named)
    last, rival = min(named, key=lambda f: f.merit), max(others, key=lambda f: f.merit)
    won = above(last.merit, rival.merit) if not math.isinf(last.merit) else tied_never(last, rival)
    shown = ", ".join(figure.said for figure in named)
    return won, f"{shown} {sign(last.value, rival.value)} {rival.said} ({'next' if won else 'best other'})"


def worst(check: Check, bench: Bench) -> tuple[bool, str]:
    figures = bench.figures(check)
    named = next(figure for figure in figures if figure.label in check.named)
    others = [figure for figure in figures if figure.label not in check.named]
    if not others:
        return True, named.said
    rival = min(others, key=lambda f: f.merit)
    won = above(rival.merit, named.merit) if not math.isinf(named.merit) else tied_never(rival, named)
    return won, f"{named.said} {sign(named.value, rival.value)} {rival.said} ({'next' if won else 'worst other'})"


def tied_never(winner: Figure, loser: Figure) -> bool:
    """Where one of two never reaches a threshold, the other one wins; where neither does, nothing can be said."""
    if math.isinf(winner.value) and math.isinf(loser.value):
        raise NotThere("neither reaches the threshold")
    return not math.isinf(winner.value)


def best_in(check: Check, bench: Bench) -> tuple[bool, str]:
    figures = bench.figures(check)
    inside = max((f for f in figures if f.label in check.named), key=lambda f: f.merit)
    others = [figure for figure in figures if figure.label not in check.named]
    if not others:
        return True, inside.said
    rival = max(others, key=lambda f: f.merit)
    won = above(inside.merit, rival.merit) if not math.isinf(inside.merit) else tied_never(inside, rival)
    return won, f"{inside.said} {sign(inside.value, rival.value)} {rival.said}"


def greater(check: Check, bench: Bench) -> tuple[bool, str]:
    left, right = bench.figures(check)
    by = f" (by {left.value - right.value:.4g}, claimed over {check.by:g})" if check.by else ""
    return above(left.value, right.value, check.by), f"{left.said} {sign(left.value, right.value)} {right.said}{by}"


def fewer_epochs(check: Check, bench: Bench) -> tuple[bool, str]:
    left, right = bench.figures(check)
    text = f"{left.said} {sign(left.value, right.value)} {right.said}"
    return above(right.value, left.value), text


def within(check: Check, bench: Bench) -> tuple[bool, str]:
    figures = bench.figures(check)
    values = [figure.value for figure in figures]
    if any(map(math.isinf, values)):
        raise NotThere("a threshold is never reached")
    apart = max(values) - min(values)
    said = ", ".join(figure.said for figure in figures)
    if check.relative:
        if figures[-1].value == 0:
            raise NotThere(f"{figures[-1].label} is 0, of which nothing is a share")
        apart /= abs(figures[-1].value)
    close = apart < check.by - EPSILON if check.strict else apart <= check.by + EPSILON
    shown = f"{100 * apart:.1f} %" if check.relative else f"{apart:.4g}"
    limit = f"{100 * check.by:g} %" if check.relative else f"{check.by:g}"
    return close, f"{said}: {shown} apart, claimed {'under' if check.strict else 'at most'} {limit}"


def at_least(check: Check, bench: Bench) -> tuple[bool, str]:
    return against(check, bench, 1)


def at_most(check: Check, bench: Bench) -> tuple[bool, str]:
    return against(check, bench, -1)


def against(check: Check, bench: Bench, direction: int) -> tuple[bool, str]:
    figures = bench.figures(check)
    closest = min(figures, key=lambda f: direction * f.value)
    margin = direction * (closest.value - check.value)
    holds = margin > EPSILON if check.strict else margin >= -EPSILON
    return holds, f"{closest.said} {sign(closest.value, check.value)} {check.value:g}"


def at_chance(check: Check, bench: Bench) -> tuple[bool, str]:
    figures = bench.figures(check)
    holds = all(abs(figure.value - check.value) <= check.by + EPSILON for figure in figures)
    return holds, f"{', '.join(figure.said for figure in figures)} against {check.value:g} ± {check.by:g}"


def ordered(check: Check, bench: Bench) -> tuple[bool, str]:
    figures = bench.figures(check)
    text = figures[0].said
    holds = True
    for left, right in pairwise(figures):
        text += f" {sign(left.value, right.value)} {right.said}"
        high, low = (left, right) if check.descending else (right, left)
        holds = above(high.value, low.value) and holds
    return holds, text


def falls(check: Check, bench: Bench) -> tuple[bool, str]:
    if check.paired:
        start, end = bench.figures(check)
        return above(start.value, end.value), f"{start.said} to {end.said}"
    holds, said = True, []
    for operand, curve in zip(check.operands, bench.curves(check), strict=True):
        means = windows(curve, check.window or 1)
        if len(means) < 2:
            raise NotThere(f"{operand.label} has fewer than two times {check.window} epochs")
        rises = [number + 1 for number in range(1, len(means)) if not above(means[number - 1], means[number])]
        holds = holds and not rises
        found = f"rises in window {', '.join(map(str, rises))}" if rises else f"falls in all {len(means)} windows"
        said.append(f"{bench.label(operand)} {found}")
    return holds, ", ".join(said)


def windows(curve: Curve, size: int) -> list[float]:
    """Means of each `size` epochs; epochs left over at the end are in none."""
    values = [curve[epoch] for epoch in sorted(curve)]
    return [fmean(values[start : start + size]) for start in range(0, len(values) - size + 1, size)]


def every_epoch(check: Check, bench: Bench) -> tuple[bool, str]:
    left, right = bench.curves(check)
    if set(left) != set(right):
        raise NotThere("the two have different epochs")
    fails = [epoch for epoch in sorted(left) if not above(left[epoch], right[epoch])]
    labels = [bench.label(operand) for operand in check.operands]
    at = f"; not at {shorten(fails)}" if fails else ""
    return not fails, f"{labels[0]} > {labels[1]} at {len(left) - len(fails)} of {len(left)} epochs{at}"


def shorten(epochs: Sequence[int], most: int = 5) -> str:
    return ", ".join(map(str, epochs[:most])) + (f" and {len(epochs) - most} more" if len(epochs) > most else "")


JUDGES: dict[str, Callable[[Check, Bench], tuple[bool, str]]] = {
    "best": best,
    "best_in": best_in,
    "worst": worst,
    "greater": greater,
    "within": within,
    "at_least": at_least,
    "at_most": at_most,
    "at_chance": at_chance,
    "ordered": ordered,
    "fewer_epochs": fewer_epochs,
    "falls": falls,
    "every_epoch": every_epoch,
}
