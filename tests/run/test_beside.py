"""Events and figures written by processes beside a training: the same files, and nothing is lost."""

import contextlib
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from retable.figures import saving
from retable.run import beside, files
from retable.run.execute import execute
from tests.runs import TIMES, untimed

SMALL = (
    "task=mnist",
    "logger=tensorboard",
    "data.fraction=0.1",
    "model.width=2",
    "trainer.max_epochs=3",
    "trainer.device=cpu",
)
MESSAGE = "events and figures: the process that writes them beside the training {}; written here now"


@pytest.fixture
def helped(monkeypatch):
    """Runs on a CPU have helpers as those on a GPU; they end with the test."""
    monkeypatch.setattr(beside, "is_wanted", lambda kind: True)
    monkeypatch.setattr(beside, "_writers", [])
    yield
    for writer in beside._writers:
        writer.close()


def scalars(directory: Path) -> dict[str, list[tuple[int, float]]]:
    """By part and tag the epochs and values of a run's events."""
    found = {}
    for part in ("train", "val"):
        events = EventAccumulator(str(directory / part)).Reload()
        for tag in events.Tags()["scalars"]:
            if tag not in TIMES:
                found[f"{part} {tag}"] = [(event.step, event.value) for event in events.Scalars(tag)]
    return found


def rows(directory: Path) -> list[dict[str, float]]:
    history = files.read_history(directory / files.HISTORY)
    return untimed(history)


def pictures(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (directory / "figures").glob("*.png")}


def test_a_run_with_helpers_is_the_run_without(compose, tmp_path, request):
    config = compose(*SMALL)
    plain = execute(config, tmp_path / "a/plain")
    request.getfixturevalue("helped")
    result = execute(config, tmp_path / "b/plain")  # of one name, which is in the figures
    assert len(beside._writers) == beside.DRAWERS
    assert result["metrics"] == plain["metrics"]
    assert rows(tmp_path / "a/plain") == rows(tmp_path / "b/plain")
    assert scalars(tmp_path / "a/plain") == scalars(tmp_path / "b/plain")
    assert [epoch for epoch, _ in scalars(tmp_path / "b/plain")["train loss"]] == [1, 2, 3]
    assert pictures(tmp_path / "a/plain") == pictures(tmp_path / "b/plain")
    assert len(pictures(tmp_path / "b/plain")) > 4


def test_a_run_whose_helpers_die_says_so_and_loses_nothing(compose, tmp_path, monkeypatch, helped, capfd):
    def kill(place: int) -> None:
        beside._writers[place]._process.kill()
        beside._writers[place]._process.wait()

    give = beside.Writer.give

    def give_and_kill(self: beside.Writer, what: str, *arguments: object) -> None:
        give(self, what, *arguments)
        if what == "draw" and self in beside._writers[2:3]:
            kill(2)

    monkeypatch.setattr(beside.Writer, "give", give_and_kill)
    config = compose(*SMALL)
    result = execute(config, tmp_path / "run", on_epoch=lambda row: kill(0) if row["epoch"] == 2 else None)
    assert result["status"] == files.FINISHED
    lines = [line for line in capfd.readouterr().out.splitlines() if line.startswith("events")]
    assert lines == [MESSAGE.format("ended by signal 9")] * 2  # of the events, and of the third drawer
    found = scalars(tmp_path / "run")
    assert found["train loss"] == [(row["epoch"], pytest.approx(row["train/loss"])) for row in rows(tmp_path / "run")]
    assert len(found["train loss"]) == 3
    assert len(pictures(tmp_path / "run")) > 4


def test_an_interrupted_run_s_events_are_on_disk(compose, tmp_path, helped):
    seen: list[int] = []
    stop = {"on_epoch": lambda row: seen.append(row["epoch"]), "should_interrupt": lambda: len(seen) == 1}
    assert execute(compose(*SMALL), tmp_path / "run", **stop)["status"] == files.INTERRUPTED
    assert [epoch for epoch, _ in scalars(tmp_path / "run")["train loss"]] == [1]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_a_training_gave_before_it_died_is_written(tmp_path, number):
    """Also where the whole group is told to end; and no process is left."""
    code = f"""
import os, sys
from pathlib import Path
from retable.run import beside
events = beside.EventsBeside(Path({str(tmp_path)!r}), None)
for epoch in range(1, 51):
    events.write({{"epoch": epoch, "step": epoch, "train/loss": 1 / epoch}})
print(beside._writers[0]._process.pid, flush=True)
os.killpg(os.getpgrp(), {int(number)})
"""
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": paths},
        start_new_session=True,
    )
    assert done.returncode == -number
    helper = int(done.stdout)
    deadline = time.monotonic() + 120
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.kill(helper, 0)
            if re.search(r"\) Z ", Path(f"/proc/{helper}/stat").read_text()):
                break  # ended; who has taken it over has not looked yet
            time.sleep(0.1)
    assert time.monotonic() < deadline
    events = EventAccumulator(str(tmp_path / "train")).Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(1, 51))


def test_a_helper_that_hangs_is_not_waited_for_for_ever(monkeypatch, helped, tmp_path, capfd):
    writer = beside.Writer()
    writer.wait()
    monkeypatch.setattr(beside, "PATIENCE", 0.3)
    os.kill(writer._process.pid, signal.SIGSTOP)
    with pytest.raises(beside.Lost, match=r"^was not done after 0 s$"):
        writer.wait()
    assert not writer.alive
    writer = beside.Writer()
    os.kill(writer._process.pid, signal.SIGSTOP)
    with pytest.raises(beside.Lost, match=r"^took no job for 0 s$"):
        writer.give("draw", b"0" * 2**20, "")  # more than a pipe holds
    assert not writer.alive


def test_a_picture_that_cannot_be_written_fails_as_it_does_without_helpers(tmp_path, helped, capfd):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"), beside.drawing("cuda"):
        saving.save(Figure(), tmp_path / "file/picture.png")
    assert re.search(r"beside the training (NotADirectory|FileExists)Error: ", capfd.readouterr().out)


def test_a_figure_that_has_gone_through_a_pickle_gives_the_same_bytes(tmp_path):
    figure = Figure(layout="constrained")
    figure.add_subplot().plot([1, 2], [3, 4], label="a")
    figure.legend()
    saving.render(pickle.loads(pickle.dumps(figure)), tmp_path / "one.png")
    saving.render(figure, tmp_path / "other.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()
