r"""A table as a LaTeX tabular in the publication's layout, to be put into a paper with \input; needs booktabs.

A value is `mean ± sample standard deviation (published)`, the best in bold. What a reader must know first (sample
data, reduced scale, mixed devices) stands below the last rule, so that it is printed and not lost in a comment.
"""

from collections.abc import Iterable

from retable.experiment.metrics import Metric
from retable.report.evaluated import Evaluated
from retable.report.layout import Layout, epoch_layout, heading, published_text
from retable.report.rows import Entry

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
_NOTED = ("data", "scale", "device", "precision", "setting")


def latex_table(found: Evaluated) -> str:
    """The whole file: a comment that says where it is from, and the tabular."""
    return "\n".join([*latex_origin(found), *tabular(found, found.layout)]) + "\n"


def latex_by_epoch(found: Evaluated) -> str:
    """The file of what was published epoch by epoch: a tabular for each metric; empty where nothing was."""
    tabulars = [line for one in found.by_epoch for line in (*tabular(found, epoch_layout(one)), "")]
    return "\n".join([*latex_origin(found), *tabulars[:-1]]) + "\n" if tabulars else ""


def latex_origin(found: Evaluated) -> list[str]:
    heading = " ".join(f"{found.table.source} {found.table.title}".split())
    command = " ".join(found.command.splitlines())  # a comment ends with its line
    return [f"% {heading}: {command}", "% \\usepackage{booktabs}"]


def tabular(found: Evaluated, laid: Layout) -> list[str]:
    """The lines of a tabular, with what a reader must know below it."""
    width = 1 + len(laid.columns)
    lines = [f"\\begin{{tabular}}{{l{'r' * (width - 1)}}}", "\\toprule", *latex_head(laid), "\\midrule"]
    for name, entries in laid.lines:
        values = ("--" if e is None else latex_value(e, m) for e, m in zip(entries, laid.columns, strict=True))
        lines.append(latex_row([escape(name), *values]))
    lines.append("\\bottomrule")
    notes = [remark for remark in found.remarks if remark.kind in _NOTED]
    for note in [*values_note(laid, found.over), *notes]:
        lines.append(f"\\multicolumn{{{width}}}{{@{{}}p{{\\linewidth}}@{{}}}}{{\\footnotesize {escape(note)}}} \\\\")
    return [*lines, "\\end{tabular}"]


def values_note(laid: Layout, over: str) -> list[str]:
    """What a value consists of; nothing where there is none. Args: over: what means are taken over, seeds or runs."""
    entries = [entry for _, line in laid.lines for entry in line if entry]
    seeds = sorted({entry.n for entry in entries if entry.n})
    if not seeds:
        return []
    count = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    sentence = f"Mean ± sample standard deviation over {count} {over}" if seeds[-1] > 1 else f"One {over[:-1]}"
    published = any(entry.published for entry in entries)
    best = " Best in bold." if any(entry.best for entry in entries) else ""
    return [f"{sentence}{', published value in parentheses' if published else ''}.{best}"]


def latex_head(laid: Layout) -> list[str]:
    """Two lines where columns are grouped and each group holds several metrics, else one."""
    count = len(laid.metrics)
    if not any(laid.groups) or count == 1:
        return [latex_row(map(escape, [laid.corner, *laid.heads]))]
    groups, rules = [""], []
    for number, group in enumerate(laid.groups):
        first = 2 + number * count
        groups.append(f"\\multicolumn{{{count}}}{{c}}{{{escape(group)}}}")
        rules.append(f"\\cmidrule(lr){{{first}-{first + count - 1}}}")
    names = [escape(laid.corner), *(escape(heading(metric)) for metric in laid.columns)]
    return [latex_row(groups), "".join(rules), latex_row(names)]


def latex_row(texts: Iterable[str]) -> str:
    return f"{' & '.join(texts)} \\\\"


def latex_value(entry: Entry, metric: Metric) -> str:
    r"""E.g. `\textbf{63.90 $\pm$ 0.40} (64.48)`; words where there is no value."""
    text = escape(entry.words)
    if entry.mean is not None:
        text = minus(metric.spell(entry.mean))
        text += f" $\\pm$ {metric.spell(entry.std)}" if entry.std else ""
        text = f"\\textbf{{{text}}}" if entry.best else text
        text += f" [{escape(entry.words)}]" if entry.words else ""
    if entry.published is None:
        return text
    return f"{text} ({' to '.join(minus(escape(end)) for end in published_text(entry.published).split(' to '))})"


def minus(text: str) -> str:
    return f"$-${text[1:]}" if text.startswith("-") else text


def escape(text: str) -> str:
    """Every character that LaTeX takes for a command, as the character itself."""
    return "".join(_ESCAPES.get(character, character) for character in text)
