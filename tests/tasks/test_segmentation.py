"""Segmentation runs from end to end on small squares, and what a run says of its masks."""

import json

import pytest
import torch
from torch import nn

from retable.commands.evaluate import evaluate
from retable.run import files
from retable.run.execute import execute
from retable.run.restore import load
from retable.tasks.segmentation import Segmentation

SQUARES = ("task=gland", "data._target_=tests.tasks.squares.Squares", "data.batch_size=8", "model=fcn_small_bn")


def task(**arguments):
    given = {"model": nn.Identity(), "loss": nn.MSELoss(), "optimizer": None, "classes": ("dark", "bright")}
    return Segmentation(**(given | arguments))


def without_times(directory):
    rows = files.read_history(directory / files.HISTORY)
    return [{k: v for k, v in row.items() if not k.startswith(("seconds", "images_per"))} for row in rows]


@pytest.fixture(scope="module")
def finished(compose, tmp_path_factory):
    config = compose(*SQUARES, "trainer.max_epochs=20", "optimizer.lr=0.02", "trainer.validate_first=true")
    directory = tmp_path_factory.mktemp("runs") / "squares"
    return directory, execute(config, directory)


def test_a_run_learns_and_uses_its_test_part_once(finished):
    directory, result = finished
    rows = files.read_history(directory / files.HISTORY)
    assert [row["epoch"] for row in rows] == list(range(21))
    assert rows[0].keys() >= {"val/dice", "val/loss"}
    assert rows[0].get("train/dice") is None
    assert rows[-1]["val/dice"] > 0.9 > rows[0]["val/dice"]
    assert [row.get("test/dice") is not None for row in rows] == [False] * 20 + [True]
    assert result["metrics"]["final"]["test/dice"] == rows[-1]["test/dice"]
    assert result["epochs"] == 20
    assert "early_stop" not in result


def test_result_holds_the_counts_behind_its_figures(finished):
    _, result = finished
    for part, images in (("train", 24), ("val", 8), ("test", 8)):
        matrix = result["confusion"][part]
        assert sum(map(sum, matrix)) == images * (256 - 1)  # a pixel an image is ignored
        tp, fp, fn = matrix[1][1], matrix[0][1], matrix[1][0]
        bright = result["per_class"][part][1]
        assert bright["dice_global"] == pytest.approx(2 * tp / (2 * tp + fp + fn), abs=1e-12)
        assert bright["iou_global"] == pytest.approx(tp / (tp + fp + fn), abs=1e-12)
        assert bright["dice_image"] == result["metrics"]["final"][f"{part}/dice"]
    assert result["average"] == "image"
    counts = {"read": 42, "left_out": 2, "train": 24, "val": 8, "test": 8, "reasons": {"blurred": 2}}
    assert result["data"]["counts"] == counts


def test_figures(finished):
    directory, _ = finished
    drawn = {path.stem for path in (directory / "figures").glob("*.png")}
    assert drawn >= {"curves", "gradient_norms", "confusion_val", "confusion_test", "samples", "best_worst"}


def test_evaluate_repeats_the_figures_of_the_run(finished):
    directory, result = finished
    trained = load(directory)
    location = trained.config["data"]["cache"]
    folder = next(path for path in _folders(location) if path.name.startswith("squares"))
    found = evaluate(trained, folder)
    assert found.split == "test"
    assert found.metrics["dice"] == pytest.approx(result["metrics"]["final"]["test/dice"], abs=1e-6)
    assert found.by_image["image"].tolist() == [f"square_{n}" for n in range(32, 40)]
    assert found.by_image["dice"].mean() == pytest.approx(found.metrics["dice"], abs=1e-12)
    assert found.by_class["class"].tolist() == ["dark", "bright"]


