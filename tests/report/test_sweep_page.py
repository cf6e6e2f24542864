"""The page of a sweep without an experiment: effects, pairs and best settings by hand, for one factor, two and many."""

import html
import itertools
import json
import re
from dataclasses import replace

import pytest

from retable.errors import ConfigError
from retable.report import plots
from retable.report.draft import metrics_of
from retable.report.html import table_page
from retable.report.sweep_page import note_sweep, sweep_lines, write_sweep_page
from retable.report.swept import effect_size, pairs, parallel, sections, sweep_of
from tests.report.test_site import Tags, text_of


@pytest.fixture
def swept(make_run):
    """A sweep of every combination; value: validation accuracy of a setting and seed."""

    def make(factors, value, seeds=(0, 1)):
        records, settings = [], []
        for point in itertools.product(*factors.values()):
            for seed in seeds:
                setting = dict(zip(factors, point, strict=True))
                records.append(make_run("a", [value(setting, seed) - 0.1, value(setting, seed)], seed=seed))
                settings.append(setting | {"seed": seed, "data": "sample"})
        return sweep_of(records, settings, "toy/sweep")

    return make


def test_one_factor_is_a_row_a_value_with_its_effect(swept):
    found = swept({"dropout.p": [0.5, 0.2]}, lambda s, seed: 0.9 - s["dropout.p"] + seed / 10)
    assert found.found.table.rows == ("dropout.p",)
    assert found.quality.column == "val/accuracy"
    assert [row.cell.match for row in found.found.rows] == [{"dropout.p": 0.2}, {"dropout.p": 0.5}]
    assert effect_size(found, "dropout.p") == pytest.approx(0.3)
    context = sections(found)
    assert context["best"][0] == {"settings": ["0.2"], "mean": "0.7500", "std": "0.0707", "n": 2}
    assert context["pairs"] == []
    assert context["parallel"] is None


def test_times_are_no_metrics_of_a_table(make_run):
    """`seconds/val` says how long validation took; whoever wants it asks for it."""
    runs = []
    for dropout in (0.2, 0.5):
        run = make_run("a", [0.1, 0.5], config={"dropout": {"p": dropout}})
        runs.append(replace(run, history=run.history | {"seconds/val": [1.0, 1.0], "seconds/train": [9.0, 9.0]}))
    settings = [{"dropout.p": 0.2}, {"dropout.p": 0.5}]
    assert [metric.column for metric in sweep_of(runs, settings, "toy/sweep").found.metrics] == ["val/accuracy"]
    assert list(metrics_of(runs, ["seconds/val"])) == ["seconds_val"]


def test_a_sweep_is_rated_by_its_tasks_metric_whatever_its_name_and_direction(make_run):
    """An autoencoder's `recon`, of which less is better, was left out, and the seconds of an epoch were rated."""
    runs = []
    for latent, recon in ((2, 3.0), (4, 1.0)):
        judged = {"best_by": "recon", "higher_is_better": False, "final": {}, "best": {}}
        run = make_run("a", [0.1, 0.5], config={"module": {"latent": latent}}, metrics=judged)
        history = {
            "epoch": [1.0],
            "g_loss": [0.5],
            "psnr": [9.0],
            "recon": [recon],
            "lr": [0.1],
            "seconds/train": [9.0],
        }
        runs.append(replace(run, history=history))
    found = sweep_of(runs, [{"module.latent": 2}, {"module.latent": 4}], "toy/sweep")
    assert [metric.column for metric in found.found.metrics] == ["recon", "psnr", "g_loss"]
    assert [(metric.column, metric.better) for metric in found.found.metrics][:2] == [
        ("recon", "lower"),
        ("psnr", "higher"),
    ]
    assert sections(found)["best"][0]["settings"] == ["4"]


