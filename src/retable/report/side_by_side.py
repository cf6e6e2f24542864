"""Two folders of runs side by side (two machines, two versions of the code): cell by cell, with what changed."""

from collections.abc import Callable, Sequence

from retable.config.keys import lookup
from retable.experiment.metrics import Metric
from retable.report.evaluated import Evaluated
from retable.report.layout import heading
from retable.report.markdown import grid
from retable.report.reproduce import commit, device, versions_text
from retable.report.rows import Entry, Row
from retable.report.runs import RunRecord
from retable.report.settings import keys_that_differ

COMPARE = "compare.md"


def side_by_side(names: tuple[str, str], left: Sequence[Evaluated], right: Sequence[Evaluated]) -> str:
    """The page, as Markdown, of the tables of which both have runs; empty where there is none.

    Args: names: how the two folders are called.
    """
    theirs = {found.table.name: found for found in right}
    sections = []
    for ours in left:
        other = theirs.get(ours.table.name)
        if other and (own := cells(names, ours, other)):
            sections += [f"## {ours.table.source} · {ours.table.title}", own, *claims(names, ours, other)]
    return "\n\n".join([f"# {names[0]} and {names[1]}", *sections]) + "\n" if sections else ""


def cells(names: tuple[str, str], left: Evaluated, right: Evaluated) -> str:
    """A line a cell of which both have a finished run: each metric on both sides, the difference, and what changed."""
    theirs = {row.cell.name: row for row in right.rows}
    lines = [["cell"]]
    for metric in left.metrics:
        lines[0] += [f"{heading(metric)}: {names[0]}", names[1], "difference"]
    lines[0].append("what changed")
    for row in left.rows:
        other = theirs.get(row.cell.name)
        if not other or not row.finished or not other.finished:
            continue
        line = [row.cell.name]
        for metric in left.metrics:
            a, b = row.entries[metric.name], other.entries[metric.name]
            difference = "–" if a.mean is None or b.mean is None else metric.signed(b.mean - a.mean)
            line += [_value(a, metric), _value(b, metric), difference]
        lines.append([*line, changed(row, other) or "nothing"])
    return grid(lines) if len(lines) > 1 else ""


def changed(left: Row, right: Row) -> str:
    """What tells one side's runs from the other's, e.g. `optimizer.lr: 0.1 → 0.2; device: A (cpu) → B (cuda)`."""
    a, b = left.finished[0], right.finished[0]
    ours, theirs = facts(left.finished), facts(right.finished)
    changes = [
        f"{key}: {lookup(a.config, key, '–')} → {lookup(b.config, key, '–')}" for key in sorted(keys_that_differ(a, b))
    ]
    seeds = [", ".join(str(run.seed) for run in row.finished if run.seeded) for row in (left, right)]
    changes += [f"seeds: {seeds[0]} → {seeds[1]}"] if all(seeds) and seeds[0] != seeds[1] else []
    changes += [f"{name}: {ours[name]} → {theirs[name]}" for name in ours if ours[name] != theirs[name]]
    return "; ".join(changes)


def facts(records: Sequence[RunRecord]) -> dict[str, str]:
    """How runs came to be, each fact with all the values that it has among them."""
    known: dict[str, Callable[[RunRecord], str | None]] = {
        "device": device,
        "precision": lambda run: run.precision,
        "versions": versions_text,
        "commit": commit,
        "data": lambda run: run.fingerprint,
    }
    return {name: ", ".join(dict.fromkeys(value(run) or "–" for run in records)) for name, value in known.items()}


def claims(names: tuple[str, str], left: Evaluated, right: Evaluated) -> list[str]:
    """Claims and what they come to on both sides; nothing for a table without."""
    lines = [["claim", *names]]
    for a, b in zip(left.verdicts, right.verdicts, strict=True):
        lines.append([f"{a.id} {a.text}", *(", ".join(filter(None, (v.verdict, v.certainty))) for v in (a, b))])
    return [grid(lines)] if len(lines) > 1 else []


def _value(entry: Entry, metric: Metric) -> str:
    if entry.mean is None:
        return entry.words
    spread = f" ± {metric.spell(entry.std)}" if entry.std else ""
    return f"{metric.spell(entry.mean)}{spread}" + (f" ({entry.n})" if entry.n > 1 else "")
