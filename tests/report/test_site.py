"""The pages of tables: what they say, that they stand alone, and that the same directories give the same bytes."""

import html
import json
import re
import time
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from retable.experiment.table import parse_table
from retable.report.evaluated import evaluate
from retable.report.index import write_site
from retable.report.latex import latex_table
from retable.report.markdown import markdown_table
from retable.report.pictures import kept, representatives
from retable.report.reproduce import command, single
from retable.report.runs import assign, read_runs

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8ffff3f0005fe02fe0def46b8"
    "0000000049454e44ae426082"
)
B_BEST = {"text": "b is best", "kind": "best", "metric": "val", "cell": "b"}
C_BEST = {"text": "c is best", "kind": "best", "metric": "val", "cell": "c"}
HIGH = {"text": "b reaches 70 %", "kind": "at_least", "metric": "val", "of": ["b"], "value": 70}


def page_of(table, folder, *paths):
    """The text of a table's page."""
    write_site([evaluate(table, assign(table, read_runs(paths)))], folder)
    return (folder / table.name / "index.html").read_text()


def add(path, **values):
    """Add keys to a written run's run.json."""
    run = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps(run | values))


def text_of(page):
    """The words that a reader sees."""
    page = re.sub(r"<(style|script|svg)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


@pytest.fixture
def three(make_run, write_run, tmp_path):
    """Three cells, two seeds, in directories below `runs`."""
    for cell, level in (("a", 0.5), ("b", 0.6), ("c", 0.4)):
        for seed in (0, 1):
            record = make_run(cell, [level - 0.1, level + 0.01 * seed], seed=seed, seconds_per_step=0.01)
            path = write_run(record, f"runs/{record.name}")
            add(path, overrides=["experiment=toy/table", f"model={cell}", "sweep.workers=1", f"seed={seed}"])
            for name in ("config.yaml", "log.txt"):
                (path / name).write_text(name)
            (path / "figures").mkdir()
            (path / "figures" / "confusion_val.png").write_bytes(PNG)
    return tmp_path / "runs"


@pytest.mark.usefixtures("no_charts")
def test_the_page_says_each_figure_with_its_spread_seeds_and_published_value(make_table, three, tmp_path):
    text = text_of(page_of(make_table(B_BEST, C_BEST), tmp_path / "tables", three))
    assert "60.50 ± 0.71 ★ best n = 2 published 60 , +0.50" in text
    assert "40.50 ± 0.71 n = 2 published 40 , +0.50" in text
    assert "1 of 2 claims hold" in text
    assert "T1 (1) b is best ✓ holds" in text
    assert "T1 (2) c is best ✗ does not hold" in text
    assert "Differences to the baseline" in text


def test_the_same_directories_give_the_same_bytes(make_table, three, tmp_path):
    table = make_table(B_BEST)
    first = page_of(table, tmp_path / "one", three)
    assert page_of(table, tmp_path / "two", three) == first
    assert (tmp_path / "one/index.html").read_bytes() == (tmp_path / "two/index.html").read_bytes()


def test_the_page_stands_alone_and_its_links_lead_to_the_runs_files(make_table, three, tmp_path):
    folder = tmp_path / "tables"
    page = page_of(make_table(B_BEST), folder, three)
    assert "http" not in page
    assert str(tmp_path) not in page
    links = [unquote(link) for link in re.findall(r'(?:href|src)="([^"#]+)"', page) if not link.startswith("data:")]
    assert len(links) > 6 * 5
    missing = [link for link in links if not (folder / "toy/table" / link).exists()]
    assert missing == []
    assert {link.rpartition("/")[2] for link in links} >= {"config.yaml", "log.txt", "history.csv", "result.json"}
    assert any(link.endswith("figures/confusion_val.png") for link in links)
    # The best cell's, the baseline's and the third's; as files, so that the page stays small.
    assert len(re.findall(r'<img src="[^"]*figures/confusion_val.png" loading="lazy"', page)) == 3
    assert "base64" not in page


def test_every_tag_is_closed_and_no_id_is_used_twice(make_table, three, tmp_path):
    check = Tags()
    check.feed(page_of(make_table(B_BEST, C_BEST), tmp_path / "tables", three))
    assert check.faults == []
    assert check.open == []
    assert len(check.ids) == len(set(check.ids))


@pytest.mark.usefixtures("no_charts")
def test_cells_that_did_not_finish_are_shown_in_words(make_table, make_run, write_run, tmp_path):
    write_run(make_run("a", [0.4, 0.5]))
    write_run(make_run("b", [0.4], status="failed", reason="out of <memory>"))
    folder = write_run(make_run("a", [0.4], seed=1, status="unfinished"))
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "run.json").write_text("{")
    page = page_of(make_table(B_BEST), tmp_path / "tables", tmp_path)
    text = text_of(page)
    assert "failed published 80" in text
    assert "missing published 60" in text
    assert "1 of 2 unfinished" in text
    assert "running or interrupted" in text
    assert "out of &lt;memory&gt;" in page
    assert "1 broken directory, left out: ../../../broken : run.json is no JSON" in text
    assert "? undecided" in text
    assert folder.name in text


