"""What a run draws: that it fits."""

from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from retable.figures import classification, saving

LONG = "gland · early_stop-change__data.batch_size-64__data.holdout-60__data.flips-True__early_stop.epsilon__7b41ef12"
ROWS = [{"epoch": epoch, "train/loss": 1 / epoch, "grad_norm/a": 1 / epoch} for epoch in (1, 2)]


@pytest.mark.parametrize(
    "draw",
    [
        lambda path: classification.confusion_matrix([[3, 1], [0, 4]], ["a", "b"], path, f"{LONG} · test"),
        lambda path: classification.curves(ROWS, path, LONG),
        lambda path: classification.gradient_norms(ROWS, path, LONG),
    ],
    ids=["confusion_matrix", "curves", "gradient_norms"],
)
def test_a_runs_long_name_fits_its_figure(draw, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(classification, "save", lambda figure, path: drawn.append(figure))
    draw(tmp_path / "a.png")
    (figure,) = drawn
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    (title,) = figure.findobj(lambda one: getattr(one, "get_text", str)().startswith("gland ·"))
    place = title.get_window_extent(canvas.get_renderer())
    assert 0 <= place.x0 < place.x1 <= figure.bbox.width
    assert title.get_text().replace("\n", "").replace(" ", "").startswith(LONG.replace(" ", ""))


def label(line):
    return "" if line.get_label().startswith("_") else line.get_label()  # matplotlib's name for none


def panels(rows, others=()):
    drawn = []
    with saving.elsewhere(lambda figure, path: drawn.append(figure)):
        classification.curves(rows, Path("a.png"), "title", others)
    return [
        {(axis.get_ylabel(), label(line)): list(line.get_ydata()) for axis in figure.axes for line in axis.lines}
        for figure in drawn
    ]


def test_curves_are_of_pairs_and_of_the_others_that_are_named():
    rows = [{"epoch": 1, "train/loss": 3.0, "g_loss": 5.0, "lr": 0.1}, {"epoch": 2, "train/loss": 2.0, "val/loss": 4.0}]
    assert panels(rows) == [{("loss", "train"): [3.0, 2.0], ("loss", "val"): [4.0]}]
    assert panels(rows, ["g_loss"])[0][("g loss", "")] == [5.0]
    (alone,) = panels([{"epoch": 1, "recon": 1.0}], ["recon"])
    assert alone == {("recon", ""): [1.0]}


def test_no_figure_is_made_of_no_curve():
    assert panels([{"epoch": 1, "recon": 1.0}]) == []


def test_many_curves_stand_in_several_lines():
    drawn = []
    names = [f"metric{number}" for number in range(40)]
    with saving.elsewhere(lambda figure, path: drawn.append(figure)):
        classification.curves([dict.fromkeys(names, 1.0) | {"epoch": 1}], Path("a.png"), "title", names)
    assert len(drawn[0].axes) == 18
    assert drawn[0].get_figwidth() == pytest.approx(6 * 4.6)
    assert drawn[0].get_suptitle() == "title · 18 of 40 metrics"
