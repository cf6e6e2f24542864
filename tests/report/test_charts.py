"""The charts of a table: which there are, and what they draw, seen in the lines and in the SVG."""

import re

import pytest

from retable.experiment.metrics import Published
from retable.report import curves as module
from retable.report.curves import lines_of, quality_of, shared_limits
from retable.report.drawing import COLOURS, _short, charts, span
from retable.report.evaluated import evaluate
from retable.report.plots import DASHES, Key
from retable.report.rows import Entry


@pytest.fixture
def found(make_table, make_run, assigned):
    """Two finished seeds of a and b, of c one that diverged."""
    runs = [make_run(cell, [level, level + 0.1 + 0.02 * seed, level + 0.2], seed=seed)
            for cell, level in (("a", 0.2), ("b", 0.4)) for seed in (0, 1)]  # fmt: skip
    return evaluate(make_table(), assigned(*runs, make_run("c", [0.1], status="diverged")))


@pytest.fixture
def rows(found):
    return found.rows


@pytest.fixture
def drawn(found):
    return charts(found)


def test_charts_are_curves_late_curves_the_two_best_and_bars(drawn):
    assert [(chart.title, len(chart.panels)) for chart in drawn] == [
        ("Accuracy per epoch, all runs", 2),
        ("Loss per epoch, all runs", 1),
        ("Validation accuracy of all runs from epoch 2 on", 1),
        ("Train and validation of the two best from epoch 2 on", 1),
        ("Regenerated against published", 4),
    ]


def test_a_line_is_the_mean_over_seeds_between_the_lowest_and_the_highest(rows):
    a, b, c = lines_of(rows, "val/accuracy", 100)
    assert a.label == "a"
    assert a.points[0] == (1, 20.0, 20.0, 20.0)
    assert a.points[1] == pytest.approx((2, 31.0, 30.0, 32.0))
    assert a.banded
    assert not a.cut
    assert b.points[1][1] == pytest.approx(51.0)
    assert (c.label, c.cut, c.banded, len(c.points)) == ("c", True, False, 1)


def test_runs_that_are_in_no_mean_are_listed_and_marked(drawn):
    assert "is in no mean" in drawn[0].note
    assert [key.label for key in drawn[0].keys] == ["a", "b", "c"]
    assert [key.label for key in drawn[2].keys] == ["a", "b"]  # c has no epoch 2 to draw a line to
    assert [key.label for key in drawn[3].keys] == ["a, validation", "a, train", "b, validation", "b, train"]


def test_drawings_carry_no_size_colours_as_variables_and_text_as_text(drawn):
    for svg in (svg for chart in drawn for svg in chart.panels):
        assert svg.startswith("<svg viewBox=")
        assert not re.search(r"<svg[^>]* (width|height)=", svg)
        assert not re.search(r"(?<!,)#[0-9a-f]{6}", re.sub(r'(id|href)="[^"]*"|url\(#[^)]*\)', "", svg))
        assert "http" not in svg
        assert "<text" in svg
    assert 'class="line line-0"' in drawn[0].panels[0]
    assert "var(--c1,#d55e00)" in drawn[0].panels[0]


def test_ids_differ_between_the_drawings_of_a_page(drawn):
    found = [one for chart in drawn for svg in chart.panels for one in set(re.findall(r'\bid="([^"]+)"', svg))]
    assert len(found) == len(set(found))
    for chart in drawn:
        for svg in chart.panels:
            asked = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', svg)
            assert {a or b for a, b in asked} <= set(re.findall(r'\bid="([^"]+)"', svg))


def test_the_same_runs_give_the_same_bytes(found, drawn):
    assert charts(found) == drawn


def test_without_runs_there_are_no_charts(make_table, assigned):
    assert charts(evaluate(make_table(), assigned())) == []


def test_one_epoch_is_drawn_as_a_point(make_table, make_run, assigned):
    table = make_table()
    drawn = charts(evaluate(table, assigned(make_run("a", [0.5]))))
    assert [chart.title for chart in drawn] == [
        "Accuracy per epoch, all runs",
        "Loss per epoch, all runs",
        "Regenerated against published",
    ]
    assert "<use" in drawn[0].panels[0]


