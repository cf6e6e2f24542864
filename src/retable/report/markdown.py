"""A table as Markdown in the publication's layout. The same run directories give the same bytes."""

from collections.abc import Sequence

from retable.experiment.metrics import Metric
from retable.report.alternatives import UNDER
from retable.report.evaluated import Evaluated
from retable.report.intervals import interval_text
from retable.report.layout import Layout, epoch_layout, heading, published_text
from retable.report.rows import Entry
from retable.report.verdicts import NOT_COMPARABLE

LEGEND = "Each figure: mean ± sample standard deviation (n {}){}. Best in bold."


def report(found: Evaluated) -> str:
    """The whole page: what to know, the table, the differences from its baseline, the claims."""
    table = found.table
    parts = [f"# {table.source} · {table.title}", f"`{found.command}`"]
    parts += ["\n".join(f"- {line}" for line in found.remarks)] if found.remarks else []
    parts += [
        markdown_table(found),
        LEGEND.format(found.over, " / published / difference" if found.has_published else ""),
    ]
    for one in found.by_epoch:
        parts += [f"## By epoch: {heading(one.metric)}", grid_of(epoch_layout(one))]
    for counts in found.class_tables:
        parts.append(f"## {counts.title}")
        parts += [part for name, lines in counts.sides for part in (f"{name.capitalize()}:", grid(lines))]
        parts += [f"{counts.table.note[0].upper()}{counts.table.note[1:]}."] if counts.table.note else []
    if found.differences:
        parts.append(differences_section(found))
    if found.verdicts:
        parts.append(claims_section(found))
    if found.variations:
        parts += ["## Under other assumptions", UNDER, found.untried]
    for lines, nearest in found.under_assumptions:
        parts += [grid(lines), nearest]
    return "\n\n".join(part for part in parts if part) + "\n"


def markdown_table(found: Evaluated) -> str:
    return grid_of(found.layout)


def grid_of(laid: Layout) -> str:
    columns = laid.columns
    lines = [
        [name, *("–" if e is None else value_text(e, m) for e, m in zip(entries, columns, strict=True))]
        for name, entries in laid.lines
    ]
    return grid([[laid.corner, *laid.heads], *lines])


def value_text(entry: Entry, metric: Metric) -> str:
    """E.g. `**63.90 ± 0.40** (3) / 64.48 / -0.58`; with one seed the value alone; words where there is no value."""
    text = entry.words
    if entry.mean is not None:
        text = metric.spell(entry.mean) + (f" ± {metric.spell(entry.std)}" if entry.std else "")
        text = f"**{text}**" if entry.best else text
        text += f" ({entry.n})" if entry.n > 1 else ""
        text += f" ({entry.words})" if entry.words else ""
    if entry.published is None:
        return text
    text += f" / {published_text(entry.published)}"
    if entry.mean is None:
        return text
    return f"{text} / {NOT_COMPARABLE if entry.difference is None else metric.signed(entry.difference)}"


def grid(lines: Sequence[Sequence[str]]) -> str:
    head, *body = [[text.replace("|", "\\|") for text in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *body])


def differences_section(found: Evaluated) -> str:
    table = found.table
    texts: dict[str, list[str]] = {}
    for one in found.differences:
        texts.setdefault(one.label, []).append(interval_text(one, table.metrics[one.metric]))
    differs = {one.label: one.differs for one in found.differences}
    lines = [[f"minus {table.baseline}", *map(heading, found.metrics), "differs in"]]
    lines += [[name, *values, differs[name] or "–"] for name, values in texts.items()]
    return f"## Differences from the baseline\n\n{grid(lines)}\n\n{found.method}"


def claims_section(found: Evaluated) -> str:
    """The column of intervals is left out where no claim has one."""
    verdicts = found.verdicts
    lines = [["claim", "verdict", "on the published figures"]]
    lines += [[f"{v.id} {v.text}", v.line, v.published] for v in verdicts]
    lines = lines if found.regenerated else [line[:2] for line in lines]
    evidence = ["; ".join(verdict.evidence(found.table.metrics)) for verdict in verdicts]
    if any(evidence):
        lines[0].insert(2, "difference [95 % interval]")
        for line, text in zip(lines[1:], evidence, strict=True):
            line.insert(2, text or "–")
    return f"## Claims\n\n{found.claims_line}.\n\n{grid(lines)}" + (f"\n\n{found.resolved}" if any(evidence) else "")
