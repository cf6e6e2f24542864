"""The pages of the gallery say what its runs say: every figure worked out again here from the runs' own files.

Nothing of the report's code is used: experiments are read as YAML, histories and results as CSV and JSON.
"""

import csv
import json
import math
import os
import re
from pathlib import Path
from statistics import fmean, stdev
from urllib.parse import unquote

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGES = sorted(path.parent for path in (ROOT / "results").glob("*/tables/**/report.csv"))
NAMES = [str(page.relative_to(ROOT / "results")) for page in PAGES]


def at(node, key):
    for part in key.split("."):
        node = node[int(part)] if isinstance(node, list) else (node or {}).get(part)
    return node


def experiment(page):
    name = page.relative_to(next(parent for parent in page.parents if parent.name == "tables"))
    return yaml.safe_load((ROOT / "conf/experiment" / f"{name}.yaml").read_text())["table"]


def beside(page):
    """What a page says was set for every run beside its experiment, by key."""
    found = re.search(
        r"^- Set for every run beside the experiment: (.+)\.$", (page / "report.md").read_text(), re.MULTILINE
    )
    pairs = [text.partition("=") for text in found[1].split()] if found else []
    return {key: yaml.safe_load(text) for key, _, text in pairs}


def rows_of(run):
    with (run / "history.csv").open() as file:
        return [{key: float(text) for key, text in row.items() if text} for row in csv.DictReader(file)]


def value(run, name, metrics, epoch=None):
    """One figure of a run, in the published unit; the last epoch's, or that of an epoch."""
    metric = metrics[name]
    scale = metric.get("scale", 1)
    if "column" in metric:
        rows = [row for row in rows_of(run) if metric["column"] in row]
        if "reach" in metric:
            return min(
                (r["epoch"] for r in rows if r[metric["column"]] * scale >= metric["reach"] - 1e-9), default=math.inf
            )
        row = rows[-1] if epoch is None else next(row for row in rows if row["epoch"] == epoch)
        return row[metric["column"]] * scale
    if "result" in metric:
        result = json.loads((run / "result.json").read_text())
        if metric["result"] == "seconds_per_step":
            return scale / result["steps_per_second"]
        return at(result, metric["result"]) * scale
    parts = metric.get("difference") or metric["mean"]
    found = [value(run, part, metrics, epoch) if isinstance(part, str) else part for part in parts]
    return (found[0] - found[1] if "difference" in metric else fmean(found)) * scale


def of_the_table(page):
    """The finished runs that a page lists under the table's own assumptions, by cell, and the figures of each."""
    cells = experiment(page)["cells"]
    return {cell: runs for cell, runs in runs_on(page).items() if cell in cells}


def of_alternatives(page):
    """Those under other assumptions: (key, value) -> cell -> runs."""
    cells, found = experiment(page)["cells"], {}
    for label, runs in runs_on(page).items():
        if label not in cells:
            cell, _, setting = label.rpartition(", ")
            key, _, text = setting.partition("=")
            found.setdefault((key, yaml.safe_load(text)), {})[cell] = runs
    return found


def runs_on(page):
    """The finished runs that a page lists, by cell, from its links; and the figures that it gives of each."""
    text = (page / "index.html").read_text()
    body = text[text.index('id="runs"') :]
    found = {}
    for line in re.findall(
        r'<tr><th scope="row"><a href="([^"]*)/">.*?<td class="text">([^<]*)</td>(.*?)</tr>', body, re.DOTALL
    ):
        folder = Path(os.path.normpath(page / unquote(line[0])))
        figures = re.findall(r'data-sort="([^"]*)"', line[2])
        if json.loads((folder / "result.json").read_text())["status"] == "finished":
            found.setdefault(line[1].replace("&amp;", "&"), []).append((folder, figures))
    return found


def equal(left, right):
    return left == right or math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-12)


