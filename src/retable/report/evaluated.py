"""A table with its runs, evaluated once: what every page of it shows, whatever its format. Renderers only draw it."""

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from retable.config.keys import is_foreign
from retable.config.precisions import is_full
from retable.errors import in_words
from retable.experiment.metrics import Metric
from retable.experiment.table import Table
from retable.report.alternatives import Variation, nearest_text, untried, variation_lines, variations, with_assumptions
from retable.report.class_tables import Counted, class_tables
from retable.report.curves import Plot, plots
from retable.report.headline import claims_line
from retable.report.intervals import Interval, corrected, finite, interval, method
from retable.report.layout import Layout, layout
from retable.report.reproduce import commit, device, sweep_command
from retable.report.resolution import RESOLVED, UNPAIRED
from retable.report.rows import ByEpoch, Row, table_rows, tables_by_epoch
from retable.report.runs import Assigned, Remark, RunRecord
from retable.report.scale import SAMPLE, alike, scale_of
from retable.report.settings import differing
from retable.report.unpaired import of_two, seeded
from retable.report.verdicts import Verdict, evaluate_claims


@dataclass(frozen=True)
class Evaluated:
    """A table, its runs, and all that is made of them.

    metrics: those that are shown. verdicts: one a claim. differences: of each cell to the baseline in each metric, none
    in a table without one. by_epoch: a table for each metric that was published epoch by epoch. plots: what the charts
    draw. variations: what becomes of it under other assumptions. class_tables: counts of the data by class.
    remarks: what a reader must know before the values. made_by: the command that made it, where that is not the sweep
    of its experiment.
    """

    table: Table
    runs: Assigned
    metrics: tuple[Metric, ...]
    rows: tuple[Row, ...]
    verdicts: tuple[Verdict, ...]
    differences: tuple[Interval, ...]
    by_epoch: tuple[ByEpoch, ...]
    plots: tuple[Plot, ...]
    variations: tuple[Variation, ...]
    class_tables: tuple[Counted, ...]
    remarks: tuple[Remark, ...]
    made_by: str = ""

    @property
    def command(self) -> str:
        """The shell command that makes it."""
        return self.made_by or sweep_command(self.table.name)

    @functools.cached_property
    def layout(self) -> Layout:
        """Where the values stand."""
        return layout(self.table, self.rows, self.metrics)

    @property
    def has_published(self) -> bool:
        """Whether any cell has a published value beside its own."""
        return any(entry.published is not None for row in self.rows for entry in row.entries.values())

    @property
    def regenerated(self) -> bool:
        """Whether it regenerates a publication: not so of other programs' runs of which no figure was published."""
        return is_regenerated(self.table, self.runs)

    @functools.cached_property
    def over(self) -> str:
        """What its figures are means of: seeds, or runs where some have none."""
        return "seeds" if seeded(self.runs.cells) else "runs"

    @functools.cached_property
    def method(self) -> str:
        """How the differences came about."""
        return method([*self.differences, *(one for verdict in self.verdicts for one in verdict.intervals)])

    @functools.cached_property
    def resolved(self) -> str:
        """What resolved means."""
        found = [verdict.resolution for verdict in self.verdicts if verdict.resolution]
        return UNPAIRED if found and all(one.runs for one in found) else RESOLVED

    @property
    def under_assumptions(self) -> list[tuple[list[list[str]], str]]:
        """Of each assumed setting a table of texts, its head first, and which values come nearest to the published."""
        claims = [verdict.id for verdict in self.verdicts]
        return [
            (variation_lines(one, claims, self.metrics), nearest_text(one, self.metrics)) for one in self.variations
        ]

    @property
    def untried(self) -> str:
        return untried(self.table, self.variations)

    @property
    def claims_line(self) -> str:
        return claims_line(self.verdicts)


def evaluate(table: Table, runs: Assigned, made_by: str = "") -> Evaluated:
    rows = table_rows(table, runs)
    verdicts = evaluate_claims(table, runs)
    varied = variations(table, rows, verdicts, runs.alternatives)
    return Evaluated(
        table=table,
        runs=runs,
        metrics=tuple(metric for metric in table.metrics.values() if metric.shown),
        rows=tuple(rows),
        verdicts=tuple(with_assumptions(verdicts, varied)),
        differences=tuple(corrected(differences(table, rows))),
        by_epoch=tuple(tables_by_epoch(table, rows)),
        plots=tuple(_worded(plot, table, runs) for plot in plots(table, rows)),
        variations=tuple(varied),
        class_tables=tuple(class_tables(table.class_tables, rows)),
        remarks=tuple(remarks(table, rows, runs)),
        made_by=made_by,
    )


def is_regenerated(table: Table, runs: Assigned) -> bool:
    return not runs.foreign or any(cell.published for cell in table.cells.values())


def _worded(plot: Plot, table: Table, runs: Assigned) -> Plot:
    title = plot.title if is_regenerated(table, runs) else plot.title.replace("Regenerated figures", "Figures")
    return replace(plot, title=title, note=plot.note if seeded(runs.cells) else plot.note.replace("seed", "run"))