def test_two_factors_are_rows_and_columns_and_one_heat_map(swept):
    value = {("sgd", 1): 0.1, ("sgd", 2): 0.3, ("sgd", 3): 0.5, ("adam", 1): 0.6, ("adam", 2): 0.7, ("adam", 3): 0.2}
    found = swept({"optimizer": ["sgd", "adam"], "depth": [1, 2, 3]}, lambda s, seed: value[s["optimizer"], s["depth"]])
    assert (found.found.table.rows, found.found.table.columns) == (("depth",), ("optimizer",))
    assert effect_size(found, "optimizer") == pytest.approx(1.5 / 3 - 0.9 / 3)
    assert effect_size(found, "depth") == pytest.approx(0.5 - 0.35)  # means 0.35, 0.5, 0.35
    (pair,) = pairs(found)
    assert (pair["down"], pair["across"], pair["heads"]) == ("depth", "optimizer", ["adam", "sgd"])
    assert [(name, [cell["text"] for cell in cells]) for name, cells in pair["lines"]] == [
        ("1", ["0.6000", "0.1000"]),
        ("2", ["0.7000", "0.3000"]),
        ("3", ["0.2000", "0.5000"]),
    ]
    assert [cell["share"] for _, cells in pair["lines"] for cell in cells] == [50, 0, 60, 20, 10, 40]


def test_many_factors_are_ranked_and_drawn_in_parallel(swept):
    factors = {"a": [1, 2], "b": [1, 2], "c": ["x", "y"]}
    found = swept(factors, lambda s, seed: 0.1 * s["a"] + 0.2 * s["b"] + 0.01 * (s["c"] == "y"))
    assert found.found.rows[0].cell.match == {"a": 2, "b": 2, "c": "y"}
    assert found.found.table.rows == ()
    assert [effect_size(found, key) for key in "abc"] == pytest.approx([0.1, 0.2, 0.01])
    assert [(pair["down"], pair["across"]) for pair in pairs(found)] == [("b", "a"), ("b", "c"), ("a", "c")]
    assert pairs(found)[0]["lines"][1][1][1]["text"] == "0.6050"  # a 2, b 2: mean of 0.60 and 0.61
    drawn = parallel(found)
    assert drawn.count("plot-parallel") == 8
    assert "a 2, b 2, c y: 0.6100" in drawn


def test_what_a_page_leaves_out_it_says(swept, monkeypatch, tmp_path):
    monkeypatch.setattr("retable.report.swept._LINES", 60)

    def page(letters):
        found = swept({letter: [1, 2] for letter in letters}, lambda s, seed: sum(s.values()) / 100, seeds=(0,))
        made = table_page(found.found, tmp_path, "", found).text
        return text_of(made), made.count('class="heat"'), made.count('class="plot-parallel"')

    text, grids, lines = page("abcdef")  # 64 settings, 15 pairs
    assert "Best settings by val accuracy, the 10 best of 64 " in text
    assert "over everything else; 10 of 15, those of the settings with the largest effects" in text
    assert "the stronger, the better. The 60 best of 64." in text
    assert "The 15 best of 64" in text  # curves
    assert (grids, lines) == (10, 60)
    text, grids, lines = page("abc")
    assert "best of" not in text
    assert "largest effects" not in text
    assert (grids, lines) == (3, 8)


def test_what_nobody_varied_is_refused(make_run):
    with pytest.raises(ConfigError, match="differ in nothing but the seed"):
        sweep_of([make_run("a", [0.5], seed=s) for s in (0, 1)], [{"p": 1, "seed": s} for s in (0, 1)], "t")