@pytest.mark.usefixtures("no_charts")
def test_other_data_reduced_scale_and_devices_are_shown_first(make_table, make_run, write_run, tmp_path):
    gpu = {"kind": "cuda", "name": "Big GPU", "threads": 1}
    cpu = {"kind": "cpu", "name": "Small CPU", "threads": 1}
    config = {"trainer": {"max_epochs": 1}}
    write_run(make_run("a", [0.5], device=gpu, config=config))
    write_run(make_run("b", [0.6], device=cpu, config=config))
    text = text_of(page_of(make_table(HIGH, assumed=["a setting"]), tmp_path / "tables", tmp_path))
    assert "The runs come from different devices: Big GPU (cuda); Small CPU (cpu)." in text
    assert "Reduced scale: 1 of 2 epochs" in text
    assert "Assumed: a setting." in text
    assert "≠ not comparable" in text
    assert text.index("different devices") < text.index("Regenerated table")


@pytest.mark.usefixtures("no_charts")
def test_what_all_runs_share_is_shown_once_and_what_differs_is_a_column(make_table, make_run, write_run, tmp_path):
    versions = {"torch": "2.14.1"}
    for cell, name in (("a", "Xeon"), ("b", "EPYC")):
        facts = {"device": {"kind": "cpu", "name": name}, "precision": "32", "git": {"commit": "0123456789ab"}}
        write_run(make_run(cell, [0.4, 0.5], versions=versions, **facts), f"runs/{cell}")
    write_run(make_run("c", [0.4], status="unfinished"), "runs/c")  # has recorded none of it yet
    table = make_table()
    write_site([evaluate(table, assign(table, read_runs([tmp_path / "runs"])))], tmp_path / "tables")
    page = (tmp_path / "tables/toy/table/index.html").read_text()
    heads = re.findall(r"<th[^>]*>([^<]*)</th>", page.partition('id="runs"')[2].partition("</thead>")[0])
    assert [head for head in heads if head in ("device", "precision", "commit", "data", "versions")] == ["device"]
    (shared,) = re.findall(r'id="shared">(.*?)</p>', page)
    assert shared == "Of all runs: precision 32, commit 0123456789, torch 2.14.1."
    assert 'id="versions"' not in page


@pytest.mark.usefixtures("no_charts")
def test_sample_data_is_not_evaluated_and_has_no_published_values(make_table, make_run, write_run, tmp_path):
    config = {"data": {"source": "sample"}}
    write_run(make_run("a", [0.4, 0.5], config=config))
    text = text_of(page_of(make_table(B_BEST), tmp_path / "tables", tmp_path))
    assert "Made from sample data" in text
    assert "– not judged" in text
    assert "sample data" in text_of((tmp_path / "tables/index.html").read_text())


NO_CLAIM = "Made from sample data: no claim is judged"
NOTHING = "nothing is compared with published figures."
AT_SCALE = "Claims between cells are judged at this scale; thresholds"
DIFFERENCES = "ifferences from published figures are not comparable."


