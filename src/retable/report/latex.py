r"""A table as a LaTeX tabular in the publication's layout, to be put into a paper with \input; needs booktabs.

A figure is `mean ± sample standard deviation (published)`, the best in bold. What a reader must know first (sample
data, reduced scale, mixed devices) stands below the last rule, so that it is printed and not lost in a comment.
"""

from collections.abc import Sequence

from retable.experiment.kinds import spell
from retable.experiment.metrics import Metric
from retable.experiment.table import Table
from retable.report.evaluated import Entry, Row, remarks, table_rows
from retable.report.markdown import column_places, heading, labels, layout, published_text, shown
from retable.report.runs import Assigned

_ESCAPES = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # a line that begins with [ would be an argument of the \\ before it
    "±": r"$\pm$",
    "·": r"$\cdot$",
    "×": r"$\times$",
    "−": "$-$",
    "–": "--",
    "—": "---",
    "²": "$^2$",
    "µ": r"$\mu$",
    "√": r"$\sqrt{}$",
}
_NOTED = ("Made from sample data", "Reduced scale", "Runs of different", "Set for")


def latex_table(table: Table, runs: Assigned) -> str:
    """The whole file: a comment that says where it is from, and the tabular."""
    rows = table_rows(table, runs)
    head, *body = layout(table, rows, latex_figure, absent="--")
    seeds = sorted({entry.n for row in rows for entry in row.entries.values() if entry.n})
    lines = [f"% {' '.join(f'{table.source} {table.title}'.split())}: python train.py -m experiment={table.name}"]
    lines += ["% \\usepackage{booktabs}", f"\\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", "\\toprule"]
    lines += latex_head(table, rows, head)
    lines += ["\\midrule", *(latex_row([escape(line[0]), *line[1:]]) for line in body), "\\bottomrule"]
    notes = [line for line in remarks(table, rows, runs) if line.startswith(_NOTED)]
    if seeds:
        notes.insert(0, figures_note(seeds, rows))
    for note in notes:
        lines.append(
            f"\\multicolumn{{{len(head)}}}{{@{{}}p{{\\linewidth}}@{{}}}}{{\\footnotesize {escape(note)}}} \\\\"
        )
    return "\n".join([*lines, "\\end{tabular}"]) + "\n"


def figures_note(seeds: Sequence[int], rows: Sequence[Row]) -> str:
    count = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    said = f"Mean ± sample standard deviation over {count} seeds" if seeds[-1] > 1 else "One seed"
    published = any(entry.published for row in rows for entry in row.entries.values())
    return f"{said}{', published value in parentheses' if published else ''}. Best in bold."


def latex_head(table: Table, rows: Sequence[Row], head: Sequence[str]) -> list[str]:
    """Two lines where columns are grouped and each group holds several metrics, else one."""
    metrics = shown(table)
    places = column_places(table, rows) if table.rows else [()]
    if not (table.rows and table.columns and len(metrics) > 1):
        return [latex_row(map(escape, head))]
    groups, rules = [""], []
    for number, place in enumerate(places):
        name = escape(" ".join(labels(table, table.columns, place)))
        first = 2 + number * len(metrics)
        groups.append(f"\\multicolumn{{{len(metrics)}}}{{c}}{{{name}}}")
        rules.append(f"\\cmidrule(lr){{{first}-{first + len(metrics) - 1}}}")
    names = [escape(head[0]), *(escape(heading(metric)) for _ in places for metric in metrics)]
    return [latex_row(groups), "".join(rules), latex_row(names)]


def latex_row(texts: Sequence[str] | map) -> str:
    return f"{' & '.join(texts)} \\\\"


def latex_figure(entry: Entry, metric: Metric) -> str:
    r"""E.g. `\textbf{63.90 $\pm$ 0.40} (64.48)`; words where there is no figure."""
    said = escape(entry.words)
    if entry.mean is not None:
        said = minus(spell(entry.mean, metric))
        said += f" $\\pm$ {spell(entry.std, metric)}" if entry.std is not None else ""
        said = f"\\textbf{{{said}}}" if entry.best else said
        said += f" [{escape(entry.words)}]" if entry.words else ""
    if entry.published is None:
        return said
    return f"{said} ({minus(escape(published_text(entry.published, metric)))})"


def minus(text: str) -> str:
    return f"$-${text[1:]}" if text.startswith("-") else text


def escape(text: str) -> str:
    """Every character that LaTeX takes for a command, as the character itself."""
    return "".join(_ESCAPES.get(character, character) for character in text)