def test_twenty_five_cells_look_different():
    looks = {(key.colour, key.dash) for key in (Key(look, "") for look in range(25))}
    assert len(looks) == 25
    assert len(COLOURS) * len(DASHES) >= 25


def test_the_axis_of_bars_starts_at_zero_unless_that_hides_the_differences():
    assert span([Entry("m", mean=10.0), Entry("m", mean=40.0)])[0] == 0
    low, high = span([Entry("m", mean=98.2, std=0.1, published=Published(value=99.0))])
    assert 90 < low < 98.1
    assert high > 99
    low, high = span([Entry("m", mean=-2.0), Entry("m", mean=3.0)])
    assert low < -2
    assert high > 3
    assert span([Entry("m", mean=0.0)]) == (0.0, pytest.approx(0.06))


def test_train_and_validation_share_an_axis_unless_one_would_be_flat(rows):
    train, val = lines_of(rows, "train/accuracy", 100), lines_of(rows, "val/accuracy", 100)
    low, high = shared_limits([train, val])
    assert low < 10
    assert high > 60
    exploded = [module.Line(0, "a", ((1, 1.0, 1.0, 1.0), (2, 1e4, 1e4, 1e4)))]
    assert shared_limits([train, exploded]) is None


def test_the_best_is_by_validation_and_b1_calls_it_test(make_table, data):
    assert quality_of(make_table()).name == "val"
    metrics = {name: metric for name, metric in data["metrics"].items() if name in ("train", "loss")}
    cells = {name: {"match": cell["match"]} for name, cell in data["cells"].items()}
    assert quality_of(make_table(metrics=metrics, cells=cells)) is None
    metrics["test"] = {"column": "val/accuracy", "scale": 100}
    assert module.title_of(make_table(metrics=metrics, cells=cells), "val") == "test"


def test_a_loss_that_the_others_would_flatten_has_axes_of_its_own(make_table, make_run, assigned):
    losses = {"a": [0.9, 0.5, 0.4], "b": [0.8, 0.6, 0.3], "c": [0.05, 0.03, 0.02]}  # c is a focal loss
    runs = assigned(*(make_run(cell, [0.1, 0.2, 0.3], loss=loss) for cell, loss in losses.items()))
    plot = next(plot for plot in evaluate(make_table(), runs).plots if plot.title.startswith("Loss"))
    assert [(panel.title, [line.label for line in panel.lines]) for panel in plot.panels] == [
        ("train, a, b", ["a", "b"]),
        ("train, c", ["c"]),
    ]


def test_the_two_best_are_drawn_from_epoch_2_on(found):
    plot = next(plot for plot in found.plots if "two best" in plot.title)
    assert {line.points[0][0] for line in plot.panels[0].lines} == {2}


def test_a_drawing_is_short_where_nothing_is_lost():
    line = ' d="M 51.434123 70.33453 \nL 54.7005 -76.732512 \nL 1 2.00000 \n"'
    assert _short(line) == ' d="M 51.4341 70.3345 54.7005 -76.7325 1 2 "'  # what follows M is a line
    curve = ' d="M 0 0 \nC 1 2 3 4 5 6.123456 \nL 3 4 \nz\n"'
    assert _short(curve) == curve.replace("6.123456", "6.1235")  # what follows C would be another curve


def test_the_two_best_keep_the_colours_of_the_other_charts(make_table, make_run, assigned):
    """b is best, and second in the table: second in colour, on the line of every chart."""
    runs = [make_run(cell, [level, level + 0.1, level + 0.2]) for cell, level in (("a", 0.2), ("b", 0.4), ("c", 0.1))]
    plots = evaluate(make_table(), assigned(*runs)).plots
    every = {line.label: line.look for line in plots[0].panels[1].lines}
    two = {line.label: line.look for line in next(p for p in plots if "two best" in p.title).panels[0].lines}
    assert (every["a"], every["b"]) == (0, 1)
    assert two == {"b, validation": 1, "a, validation": 0, "b, train": 9, "a, train": 8}
