"""One table of a sweep from its run directories, whatever happened: only the columns that vary, and the results."""

import csv
import io
import math
import sys
from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any

from retable import atomic
from retable.config.keys import differing, lookup
from retable.run.files import FINISHED
from retable.sweeps.plan import Plan, Run
from retable.sweeps.store import status_of, summary

_SHOWN = 200  # rows on a terminal


def rows(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """A row a run, in the order of the sweep: what varies, the final metrics, status, epochs, time, directory."""
    found = []
    columns = differing([run.varied for run in runs])
    metrics: dict[str, None] = {}
    ends = [summary(run.directory) or {} for run in runs]
    for end in ends:
        metrics |= dict.fromkeys(key for key in end.get("final", {}) if not key.startswith(("epoch", "test/")))
    for run, end in zip(runs, ends, strict=True):
        row: dict[str, Any] = {"run": run.name} if not columns else {}
        row |= {key: run.varied.get(key, _at(run.config, key)) for key in columns}
        row |= {key: end.get("final", {}).get(key) for key in sorted(metrics, key=_metric_order)}
        row |= {"epochs": end.get("epochs"), "status": end.get("status") or status_of(run.directory)}
        row |= {"seconds": end.get("seconds"), "directory": str(run.directory)}
        found.append(row)
    return found


def over_seeds(found: Sequence[dict[str, Any]]) -> str | None:
    """Each metric's mean ± sample standard deviation over finished runs of one setting; None for anything else.

    >>> over_seeds([{"seed": n, "val/loss": v, "status": "finished"} for n, v in ((0, 0.5), (1, 1.0), (2, 1.5))])
    'over 3 seeds: val/loss 1.0000 ± 0.5000'
    """
    ended = [row for row in found if row["status"] == FINISHED]
    beside = ("epochs", "status", "seconds", "directory")
    metrics = [key for key in (found[0] if found else ()) if key not in ("seed", *beside) and "." not in key]
    metrics = [key for key in metrics if all(isinstance(row.get(key), float | None) for row in ended)]
    if len(ended) < 2 or set(found[0]) - {"seed", *beside, *metrics} or "seed" not in found[0]:
        return None
    values = {key: [row[key] for row in ended] for key in metrics}
    whole = {key: v for key, v in values.items() if all(one is not None and math.isfinite(one) for one in v)}
    parts = [f"{key} {_text(key, mean(v))} ± {_text(key, stdev(v))}" for key, v in whole.items()]
    return f"over {len(ended)} seeds: {'  '.join(parts)}" if parts else None


def write(plan: Plan, found: Sequence[dict[str, Any]]) -> None:
    """Write results.csv and results.md to the sweep's folder."""
    atomic.write_text(plan.folder / "results.csv", as_csv(found))
    atomic.write_text(plan.folder / "results.md", as_markdown(found, plan))


def note(plan: Plan) -> None:
    """Leave beside the table of a sweep without an experiment which runs it is of, for its page."""
    if not plan.tables:
        from retable.report.reproduce import product_command
        from retable.report.sweep_page import note_sweep

        command = product_command([run.overrides for run in plan.runs])
        note_sweep(plan.folder, plan.label, command, [(run.directory, run.varied) for run in plan.runs])


def as_csv(found: Sequence[dict[str, Any]]) -> str:
    """Full precision; empty cells where a run has no value."""
    text = io.StringIO()
    columns = list(dict.fromkeys(key for row in found for key in row))
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value is None else value for key, value in row.items()} for row in found)
    return text.getvalue()


def as_markdown(found: Sequence[dict[str, Any]], plan: Plan) -> str:
    """A table for people, with a note where the data were synthetic."""
    columns = _shown(found)
    lines = [f"# {plan.label}", ""]
    if sample(plan.runs):
        lines += ["**Made from synthetic sample data: for trying things out, not comparable with anything.**", ""]
    lines.append("| " + " | ".join(columns) + " |")
    lines.append("|" + "|".join("---" for _ in columns) + "|")
    lines += ["| " + " | ".join(_text(key, row.get(key)) for key in columns) + " |" for row in found]
    if (means := over_seeds(found)) is not None:
        lines += ["", means]
    return "\n".join(lines) + "\n"


def show(plan: Plan, found: Sequence[dict[str, Any]]) -> Any:
    """Print the table; the console, on which more may follow."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 160)
    note = " (synthetic sample data)" if sample(plan.runs) else ""
    console.print(as_rich(found, plan.label + note, console.width))
    return console


def as_rich(found: Sequence[dict[str, Any]], title: str, width: int | None = None) -> Any:
    """The table for a terminal of so many columns: what varied and the task's own metric, and of the rest what fits."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", header_style="bold")
    whole = _shown(found)
    columns = whole if width is None else _that_fit(found[:_SHOWN], whole, width)
    for key in columns:
        justify = "left" if key in ("run", "status") else "right"
        table.add_column(key, justify=justify, no_wrap=key == "status", overflow="fold")
    for row in found[:_SHOWN]:
        style = None if row["status"] == FINISHED else "yellow"
        table.add_row(*(Text(_text(key, row.get(key))) for key in columns), style=style)  # Text: no markup in values
    left = [f"{len(found) - _SHOWN:,} more"] if len(found) > _SHOWN else []
    left += [", ".join(key for key in whole if key not in columns)] if len(columns) < len(whole) else []
    if left:
        table.caption, table.caption_justify = f"and {'; '.join(left)}: in results.md and results.csv", "left"
    return table


def _that_fit(found: Sequence[dict[str, Any]], columns: Sequence[str], width: int) -> list[str]:
    """Columns that are together not wider; what is of least interest is left out first, what varied never."""
    metrics = [key for key in columns if key.startswith(("train/", "val/"))]
    own = metrics[0].partition("/")[2] if metrics else ""
    others = [key for key in reversed(metrics) if key.partition("/")[2] != own]
    others.sort(key=lambda key: key.startswith("val/"))
    least = ["seconds", "epochs", *others, f"train/{own}"]
    if all(row["status"] == FINISHED for row in found):
        least.append("status")
    kept = list(columns)
    needed = {
        key: max(len(text) for text in (key, *(_text(key, row.get(key)) for row in found))) + 3 for key in columns
    }
    for key in least:
        if sum(needed[one] for one in kept) + 1 <= width:
            break
        if key in kept:
            kept.remove(key)
    return kept


def sample(runs: Sequence[Run]) -> bool:
    """Whether any run reads synthetic data."""
    return any(run.config["data"].get("source") == "sample" for run in runs)


def _shown(found: Sequence[dict[str, Any]]) -> list[str]:
    columns = list(dict.fromkeys(key for row in found for key in row))
    return [key for key in columns if key != "directory"]


def _text(key: str, value: Any) -> str:
    if value is None:
        return "–"
    if key == "seconds":
        return f"{value:.0f} s"
    if isinstance(value, float) and ("/" in key or "." not in key):  # a metric; settings of numbers are in sections
        return f"{value:.4f}" if value == 0 or abs(value) >= 1e-3 else f"{value:.3g}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _metric_order(key: str) -> tuple[int, int]:
    split, _, name = key.partition("/")
    return (name == "loss", split == "val")


def _at(config: dict[str, Any], key: str) -> Any:
    node = lookup(config, key)
    if isinstance(node, dict):
        return node.get("name")
    return node
