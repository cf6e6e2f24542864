"""A sweep as a table of what varied, and what it did: best settings, effects, pairs, curves, parallel coordinates.

From the same records as a table's page; `sweep_page` makes the page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import comb
from statistics import fmean
from typing import Any

from retable.config.keys import canonical
from retable.experiment.metrics import Metric
from retable.experiment.table import parse_table
from retable.report import plots
from retable.report.curves import Panel, curve_plots
from retable.report.draft import draft, order_of
from retable.report.evaluated import Evaluated, evaluate
from retable.report.layout import heading, short
from retable.report.rows import Row, rated
from retable.report.runs import Assigned, Remark, RunRecord
from retable.report.settings import varied

_CURVES, _BEST, _PAIRS, _LINES = 15, 10, 10, 400


@dataclass(frozen=True)
class Swept:
    """A sweep as a table of what varied. settings: by cell; quality: the metric that says which cell is best."""

    found: Evaluated
    factors: Mapping[str, Sequence[Any]]
    quality: Metric

    @property
    def rated(self) -> list[Row]:
        """Cells with a value, the best first."""
        return rated(self.found.rows, self.quality)

    def mean(self, row: Row) -> float:
        return row.entries[self.quality.name].mean or 0.0

    def at(self, settings: Mapping[str, Any]) -> list[Row]:
        """The rated cells with these settings."""
        return [row for row in self.rated if all(same(row.cell.match[key], value) for key, value in settings.items())]


def sweep_of(
    records: Sequence[RunRecord],
    settings: Sequence[Mapping[str, Any]],
    name: str,
    notes: Sequence[Remark] = (),
    metrics: Sequence[str] = (),
    foreign: bool = False,
    made_by: str = "",
) -> Swept:
    """Group runs by everything that varied but the seed.

    Args:
        records: the runs, whose seeds are known.
        settings: of each run what was set, by key.
        metrics: the columns that are shown, the first of which rates the cells; by default those of a draft.
        foreign: whether another program made the runs.
        made_by: see `Evaluated`.

    Raises:
        ConfigError: where nothing varied, or no run has a value.
    """
    factors = factors_of(settings)
    shown = [{key: one.get(key) for key in factors} for one in settings]
    names = sorted(factors, key=lambda key: -len(factors[key]))
    columns = names[1:] if len(names) == 2 else ()
    table = draft(records, names[:1] if len(names) == 2 else (), columns, metrics, settings=shown, title=name)
    quality = next(iter(table["metrics"]))
    if len(factors) > 2:
        table |= {"rows": "cell", "ranked": quality}
    parsed = replace(parse_table(table, name), source="sweep")
    cells: dict[str, list[RunRecord]] = {cell: [] for cell in parsed.cells}
    by_match = {canonical(cell.match): cell.name for cell in parsed.cells.values()}
    for record, one in zip(records, shown, strict=True):
        cells[by_match[canonical(one)]].append(replace(record, task=parsed.task))
    for found in cells.values():
        found.sort(key=lambda record: (record.seed, record.name))
    assigned = Assigned(cells, notes=tuple(notes), foreign=foreign)
    return Swept(evaluate(parsed, assigned, made_by), factors, parsed.metrics[quality])


def factors_of(settings: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """What varied among settings, each factor's values in order."""
    return {key: sorted(values, key=order_of) for key, values in varied(settings).items()}


def same(left: Any, right: Any) -> bool:
    return canonical(left) == canonical(right)


def text_of(value: Any) -> str:
    return "–" if value is None else str(value)


def sections(swept: Swept) -> dict[str, Any]:
    """What the template shows beside the table: best, effects, pairs, parallel, and of how many each is a choice."""
    rated = swept.rated
    if not rated:
        return {"best": [], "effects": None, "pairs": [], "parallel": None, "metric": heading(swept.quality)}
    return {
        "metric": heading(swept.quality),
        "best": [
            {
                "settings": [text_of(row.cell.match[key]) for key in swept.factors],
                "mean": swept.quality.spell(swept.mean(row)),
                "std": "" if (std := row.entries[swept.quality.name].std) is None else swept.quality.spell(std),
                "n": row.entries[swept.quality.name].n,
            }
            for row in rated[:_BEST]
        ],
        "factors": [short(key) for key in swept.factors],
        "effects": effects(swept),
        "pairs": pairs(swept),
        "parallel": parallel(swept),
        "rated": len(rated),
        "lines": min(_LINES, len(rated)),
        "all_pairs": comb(len(swept.factors), 2),
    }


