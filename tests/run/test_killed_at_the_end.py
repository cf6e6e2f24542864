"""A run that is killed after its last epoch, before its result: called again it leaves all that it would have left."""

from pathlib import Path
from typing import Any

import pytest

from retable import atomic
from retable.figures import classification as figures
from retable.run import execute as execution
from retable.run import files

TASKS = {
    "mnist": ("task=mnist", "data.fraction=0.1", "model.width=4"),
    "gland": ("task=gland", "data.size=32"),
    "wildlife": (
        *("task=wildlife", "model.backbone=resnet18", "model.width=16", "model.weights=none"),
        *("data.shorter=48", "data.longer=64", "data.fraction=0.2"),
    ),
}


def left_behind(directory: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A run's confusion matrices and metrics by class, and its figures but for those that hold times."""
    result = atomic.read_json(directory / files.RESULT)
    kept = {key: result[key] for key in ("status", "confusion", "per_class")}
    pictures = {path.name: path.read_bytes() for path in (directory / "figures").glob("*.png")}
    return kept, pictures


@pytest.mark.parametrize(
    ("task", "more"),
    [
        *((task, ()) for task in TASKS),
        # The last epoch has no validation: counts and figures are of the weights behind it, not of an earlier epoch's.
        ("mnist", ("trainer.max_epochs=3", "trainer.check_val_every_n_epoch=2")),
    ],
)
def test_nothing_of_the_last_epoch_is_lost(compose, tmp_path, monkeypatch, task, more):
    config = compose(*TASKS[task], "data=sample", "trainer.max_epochs=1", "trainer.device=cpu", *more)
    title = "run"  # directories of one name, since figures show it
    execution.execute(config, tmp_path / "whole" / title)
    with monkeypatch.context() as patch:
        patch.setattr(execution, "_draw", killed)
        with pytest.raises(KeyboardInterrupt):
            execution.execute(config, tmp_path / "killed" / title)
    assert not (tmp_path / "killed" / title / files.RESULT).exists()  # nor does a killed process say that it has failed
    execution.execute(config, tmp_path / "killed" / title)
    expected, pictures = left_behind(tmp_path / "whole" / title)
    again, pictures_again = left_behind(tmp_path / "killed" / title)
    assert again == expected
    assert pictures_again == pictures
    if task != "wildlife":  # whose metrics are those of validation
        assert expected["confusion"].keys() >= {"train", "val"}


def killed(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_figure_that_was_not_written_whole_is_none(tmp_path, monkeypatch):
    def cut(figure: Any, target: Any, **_: Any) -> None:
        if isinstance(target, Path):
            target.write_bytes(b"\x89PNG")
        raise KeyboardInterrupt

    monkeypatch.setattr(figures.Figure, "savefig", cut)
    with pytest.raises(KeyboardInterrupt):
        figures.confusion_matrix([[1, 0], [0, 1]], ("a", "b"), tmp_path / "confusion.png", "title")
    assert list(tmp_path.iterdir()) == []
