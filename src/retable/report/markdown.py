"""A table as Markdown in the publication's layout. The same run directories give the same bytes."""

from collections.abc import Sequence

from retable.experiment.metrics import Metric
from retable.experiment.table import Table
from retable.report.evaluated import Entry, Evaluated
from retable.report.intervals import METHOD, Interval, interval_text
from retable.report.layout import heading, layout, published_text
from retable.report.reproduce import sweep_command
from retable.report.verdicts import NOT_COMPARABLE

LEGEND = "Each figure: mean ± sample standard deviation (n seeds) / published / difference. Best in bold."


def report(found: Evaluated, command: str = "") -> str:
    """The whole page: what to know, the table, the differences from its baseline, the claims.

    Args: command: what made the table; by default the sweep of its experiment.
    """
    table = found.table
    parts = [f"# {table.source} · {table.title}", f"`{command or sweep_command(table.name)}`"]
    parts += ["\n".join(f"- {line}" for line in found.remarks)] if found.remarks else []
    parts += [markdown_table(found), LEGEND]
    if found.differences:
        parts.append(differences_section(found))
    if found.verdicts:
        parts.append(claims_section(found))
    return "\n\n".join(parts) + "\n"


def markdown_table(found: Evaluated) -> str:
    laid = layout(found)
    columns = laid.columns
    lines = [
        [name, *("–" if e is None else figure(e, m) for e, m in zip(entries, columns, strict=True))]
        for name, entries in laid.lines
    ]
    return grid([[laid.corner, *laid.heads], *lines])


def figure(entry: Entry, metric: Metric) -> str:
    """E.g. `**63.90 ± 0.40** (3) / 64.48 / -0.58`; with one seed the value alone; words where there is no figure."""
    said = entry.words
    if entry.mean is not None:
        said = metric.spell(entry.mean) + (f" ± {metric.spell(entry.std)}" if entry.std is not None else "")
        said = f"**{said}**" if entry.best else said
        said += f" ({entry.n})" if entry.n > 1 else ""
        said += f" ({entry.words})" if entry.words else ""
    if entry.published is None:
        return said
    said += f" / {published_text(entry.published)}"
    if entry.mean is None:
        return said
    return f"{said} / {NOT_COMPARABLE if entry.difference is None else metric.signed(entry.difference)}"


def grid(lines: Sequence[Sequence[str]]) -> str:
    head, *body = [[text.replace("|", "\\|") for text in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *body])


def differences_section(found: Evaluated) -> str:
    table = found.table
    texts: dict[str, list[str]] = {}
    for one in found.differences:
        texts.setdefault(one.label, []).append(interval_text(one, table.metrics[one.metric]))
    lines = [[f"minus {table.baseline}", *map(heading, found.metrics)]]
    lines += [[name, *said] for name, said in texts.items()]
    return f"## Differences from the baseline\n\n{grid(lines)}\n\n{METHOD}"


def claims_section(found: Evaluated) -> str:
    """The column of intervals is left out where no claim has one."""
    verdicts = found.verdicts
    lines = [["claim", "verdict", "on the published figures"]]
    lines += [[f"{v.id} {v.text}", v.line, v.published] for v in verdicts]
    if any(verdict.intervals for verdict in verdicts):
        lines[0].insert(2, "difference [95 % interval]")
        for line, verdict in zip(lines[1:], verdicts, strict=True):
            line.insert(2, intervals_text(verdict.intervals, found.table) or "–")
    return f"## Claims\n\n{found.claims_line}.\n\n{grid(lines)}"


def intervals_text(intervals: Sequence[Interval], table: Table) -> str:
    return "; ".join(f"{one.label} {interval_text(one, table.metrics[one.metric])}" for one in intervals)