def effects(swept: Swept) -> plots.Chart:
    """A panel a setting, the setting with the largest effect first."""
    means = [swept.mean(row) for row in swept.rated]
    up = plots.limits(means)
    drawn = []
    for key in sorted(swept.factors, key=lambda key: (-effect_size(swept, key), key)):
        values = [
            (text_of(value), point) for value in swept.factors[key] if (point := summary(swept.at({key: value}), swept))
        ]
        title = f"{short(key)}: {swept.quality.spell(effect_size(swept, key))} between its best and worst value"
        drawn.append(plots.effect(values, key, title, up))
    return plots.Chart(
        f"Main effects on {heading(swept.quality)}",
        tuple(drawn),
        note="point: mean of all settings with this value; line: from the lowest of them to the highest",
    )


def summary(rows: Sequence[Row], swept: Swept) -> plots.Point | None:
    means = [swept.mean(row) for row in rows]
    return (0.0, fmean(means), min(means), max(means)) if means else None


def effect_size(swept: Swept, key: str) -> float:
    """The largest difference between the means of a setting's values."""
    means = [point[1] for value in swept.factors[key] if (point := summary(swept.at({key: value}), swept))]
    return max(means) - min(means)


def pairs(swept: Swept) -> list[dict[str, Any]]:
    """Each pair of settings as a grid of means, coloured by rank between worst and best; the largest effects first."""
    keys = sorted(swept.factors, key=lambda key: (-effect_size(swept, key), key))
    found = []
    for first, second in list(combinations(keys, 2))[:_PAIRS]:
        down, across = (first, second) if len(swept.factors[first]) >= len(swept.factors[second]) else (second, first)
        grid = [
            [summary(swept.at({down: one, across: two}), swept) for two in swept.factors[across]]
            for one in swept.factors[down]
        ]
        means = [point[1] for line in grid for point in line if point]
        low, high = min(means), max(means)
        lines = [
            (text_of(value), [_heat(point, low, high, swept.quality) for point in line])
            for value, line in zip(swept.factors[down], grid, strict=True)
        ]
        heads = [text_of(value) for value in swept.factors[across]]
        found.append({"down": short(down), "across": short(across), "heads": heads, "lines": lines})
    return found


def _heat(point: plots.Point | None, low: float, high: float, metric: Metric) -> dict[str, Any] | None:
    if point is None:
        return None
    share = (point[1] - low) / (high - low) if high > low else 0.5
    share = share if metric.better == "higher" else 1 - share
    return {"text": metric.spell(point[1]), "share": round(60 * share)}


def parallel(swept: Swept) -> str | None:
    """Parallel coordinates of three settings or more; None for fewer."""
    rows = swept.rated[:_LINES]
    if len(swept.factors) < 3 or len(rows) < 2:
        return None
    means = [swept.mean(row) for row in rows]
    low, high = min(means), max(means)

    def place(row: Row, key: str) -> float:
        values = swept.factors[key]
        number = next(index for index, value in enumerate(values) if same(row.cell.match[key], value))
        return number / (len(values) - 1)

    lines = []
    for row in reversed(rows):  # the best on top
        share = (swept.mean(row) - low) / ((high - low) or 1.0)
        name = ", ".join(f"{short(key)} {text_of(row.cell.match[key])}" for key in swept.factors)
        good = share if swept.quality.better == "higher" else 1 - share
        lines.append(
            (f"{name}: {swept.quality.spell(swept.mean(row))}", [*(place(row, k) for k in swept.factors), share], good)
        )
    marks = [[text_of(value) for value in values] for values in swept.factors.values()]
    marks.append([swept.quality.spell(low), swept.quality.spell(high)])
    return plots.parallel([*map(short, swept.factors), heading(swept.quality)], lines, marks)


def curves(swept: Swept) -> list[plots.Chart]:
    """Curves of the best cells, drawn lightly: what a table's page shows of its cells (`retable.report.curves`)."""
    rows = (swept.rated or list(swept.found.rows))[:_CURVES]
    more = len(swept.found.rows) - len(rows)
    drawn = []
    for one in curve_plots(swept.found.table, rows):
        panels = [panel for panel in one.panels if isinstance(panel, Panel)]
        lines = [line for panel in panels for line in panel.lines]
        if max((len(line.points) for line in lines), default=0) < 2:
            continue
        note = one.note if swept.found.over == "seeds" else one.note.replace("seed", "run")
        notes = [note, f"the {len(rows)} best of {more + len(rows)}" if more else ""]
        keys = tuple(plots.Key(*key) for key in one.keys)
        drawn.append(plots.Chart(one.title, tuple(map(light, panels)), keys, "; ".join(filter(None, notes))))
    return drawn


def light(panel: Panel) -> str:
    values = [value for line in panel.lines for _, _, *ends in line.points for value in ends]
    cut = [place for place, line in enumerate(panel.lines) if line.cut]
    lines = [(line.look, line.label, line.points) for line in panel.lines]
    return plots.curves(
        lines, ", ".join(filter(None, (panel.title, panel.axis))), panel.limits or plots.limits(values), cut
    )
