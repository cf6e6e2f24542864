"""`retable compare` of two tasks: both models on the same images."""

from dataclasses import replace
from pathlib import Path

from retable.commands.compare import compare
from retable.commands.evaluate import evaluate
from retable.figures.segmentation import ranked
from retable.run.execute import execute
from retable.run.restore import load


def test_both_figures_of_an_image_are_of_that_image(compose, no_figures, tmp_path):
    """Each model was measured on the images that its own run had held out, and the second one's names stood beside."""
    words = ("task=gland", "data.size=32", "data.holdout=6", "trainer.max_epochs=2", "task.background=true")
    models = []
    for seed in (0, 1):
        execute(compose(*words, f"data.split_seed={seed}"), tmp_path / str(seed))
        models.append(load(tmp_path / str(seed)))
    cache = Path(models[1].config["data"]["cache"]).expanduser()
    folder = next(path for path in (cache / "sample").iterdir() if path.name.startswith("warwick"))
    rows = compare(*models, folder, tmp_path / "both.png", each=3, split="val")
    first, second = models
    held_out = [list(evaluate(model, folder, "val").by_image["image"]) for model in models]
    assert set(held_out[0]) != set(held_out[1])
    expected = []
    for model in (replace(first, config=first.config | {"data": second.config["data"]}), second):
        names = evaluate(model, folder, "val").by_image["image"]
        expected.append(dict(zip(names, ranked(model.task.matrices("val"), model.task.scored)[1], strict=True)))
    assert {name for name, *_ in rows} == set(held_out[1])
    for name, *dice in rows:
        assert dice == [float(found[name]) for found in expected]