def test_the_page_is_whole_links_its_runs_and_is_made_again_as_they_come(make_run, write_run, tmp_path):
    runs = []
    folder = tmp_path / "tables" / "toy" / "sweep"
    for p, seed in itertools.product((0.1, 0.5), (0, 1)):
        record = make_run("a", [0.3, 0.8 - p + seed / 100], seed=seed)
        runs.append((tmp_path / f"runs/{p}-{seed}", {"p": p, "seed": seed, "task": "toy"}))
        if p == 0.1:
            write_run(record, f"runs/{p}-{seed}")
    note_sweep(folder, "toy/sweep", "retable sweep p=0.1,0.5", runs)
    assert write_sweep_page(folder) is None  # one value is no comparison
    for seed in (0, 1):
        write_run(make_run("a", [0.3, 0.3 + seed / 100], seed=seed), f"runs/0.5-{seed}")
    page = write_sweep_page(folder, "../../index.html").read_text()
    text = text_of(page)
    assert "retable sweep p=0.1,0.5" in text
    assert "Main effects on val accuracy" in text
    command = "% sweep toy/sweep: retable sweep p=0.1,0.5\n"  # as a comment of what is copied, too
    assert (folder / "report.tex").read_text().startswith(command)
    assert command in page
    assert "0.7050 ± 0.0071" in text
    assert 'href="../../../runs/0.1-0/result.json"' in page
    check = Tags()
    check.feed(page)
    assert check.faults == []
    assert check.open == []
    assert len(check.ids) == len(set(check.ids))
    assert write_sweep_page(folder, "../../index.html").read_text() == page
    assert sweep_lines(tmp_path / "tables") == [
        {"title": "toy/sweep", "href": "toy/sweep/index.html", "runs": "4", "varied": "p: [0.1, 0.5]"}
    ]


@pytest.mark.parametrize(("widths", "late"), [(5, False), (6, True)])
def test_what_sums_up_many_cells_stands_before_them(make_run, write_run, tmp_path, widths, late):
    runs = []
    for point in itertools.product(range(widths), "xy", (1, 2)):
        settings = dict(zip(("width", "kind", "depth"), point, strict=True))
        record = make_run("a", [0.3, 0.3 + point[0] / 100 + point[2] / 1000])
        runs.append((write_run(record, "runs/" + "-".join(map(str, point))), settings))
    note_sweep(tmp_path / "tables/toy/sweep", "toy/sweep", "retable sweep width=0,1", runs)
    page = write_sweep_page(tmp_path / "tables/toy/sweep").read_text()
    places = re.findall(r'<section id="([\w-]+)"', page)
    first = ["table", "best", "effects", "pairs", "parallel"]
    assert places[:5] == ([*first[1:], "table"] if late else first)
    assert re.findall(r'<a href="#([\w-]+)">', page)[:5] == places[:5]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"runs": []}', '{"runs": [1]}', '{"runs": [{"directory": 1}]}'])
def test_a_note_that_is_not_whole_is_none(text, tmp_path):
    (tmp_path / "sweep.json").write_text(text)
    assert write_sweep_page(tmp_path) is None
    assert sweep_lines(tmp_path) == []


def test_what_stands_in_settings_is_no_markup(make_run, write_run, tmp_path):
    runs = [
        (write_run(make_run("a", [0.1, 0.2 + place]), f"runs/{place}"), {"x": name})
        for place, name in enumerate(("<b>", "c&d"))
    ]
    note_sweep(tmp_path / "t", "t", "c", runs)
    page = write_sweep_page(tmp_path / "t").read_text()
    assert "<b>" not in re.sub(r"<b aria-hidden", "", page)
    assert "&lt;b&gt;" in page


def test_drawings_place_points_where_their_values_are():
    drawn = plots.curves([(0, "a", [(1, 0.0, 0.0, 0.0), (2, 1.0, 1.0, 1.0)])], "t", (0.0, 1.0))
    assert (
        f"M{plots._LEFT:.1f} {plots.HEIGHT - plots._BOTTOM:.1f}L{plots.WIDTH - plots._RIGHT:.1f} {plots._TOP:.1f}"
        in drawn
    )
    assert html.escape("a<b") in plots.effect([("a<b", (0, 1.0, 0.0, 2.0))], "s", "t", (0.0, 2.0))
    assert plots.limits([2.0, 2.0]) == (1.9, 2.1)
    assert json.dumps(plots.ticks(0.31, 0.34)) == "[0.31, 0.32, 0.33, 0.34]"