def differences(table: Table, rows: Sequence[Row]) -> list[Interval]:
    """Each cell against the table's baseline in each metric that is shown, in the table's order; none without one."""
    base = next((row for row in rows if row.cell.name == table.baseline), None)
    if base is None:
        return []
    metrics = [metric for metric in table.metrics.values() if metric.shown]
    return [difference(table, row, base, metric) for row in rows if row is not base for metric in metrics]


def difference(table: Table, row: Row, base: Row, metric: Metric) -> Interval:
    """One cell minus the baseline. What lacks the value is left out, which `words` states: a seed, on either side, or a
    run without a seed, which has no partner on the other."""
    name = row.cell.name
    scales = [scale_of(run, one.cell.epochs, one.cell.fraction) for one in (row, base) for run in one.finished]
    if not row.finished or not base.finished:
        lacking = row if not row.finished else base
        words = lacking.entries[metric.name].words
        return Interval(name, metric.name, words=words if lacking is row else f"baseline: {words}")
    if not alike(scales):
        return Interval(name, metric.name, words="runs of different scale")
    left, right = (
        finite(lambda run: metric.value(run, table.metrics), {run.seed: run for run in one.finished})
        for one in (row, base)
    )
    paired = seeded({"": row.finished, "baseline": base.finished})
    if paired:
        found = {seed: left[seed] - right[seed] for seed in left if seed in right}
        total = len({run.seed for run in row.finished} & {run.seed for run in base.finished})
        absent, what = total - len(found), "seeds"
    else:
        total = len(row.finished) + len(base.finished)
        absent, what = total - len(left) - len(right), "runs"
    there = found if paired else left and right
    words = "" if not absent else f"no figure in {absent} of {total} {what}" if there else "no figure"
    if paired:
        made = interval(name, metric.name, found, words)
    elif there:
        made = of_two(name, metric.name, list(left.values()), list(right.values()), words)
    else:
        made = Interval(name, metric.name, words=words)
    return replace(made, differs=differing(table, [base.finished, row.finished]).text)


def other_codes(used: Sequence[RunRecord]) -> list[Remark]:
    """Whether runs were trained by different versions of the user's own modules, between them or one by itself."""
    codes = [record.result.get("code") or {} for record in used]
    listed = []
    for name in sorted({name for code in codes for name in code}):
        counted = Counter(code[name] for code in codes if name in code)
        if len(counted) > 1:
            each = ", ".join(f"{version} ({count} run{'s' if count > 1 else ''})" for version, count in counted.items())
            listed.append(Remark(f"The runs come from different versions of {name}: {each}.", "code"))
    for record in used:
        if modules := record.result.get("code_changed"):
            listed.append(Remark(f"{in_words(modules)} changed while {record.name} was being trained.", "code"))
    return listed


def remarks(table: Table, rows: Sequence[Row], runs: Assigned) -> list[Remark]:
    """What a reader must know before the values: other data, reduced scale, mixed devices, broken directories."""
    used = [record for row in rows for record in row.runs]
    listed = []
    published = any(cell.published for cell in table.cells.values())
    sample = any(record.source == "sample" for record in used)
    if sample:
        parts = ["no claim is judged"] if table.claims else []
        parts += ["nothing is compared with published figures"] if published else []
        listed.append(Remark(f"Made from sample data{': ' if parts else ''}{' and '.join(parts)}.", "data"))
    scales = sorted({row.scale.removeprefix(f"{SAMPLE}, ") for row in rows if row.scale not in ("", SAMPLE)})
    if scales:
        text = f"Reduced scale: {'; '.join(scales)}."
        parts = ["thresholds"] if table.claims else []
        parts += ["differences from published figures"] if published else []
        if parts and not sample:  # of a sample the remark above has said it
            judged = "Claims between cells are judged at this scale; " if table.claims else ""
            sentence = f"{judged}{' and '.join(parts)} are not comparable."
            text += f" {sentence[0].upper()}{sentence[1:]}"
        listed.append(Remark(text, "scale"))
    precisions = {record.precision for record in used if record.precision}
    files = {record.fingerprint for record in used if not is_foreign(record.config)}
    for kind, words, values in (
        ("device", "The runs come from different devices", {device(record) for record in used}),
        ("data", "The runs come from different files of data", files),
        ("precision", "Runs of different precision", precisions),
        ("commit", "The runs come from different versions of the code", {commit(record) for record in used}),
    ):
        found = sorted(values - {""})
        if len(found) > 1:
            listed.append(Remark(f"{words}: {', '.join(found) if kind != 'device' else '; '.join(found)}.", kind))
        elif kind == "precision" and found and not is_full(found[0]):
            listed.append(Remark(f"Trained in {found[0]}, not in float32.", kind))
    listed += other_codes(used) + list(runs.notes)
    if table.assumed:
        listed.append(Remark(f"Assumed: {'; '.join(table.assumed)}.", "assumed"))
    listed += [Remark(f"{note[0].upper()}{note[1:]}.", "note") for note in table.notes]
    return listed + [Remark(f"Broken and left out: {one.path}: {one.reason}.", "broken") for one in runs.broken]