def test_there_are_pages():
    assert PAGES


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_figure_is_what_the_runs_recorded(page):
    table = experiment(page)
    metrics = {name: metric for name, metric in table["metrics"].items() if metric.get("shown", True)}
    runs = of_the_table(page)
    assert runs
    shown = list(csv.DictReader((page / "report.csv").open()))
    assert [(line["cell"], line["metric"]) for line in shown if line["cell"] == shown[0]["cell"]] == [
        (shown[0]["cell"], name) for name in metrics
    ]
    markdown = (page / "report.md").read_text()
    for line in shown:
        cell, name = line["cell"], line["metric"]
        published = (table["cells"][cell].get("published") or {}).get(name)
        if isinstance(published, dict) and "curve" in published:
            published = published["curve"][-1]
        if isinstance(published, int | float):
            assert float(line["published"]) == published
        if cell not in runs:
            assert (line["mean"], bool(line["words"])) == ("", True)  # missing, failed, diverged
            continue
        if line["words"] == "not recorded":
            continue
        values = [value(folder, name, table["metrics"]) for folder, _ in runs[cell]]
        if any(math.isinf(one) for one in values):
            assert "never" in line["words"]
            continue
        assert equal(float(line["mean"]), fmean(values)), (cell, name)
        assert int(line["n"]) == len(values)
        if len(values) > 1:
            assert math.isclose(float(line["std"]), stdev(values), rel_tol=1e-6, abs_tol=1e-9)
        digits = metrics[name].get("digits", 2)
        assert f"{fmean(values):.{digits}f}".removeprefix("-" if fmean(values) > -(10**-digits) / 2 else "") in markdown


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_the_html_page_has_the_same_figures(page):
    table = experiment(page)
    metrics = [name for name, metric in table["metrics"].items() if metric.get("shown", True)]
    assumed = {key: entry[key] for entry in table.get("assumed", []) if isinstance(entry, dict) for key in entry}
    listed = [({}, cell, runs) for cell, runs in of_the_table(page).items()]
    for setting, cells in of_alternatives(page).items():
        listed += [(dict([setting]), cell, runs) for cell, runs in cells.items()]
    for given, cell, runs in listed:
        for folder, figures in runs:
            config = json.loads((folder / "run.json").read_text())["config"]
            wanted = table["cells"][cell]["match"]
            assert {key: at(config, key) for key in wanted} == wanted
            settings = {key: value for key, value in assumed.items() if key not in ("or", "note")}
            settings |= beside(page) | given
            named = {key: at(config, key) for key in settings}
            named = {key: value["name"] if isinstance(value, dict) else value for key, value in named.items()}
            assert {key: value for key, value in named.items() if key not in wanted} == {
                key: value for key, value in settings.items() if key not in wanted
            }
            own = [value(folder, name, table["metrics"]) for name, text in zip(metrics, figures, strict=False) if text]
            figures = [text for text in figures[: len(metrics)] if text]
            assert all(map(equal, own, map(float, figures))), (cell, own, figures)
    text = (page / "index.html").read_text()
    body = text[text.index('id="figures"') : text.index("</table>", text.index('id="figures"'))]
    means = [float(line["mean"]) for line in csv.DictReader((page / "report.csv").open()) if line["mean"]]
    on_page = [float(one) for one in re.findall(r'<td data-sort="([^"]+)"', body)]
    assert set(on_page) == set(means)


@pytest.mark.parametrize("page", [page for page in PAGES if (page / "epochs.csv").exists()])
def test_every_epoch_is_what_the_runs_recorded(page):
    table, runs = experiment(page), of_the_table(page)
    for line in csv.DictReader((page / "epochs.csv").open()):
        if line["mean"]:
            values = [
                value(run, line["metric"], table["metrics"], float(line["epoch"])) for run, _ in runs[line["cell"]]
            ]
            assert equal(float(line["mean"]), fmean(values))


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_what_an_assumption_moves_is_what_the_runs_recorded(page):
    """Of each metric the mean change over the cells that were trained both ways, and the mean distance from the
    published figures."""
    table, base, alternatives = experiment(page), of_the_table(page), of_alternatives(page)
    lines = (page / "report.md").read_text().partition("## Under other assumptions")[2].splitlines()
    rows = {}
    for line in lines:
        words = [word.strip() for word in line.strip("|").split("|")]
        if len(words) < 3 or set(words[0]) == {"-"}:
            continue
        if words[1] == "cells":
            header = words
        else:
            rows[header[0], yaml.safe_load(words[0].removesuffix("(assumed)"))] = dict(zip(header, words, strict=True))
    assert {setting for setting, row in rows.items() if row["cells"] != "0"} >= set(alternatives)
    for setting, cells in alternatives.items():
        row = rows[setting]
        assert row["cells"] == str(len(cells))
        for name, metric in table["metrics"].items():
            digits, shown = metric.get("digits", 2), row[name.replace("_", " ")]
            after, before = (
                {cell: fmean(value(run, name, table["metrics"]) for run, _ in found[cell]) for cell in found}
                for found in (cells, {cell: base[cell] for cell in cells if cell in base})
            )
            change = fmean(after[cell] - before[cell] for cell in before)
            published = {cell: (table["cells"][cell].get("published") or {}).get(name) for cell in after}
            wanted = [f"{change:+.{digits}f}"]
            if far := [abs(after[cell] - figure) for cell, figure in published.items() if figure is not None]:
                wanted.append(f"{fmean(far):.{digits}f} from published")
            assert shown == ", ".join(wanted), (setting, name)


@pytest.mark.parametrize("hardware", sorted({name.split("/")[0] for name in NAMES}))
def test_every_run_of_the_gallery_is_on_a_page(hardware):
    folder = ROOT / "results" / hardware
    listed = {run for page in PAGES if folder in page.parents for runs in runs_on(page).values() for run, _ in runs}
    assert {path.parent for path in folder.glob("*/*/run.json")} <= listed