def test_evaluate_takes_the_training_images_that_the_run_had(compose, tmp_path):
    execute(compose(*SQUARES, "trainer.max_epochs=1", "data.fraction=0.25"), tmp_path / "run")
    trained = load(tmp_path / "run")
    folder = next(path for path in _folders(trained.config["data"]["cache"]) if path.name.startswith("squares"))
    found = evaluate(trained, folder, "train")
    assert len(found.by_image) == 6  # of 24
    assert found.counts["reasons"]["data.fraction"] == 18
    assert len(evaluate(trained, folder, "train", {"fraction": 1.0}).by_image) == 24
    assert len(evaluate(trained, folder, "all").by_image) == 40


def _folders(cache):
    from pathlib import Path

    return sorted((Path(cache).expanduser() / "sample").iterdir())


def test_a_run_killed_after_its_last_epoch_ends_as_if_it_had_not_been(compose, finished, tmp_path):
    directory, result = finished
    other = tmp_path / "squares"
    other.mkdir()
    for name in (files.CHECKPOINT, files.HISTORY):
        (other / name).write_bytes((directory / name).read_bytes())
    config = json.loads((directory / files.RUN).read_text())["config"]
    again = execute(config, other)
    assert without_times(other) == without_times(directory)
    assert again["metrics"] == result["metrics"]
    assert again["confusion"]["test"] == result["confusion"]["test"]


EARLY = ("early_stop=change", "early_stop.epsilon=0", "early_stop.from_epoch=3", "trainer.max_epochs=6")


def test_early_stopping_ends_a_run_and_stays_ended(compose, tmp_path):
    config = compose(*SQUARES, *EARLY, "optimizer.lr=0.01")
    result = execute(config, tmp_path / "a")
    assert (result["epochs"], result["early_stop"]["change"]) == (3, 3)
    (tmp_path / "a" / files.RESULT).unlink()  # killed between its last epoch and its end
    again = execute(config, tmp_path / "a")
    assert (again["epochs"], again["early_stop"]) == (3, result["early_stop"])
    assert again["metrics"] == result["metrics"]


def test_a_rule_that_is_only_watched_lets_a_run_go_on(compose, tmp_path):
    config = compose(*SQUARES, *EARLY, "early_stop.apply=false", "optimizer.lr=0.01")
    result = execute(config, tmp_path / "a")
    assert (result["epochs"], result["early_stop"]["change"]) == (6, 3)
    assert result["early_stop"]["gap"] >= 3


def test_validation_on_the_test_part_is_not_repeated(compose, tmp_path):
    config = compose(*SQUARES, "+data.test_is_val=true", "trainer.max_epochs=1")
    row = execute(config, tmp_path / "a")["metrics"]["final"]
    assert row["test/dice"] == row["val/dice"]
    assert row["test/loss"] == row["val/loss"]


def test_levels_are_what_a_model_learns_and_labels_what_it_is_evaluated_by():
    # Report E, boundary style: white 1, line 0; codes 2 and 3 are pixels of either class on the line.
    given = task(levels=(1.0, 1.0, 0.0, 0.0), output="sigmoid")
    codes = torch.tensor([[[0, 1], [2, 3]]])
    assert given.labels(codes).tolist() == [[[0, 1], [0, 1]]]
    assert float(given.compute_loss(torch.zeros(1, 2, 2), codes)) == 0.5  # mean square of 1, 1, 0, 0
    assert given.threshold == 0


def test_grey_background_is_told_apart_midway_between_its_level_and_the_regions():
    given = task(levels=(0.5, 1.0), output="sigmoid")
    assert given.threshold == pytest.approx(torch.tensor(0.75).logit().item())
    logits = torch.tensor([0.74, 0.76]).logit().view(1, 1, 1, 2)
    assert given.reduce_output(logits).tolist() == [[[False, True]]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"output": "sigmoid", "classes": ("a", "b", "c")}, "output=sigmoid: accepted: softmax, for 3 classes"),
        ({"average": "batch"}, "average=batch: accepted: image, global"),
        ({"levels": (0.5, 1.0)}, "output=softmax: accepted: sigmoid, for masks in grey levels"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        task(**arguments)