@pytest.mark.parametrize("sample", [True, False])
@pytest.mark.parametrize("claims", [[B_BEST], []])
@pytest.mark.parametrize("published", [True, False])
def test_remarks_speak_of_claims_and_published_figures_where_there_are_some(
    make_table, make_run, assigned, data, sample, claims, published
):
    cells = data["cells"] if published else {name: {"match": cell["match"]} for name, cell in data["cells"].items()}
    config = {"trainer": {"max_epochs": 1}} | ({"data": {"source": "sample"}} if sample else {})
    runs = assigned(*(make_run(cell, [0.5], config=config) for cell in "abc"))
    found = evaluate(make_table(*claims, cells=cells), runs)
    of_data, of_scale = (
        next((text for text in found.remarks if text.kind == kind), None) for kind in ("data", "scale")
    )
    if sample:
        assert (
            of_data
            == {
                (True, True): f"{NO_CLAIM} and {NOTHING}",
                (True, False): f"{NO_CLAIM}.",
                (False, True): f"Made from sample data: {NOTHING}",
                (False, False): "Made from sample data.",
            }[bool(claims), published]
        )
        assert of_scale == "Reduced scale: 1 of 2 epochs."
    else:
        assert of_data is None
        assert (
            of_scale
            == "Reduced scale: 1 of 2 epochs."
            + {
                (True, True): f" {AT_SCALE} and d{DIFFERENCES}",
                (True, False): f" {AT_SCALE} are not comparable.",
                (False, True): f" D{DIFFERENCES}",
                (False, False): "",
            }[bool(claims), published]
        )


@pytest.mark.usefixtures("no_charts")
def test_a_pivoted_table_has_the_published_layout(data, make_run, write_run, tmp_path):
    cells = {
        name: {"match": {"model.name": name[0], "model.deep": name[1] == "2"}, "published": {"val": 50}}
        for name in ("a1", "a2", "b1")
    }
    labels = {"model.deep": {"False": "shallow", "True": "deep"}}
    keys = {"baseline": "a1", "rows": ["model.name"], "columns": ["model.deep"], "labels": labels}
    table = parse_table(data | {"cells": cells, **keys}, "toy/table")
    write_run(make_run("a", [0.4, 0.5], config={"model": {"name": "a", "deep": True}}))
    page = page_of(table, tmp_path / "tables", tmp_path)
    assert '<th colspan="5" scope="colgroup" class="group">shallow</th>' in page
    heads = re.findall(r'data-column="(\d+)"', page[page.index('id="figures"') : page.index("</thead>")])
    assert [int(head) for head in heads] == list(range(11))
    lines = re.findall(r"<tr><th scope=\"row\">(\w)</th>(.*?)</tr>", page.split('id="claims"')[0], re.DOTALL)
    assert [(name, line.count("<td")) for name, line in lines if line.count("<td") == 10] == [("a", 10), ("b", 10)]
    assert dict(lines)["b"].count('class="absent"') == 5  # b2 is no cell


def differences_of(page):
    """The table of differences as lines of texts."""
    body = page[page.index('id="differences"') : page.index("</table>", page.index('id="differences"'))]
    rows = re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
    return [[text_of(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)] for row in rows]


@pytest.mark.usefixtures("no_charts")
def test_differences_of_many_metrics_are_a_line_a_metric_so_that_the_page_holds_them(
    data, make_run, write_run, tmp_path
):
    for cell, level in (("a", 0.5), ("b", 0.6), ("c", 0.4)):
        write_run(make_run(cell, [0.1, level]), f"runs/{cell}")
    few = {"val": data["metrics"]["val"], "loss": data["metrics"]["loss"]}
    cells = {name: {"match": cell["match"]} for name, cell in data["cells"].items()}
    table = parse_table(data | {"metrics": few, "cells": cells, "claims": []}, "toy/table")
    page = page_of(table, tmp_path / "few", tmp_path / "runs")
    assert differences_of(page) == [
        ["cell", "val", "loss", "differs in"],
        ["b", "+10.00", "+0.000", "model.name"],
        ["c", "-10.00", "+0.000", "model.name"],
    ]
    assert text_of(page).count("One seed: no intervals.") == 1
    many = {f"val_{place}": data["metrics"]["val"] for place in range(8)}
    table = parse_table(data | {"metrics": many, "cells": cells, "claims": []}, "toy/table")
    assert differences_of(page_of(table, tmp_path / "many", tmp_path / "runs")) == [
        ["metric", "b", "c"],
        *([f"val {place}", "+10.00", "-10.00"] for place in range(8)),
        ["differs in", "model.name", "model.name"],
    ]


