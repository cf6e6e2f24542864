"""What a run draws: that it fits."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from retable.figures import classification

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
