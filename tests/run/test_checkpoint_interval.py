"""Checkpoints by elapsed time: fewer of them, the same run, and nothing of it is lost when it is asked to stop."""

import os

import pytest
import torch

from retable.config.validate import validate
from retable.errors import ConfigError
from retable.run import checkpoints, files
from retable.run.execute import execute
from tests.run.test_foreign import composed, project  # noqa: F401, a fixture
from tests.runs import untimed

pytestmark = pytest.mark.usefixtures("no_figures")

TINY = ("task=mnist", "data.fraction=0.05", "model.width=2", "trainer.device=cpu", "trainer.max_epochs=5")


@pytest.fixture
def written(monkeypatch):
    """Epochs that had a checkpoint, as the history counts them."""
    lengths = []
    put = checkpoints.put

    def note(directory, temporary, best):
        lengths.append(len(files.read_history(directory / files.HISTORY)))
        put(directory, temporary, best)

    monkeypatch.setattr(checkpoints, "put", note)
    return lengths


def left(directory):
    rows = files.read_history(directory / files.HISTORY)
    weights = torch.load(directory / files.CHECKPOINT, weights_only=True)["state_dict"]
    return untimed(rows), weights


def assert_same_run(one, other):
    (rows, weights), (other_rows, other_weights) = left(one), left(other)
    assert rows == other_rows
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights)


@pytest.fixture
def whole(compose, tmp_path):
    execute(compose(*TINY), tmp_path / "whole")
    return tmp_path / "whole"


def test_by_itself_each_epoch_has_one_on_a_cpu(compose, tmp_path, written):
    execute(compose(*TINY), tmp_path / "run")
    assert written == [1, 2, 3, 4, 5]


def test_an_epoch_without_one_is_appended_to_the_history_and_forces_nothing_to_the_disk(
    compose, tmp_path, whole, written, monkeypatch
):
    forced, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (forced.append(number), fsync(number)))
    epochs = []
    config = compose(*TINY, "checkpoint.every=1h")
    execute(config, tmp_path / "run", on_epoch=lambda row: epochs.append(len(forced)))
    assert written == [5]  # the last one, always
    # The first line makes the file whole; the last epoch's history and the run's end are forced out again.
    assert epochs[0] == epochs[1] == epochs[2] == epochs[3] < epochs[4]
    assert_same_run(tmp_path / "run", whole)


def test_asked_to_stop_it_ends_its_epoch_and_goes_on_from_there(compose, tmp_path, whole, written):
    config, epochs = compose(*TINY, "checkpoint.every=1h"), []
    stop = {"on_epoch": lambda row: epochs.append(row["epoch"]), "should_interrupt": lambda: len(epochs) >= 2}
    assert execute(config, tmp_path / "run", **stop) == {"status": "interrupted", "epochs": 3}
    assert written == [3]
    assert execute(config, tmp_path / "run")["status"] == "finished"
    assert_same_run(tmp_path / "run", whole)


def test_killed_it_goes_on_from_its_last_checkpoint_and_its_history_with_it(compose, tmp_path, whole, written):
    class Killed(BaseException):
        pass

    def kill(row):
        epochs.append(row["epoch"])
        if row["epoch"] == 4:
            raise Killed

    config, epochs = compose(*TINY, "checkpoint.every=1h"), []
    with pytest.raises(Killed):  # somebody asks to stop in the second epoch, and thinks better of it
        execute(config, tmp_path / "run", on_epoch=kill, should_interrupt=lambda: len(epochs) == 1)
    files.remove([tmp_path / "run" / files.RESULT])
    assert len(files.read_history(tmp_path / "run" / files.HISTORY)) == 4
    execute(config, tmp_path / "run", on_epoch=lambda row: epochs.append(row["epoch"]))
    assert written == [2, 5]
    assert epochs == [1, 2, 3, 4, 3, 4, 5]
    assert_same_run(tmp_path / "run", whole)


def test_a_time_that_the_next_epoch_would_exceed_is_up(compose, tmp_path, written):
    execute(compose(*TINY, "checkpoint.every=0.001"), tmp_path / "run")
    assert written == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("wanted", "kind", "alone", "seconds"),
    [
        ("auto", "cpu", True, 0),
        ("auto", "cuda", True, 30),
        ("auto", "cuda", False, 0),
        ("10m", "cuda", True, 600),
        ("10m", "cuda", False, 0),
        ("epoch", "cuda", True, 0),
        (90, "cpu", True, 90),
    ],
)
def test_what_it_comes_to(wanted, kind, alone, seconds):
    assert checkpoints.interval(wanted, kind, alone) == seconds


def test_other_values_are_refused(compose):
    with pytest.raises(ConfigError, match=r"^checkpoint.every=never: accepted: auto, epoch, or a time like 30s, 10m$"):
        validate(compose(*TINY, "checkpoint.every=never"))


def test_a_history_is_appended_to_where_it_is_that_of_the_rows_before(tmp_path):
    path = tmp_path / "history.csv"
    rows = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}]
    files.append_history(path, rows[:1])
    files.append_history(path, rows)
    assert path.read_text() == "epoch,loss\n1,0.5\n2,0.25\n"
    files.append_history(path, [rows[0], {"epoch": 2, "loss": 0.125, "accuracy": 0.5}])  # another run of epoch 2
    assert path.read_text() == "epoch,loss,accuracy\n1,0.5,\n2,0.125,0.5\n"


def test_a_module_of_ones_own_has_them_by_time_too(project, written):  # noqa: F811
    """Its first epoch has one in any case: what it keeps there may be what no run can go on from."""
    config, epochs = composed("trainer.max_epochs=6", "module.lr=0.05", "checkpoint.every=1h"), []
    stop = {"on_epoch": lambda row: epochs.append(row["epoch"]), "should_interrupt": lambda: len(epochs) >= 3}
    assert execute(config, project / "run", **stop) == {"status": "interrupted", "epochs": 4}
    assert written == [1, 4]
    assert execute(config, project / "run")["status"] == "finished"
    assert written == [1, 4, 6]
    execute(composed("trainer.max_epochs=6", "module.lr=0.05"), project / "whole")
    assert written[3:] == [1, 2, 3, 4, 5, 6]
    assert_same_run(project / "run", project / "whole")