@pytest.mark.usefixtures("no_charts")
def test_every_cell_shows_its_predictions_and_the_first_alone_the_datas_classes(make_table, three, tmp_path):
    for folder in three.iterdir():
        for name in ("samples", "class_samples", "flips"):
            (folder / "figures" / f"{name}.png").write_bytes(PNG)
    page = page_of(make_table(B_BEST), tmp_path / "tables", three)
    shown = re.findall(r'<img src="[^"]*figures/(\w+)\.png"', page[page.index('id="pictures"') :])
    assert (shown.count("samples"), shown.count("class_samples"), shown.count("flips")) == (3, 1, 1)
    assert shown.count("confusion_val") == 3


@pytest.mark.usefixtures("no_charts")
def test_exported_pictures_stand_on_the_page(make_table, three, tmp_path):
    for folder in three.iterdir():
        (folder / "figures/confusion_val.png").rename(folder / "figures/confusion_val.webp")
    page = page_of(make_table(B_BEST, pictures=["confusion_val"]), tmp_path / "tables", three)
    assert len(re.findall(r'<img src="[^"]*figures/confusion_val\.webp"', page[page.index('id="pictures"') :])) == 3
    assert len(re.findall(r'<img src="[^"]*figures/confusion_val\.webp"', page.split('id="pictures"')[0])) == 3


def test_kept_is_what_the_report_shows(make_table, three):
    for folder in three.iterdir():
        for name in ("samples", "flips", "curves", "gradient_norms"):
            (folder / "figures" / f"{name}.png").write_bytes(PNG)
    table = make_table(
        B_BEST, pictures=[{"picture": "flips", "cells": ["c"]}, "confusion_val", {"picture": "curves", "cells": ["a"]}]
    )
    found = evaluate(table, assign(table, read_runs([three])))
    cell_of = {
        record.path: cell for cell, records in found.runs.cells.items() for record in records if record.seed == 0
    }
    of_table = sorted(f"{cell_of[str(path.parents[1])]} {path.stem}" for path in kept([found]))
    best, base, other = "b", "a", "c"
    assert (best, base) == tuple(role.split(", ")[1] for role, _ in representatives(found))
    whole = [f"{cell} {name}" for cell in (base, best) for name in ("confusion_val", "samples")]
    assert of_table == sorted([*whole, f"{base} curves", f"{other} confusion_val", f"{other} flips"])


@pytest.mark.usefixtures("no_charts")
def test_the_epoch_of_a_stopping_rule_is_never_best(data, make_run, write_run, tmp_path):
    metrics = {"rule": {"result": "early_stop.change", "digits": 0, "better": "lower"}, "val": data["metrics"]["val"]}
    cells = {name: {"match": cell["match"]} for name, cell in data["cells"].items()}
    table = parse_table(data | {"metrics": metrics, "cells": cells, "claims": []}, "toy/table")
    for cell, epoch in (("a", 20), ("b", 0), ("c", 28)):
        write_run(make_run(cell, [0.1, 0.01 * (30 - epoch)], early_stop={"change": epoch}), f"runs/{cell}")
    found = evaluate(table, assign(table, read_runs([tmp_path / "runs"])))
    assert {row.cell.name: [e.best for e in row.entries.values()] for row in found.rows} == {
        "a": [False, False],
        "b": [False, True],
        "c": [False, False],
    }
    assert "| b | 0 | **30.00** |" in markdown_table(found)
    assert r"b & 0 & \textbf{30.00}" in latex_table(found)


@pytest.mark.usefixtures("no_charts")
@pytest.mark.parametrize(
    ("levels", "best"), [((0.5, 0.5, 0.5), "   "), ((0.5, 0.5, 0.4), "** "), ((0.5, None, 0.5), "   ")]
)
def test_where_all_cells_tie_none_is_best(make_table, make_run, write_run, tmp_path, levels, best):
    for (cell, train), level in zip({"a": 0.7, "b": 0.8, "c": 0.9}.items(), levels, strict=True):
        if level is not None:
            write_run(make_run(cell, [0.1, level], train=[0.1, train]), f"runs/{cell}")
    table = make_table()
    found = evaluate(table, assign(table, read_runs([tmp_path / "runs"])))
    assert "".join("* "[not row.entries["val"].best] for row in found.rows) == best
    assert [row.entries["train"].best for row in found.rows] == [False, False, True]


