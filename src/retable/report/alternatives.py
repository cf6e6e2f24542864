"""What becomes of a table under other assumptions: claims, metrics, and which value comes nearest to the published.

The runs of an alternative are those of the table's grid with that one setting changed (`retable assumptions`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from retable.errors import in_words
from retable.experiment.assumptions import Assumption
from retable.experiment.metrics import Metric
from retable.experiment.table import Table
from retable.report.layout import heading
from retable.report.rows import Row, table_rows
from retable.report.runs import Assigned
from retable.report.verdicts import FAILS, HOLDS, Verdict, evaluate_claims

UNDER = (
    "The table again with one assumed setting changed: each claim's verdict; of each metric the mean change over the"
    " cells from the figures above, and the mean distance over the cells from the published ones."
)


@dataclass(frozen=True)
class Alternative:
    """One value of an assumed setting, with the claims and metrics that come of it.

    setting: as an override. assumed: whether it is the table's own value. cells: that have a finished run. verdicts: a
    word a claim. moved: by metric, the mean change over the cells from the table's own values; distance: the mean
    distance over the cells from the published ones. Metrics that can't be compared are not there. over: the cells that
    a metric's distance is of.
    """

    setting: str
    assumed: bool
    cells: int
    verdicts: tuple[str, ...]
    moved: Mapping[str, float]
    distance: Mapping[str, float]
    over: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Variation:
    """One assumed setting: its own value first. nearest: by metric, the value that comes nearest to the published."""

    assumption: Assumption
    values: tuple[Alternative, ...]

    @property
    def nearest(self) -> dict[str, Alternative]:
        """By metric, the nearest value: of those trained in the most cells, where these are several. Only metrics that
        have a distance under each of them, over the same cells: others are means of something else."""
        most = max((one.cells for one in self.values), default=0)
        run = [one for one in self.values if one.cells == most]
        if not most or len(run) < 2:
            return {}
        names = [name for name in run[0].distance if all(name in one.distance for one in run)]
        names = [name for name in names if all(one.over.get(name) == run[0].over.get(name) for one in run)]
        return {name: min(run, key=lambda one: one.distance[name]) for name in names}


def variations(
    table: Table, rows: Sequence[Row], verdicts: Sequence[Verdict], alternatives: Mapping[str, Assigned]
) -> list[Variation]:
    """The assumed settings of which an alternative has been trained.

    Args:
        rows, verdicts: the table's own.
        alternatives: runs by the override that sets the value.
    """
    found = []
    for one in table.assumptions:
        values = [alternative(table, one.override(one.value), rows, rows, verdicts)]
        for value in one.alternatives:
            setting = one.override(value)
            runs = alternatives.get(setting)
            own = table_rows(table, runs) if runs else []
            values.append(alternative(table, setting, rows, own, evaluate_claims(table, runs) if runs else ()))
        if any(value.cells for value in values[1:]):
            found.append(Variation(one, (replace(values[0], assumed=True), *values[1:])))
    return found


def alternative(
    table: Table, setting: str, base: Sequence[Row], rows: Sequence[Row], verdicts: Sequence[Verdict]
) -> Alternative:
    theirs = {row.cell.name: row for row in base}
    moved: dict[str, list[float]] = {}
    distance: dict[str, dict[str, float]] = {}
    for row in rows:
        for name, entry in row.entries.items():
            other = theirs[row.cell.name].entries[name]
            if entry.mean is not None and other.mean is not None:
                moved.setdefault(name, []).append(entry.mean - other.mean)
                if entry.difference is not None:
                    distance.setdefault(name, {})[row.cell.name] = abs(entry.difference)
    return Alternative(
        setting,
        False,
        sum(bool(row.finished) for row in rows),
        tuple(verdict.verdict for verdict in verdicts),
        {name: fmean(values) for name, values in moved.items()},
        {name: fmean(values.values()) for name, values in distance.items()},
        {name: sorted(values) for name, values in distance.items()},
    )


def with_assumptions(verdicts: Sequence[Verdict], found: Sequence[Variation]) -> list[Verdict]:
    """Each claim with the words under which assumptions it holds."""
    others = [value for variation in found for value in variation.values[1:] if value.verdicts]
    return [replace(verdict, under=under(verdict, place, others)) for place, verdict in enumerate(verdicts)]


def under(verdict: Verdict, place: int, others: Sequence[Alternative]) -> str:
    """E.g. `holds under 6 of 7 assumptions; fails with data.batch_size=128`; the own value counts, untried ones not."""
    decided = {other.setting: other.verdicts[place] for other in others if other.verdicts[place] in (HOLDS, FAILS)}
    if not decided or verdict.verdict not in (HOLDS, FAILS):
        return ""
    fails = [setting for setting, outcome in decided.items() if outcome == FAILS]
    fails = (["as assumed"] if verdict.verdict == FAILS else []) + fails
    total = len(decided) + 1
    if len(fails) in (0, total):
        return f"holds under {'none of' if fails else 'all of'} {total} assumptions"
    text = f"holds under {total - len(fails)} of {total} assumptions"
    return f"{text}; fails {'with ' if fails[0] != 'as assumed' else ''}{', '.join(fails)}"


def untried(table: Table, found: Sequence[Variation]) -> str:
    """E.g. `Not trained: model.width=16 and 64; optimizer=adam.`; empty if none is left."""
    trained = {value.setting: value.cells for variation in found for value in variation.values}
    lines = []
    for one in table.assumptions:
        left = [text for text in map(one.override, one.alternatives) if not trained.get(text)]
        lines += [f"{one.key}={in_words(text.partition('=')[2] for text in left)}"] if left else []
    return f"Not trained: {'; '.join(lines)}." if lines else ""


def value_text(value: Alternative, metric: Metric) -> str:
    """E.g. `+1.20, 3.40 from published`; the own value has no change."""
    if not value.cells:
        return "not trained"
    moved, distance = value.moved.get(metric.name), value.distance.get(metric.name)
    texts = [] if moved is None or value.assumed else [metric.signed(moved)]
    texts += [] if distance is None else [f"{metric.spell(distance)} from published"]
    return ", ".join(texts) or "–"


def nearest_text(variation: Variation, metrics: Sequence[Metric]) -> str:
    """E.g. `Nearest to the published figures: train: data.batch_size=128; val: data.batch_size=64.`"""
    near = variation.nearest
    nearest = [f"{m.name.replace('_', ' ')}: {near[m.name].setting}" for m in metrics if m.name in near]
    return f"Nearest to the published figures: {'; '.join(nearest)}." if nearest else ""


def variation_lines(variation: Variation, claims: Sequence[str], metrics: Sequence[Metric]) -> list[list[str]]:
    """A table of texts: a line a value, a column a claim, by its id, and a metric."""
    lines = [[variation.assumption.key, "cells", *claims, *map(heading, metrics)]]
    for value in variation.values:
        verdicts = value.verdicts or ("–",) * len(claims)
        name = f"{value.setting.partition('=')[2]}{' (assumed)' if value.assumed else ''}"
        lines.append([name, str(value.cells), *verdicts, *(value_text(value, metric) for metric in metrics)])
    return lines