@pytest.mark.usefixtures("no_charts")
def test_the_index_groups_tables_by_report_and_counts_all_claims(data, three, tmp_path):
    runs = read_runs([three])
    tables = [
        parse_table(data | {"source": source, "title": name, "claims": claims}, f"toy/{name}")
        for name, source, claims in (("ten", "A1.10", [B_BEST]), ("two", "A1.2", [C_BEST]), ("x", "B1.1", [B_BEST]))
    ]
    index = write_site([evaluate(table, assign(table, runs)) for table in tables], tmp_path / "tables")
    text = text_of(index.read_text())
    assert "2 of 3 claims hold" in text
    assert "Report A1 1 of 2 claims hold" in text
    assert text.index("A1.2 two") < text.index("A1.10 ten") < text.index("Report B1")
    for table in tables:
        assert f'href="{table.name}/index.html"' in index.read_text()
        assert 'href="../../index.html"' in (index.parent / table.name / "index.html").read_text()


@pytest.mark.usefixtures("no_charts")
def test_a_table_without_runs_has_a_page(make_table, tmp_path):
    text = text_of(page_of(make_table(B_BEST), tmp_path / "tables", tmp_path))
    assert "no runs" in text
    assert "missing published 60" in text
    assert "None yet." in text


def test_commands_train_the_run_alone():
    asked = ["experiment=mnist/cnn", "model=fnn", "augment.transforms=[rotate]", "sweep.workers=2", "hydra.x=1"]
    assert command(asked, 2) == (
        "python train.py experiment=mnist/cnn table=null model=fnn 'augment.transforms=[rotate]' seed=2"
    )
    assert command(["task=cifar", "dropout.p=0.3", "seed=1"], 1) == "python train.py task=cifar dropout.p=0.3 seed=1"
    assert command([], 0) is None


@pytest.mark.parametrize("experiment", ["cifar/augment", "mnist/cnn", "mnist/regularisation"])
def test_a_runs_command_composes_to_the_same_run(experiment, tmp_path, monkeypatch):
    from retable.config.compose import Composer
    from retable.config.identity import identity
    from retable.sweeps.plan import make_plan

    monkeypatch.setenv("RETABLE_CACHE", str(tmp_path))
    composer = Composer()
    plan = make_plan([f"experiment={experiment}", "seeds=2", f"sweep.dir={tmp_path}", "data=sample"], composer)
    assert len(plan.runs) > 2
    for run in plan.runs:
        config = composer.compose(single(run.overrides, run.config["seed"])).config
        config["trainer"]["precision"] = run.config["trainer"]["precision"]
        assert config["table"] is None
        assert config["seeds"] is None
        assert identity(config) == identity(run.config)


def test_two_hundred_runs_take_under_ten_seconds(data, make_run, write_run, tmp_path):
    names = [f"m{number}" for number in range(25)]
    cells = {name: {"match": {"model.name": name}, "published": {"train": 60, "val": 50}} for name in names}
    table = parse_table(data | {"cells": cells, "baseline": "m0", "claims": []}, "toy/table")
    for place, name in enumerate(names):
        for seed in range(8):
            curve = [1 - 0.9 / (1 + epoch * (1 + 0.01 * place + 0.02 * seed)) for epoch in range(100)]
            write_run(make_run(name, curve, seed=seed), f"runs/{name}-{seed}")
    start = time.process_time()
    page = page_of(table, tmp_path / "tables", tmp_path / "runs")
    assert time.process_time() - start < 10
    assert page[page.index('id="runs"') :].count('<tr><th scope="row">') == 200
    assert "overrides not recorded" not in page  # of no run: not said of each
    assert len(page.encode()) < 1_000_000


class Tags(HTMLParser):
    VOID = ("meta", "link", "img", "br")

    def __init__(self):
        super().__init__()
        self.open, self.faults, self.ids = [], [], []

    def handle_starttag(self, tag, attributes):
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.ids += [value for name, value in attributes if name == "id"]

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append((tag, self.getpos()))
