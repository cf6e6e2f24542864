"""Which checkpoints a run keeps, and what becomes of a damaged one."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from retable import cli
from retable.errors import DataError, RetableError
from retable.models.weights import damage
from retable.run import checkpoints, files
from retable.run import execute as execution
from retable.run.execute import execute
from retable.run.restore import load
from retable.sweeps.pool import Outcome
from retable.sweeps.session import prepare, sweep
from tests.runs import history, interrupted_after

pytestmark = pytest.mark.usefixtures("no_figures")

TINY = ("task=mnist", "data.fraction=0.1", "model.width=4", "trainer.max_epochs=4", "optimizer.lr=0.3")
KEPT = {
    "last": ["last.ckpt"],
    "best": ["best.ckpt"],
    "both": ["best.ckpt", "last.ckpt"],
    "none": [],
}


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if "ckpt" in path.name)


@pytest.fixture(scope="module")
def whole(compose, tmp_path_factory):
    """An uninterrupted run that keeps all, and its config."""
    config = compose(*TINY, "checkpoint=both")
    directory = tmp_path_factory.mktemp("runs") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execution, "_draw", lambda *_: None)
        execute(config, directory)
    return config, directory


@pytest.mark.parametrize("option", KEPT)
def test_what_a_finished_run_keeps(compose, whole, tmp_path, option):
    config = compose(*TINY, f"checkpoint={option}")
    assert execute(config, tmp_path / "run", **interrupted_after(2))["status"] == "interrupted"
    kept_meanwhile = {"last.ckpt", "previous.ckpt"} | ({"best.ckpt"} if option in ("best", "both") else set())
    assert set(names(tmp_path / "run")) == kept_meanwhile
    assert execute(config, tmp_path / "run")["status"] == "finished"
    assert names(tmp_path / "run") == KEPT[option]
    assert history(tmp_path / "run") == history(whole[1])


def test_a_run_does_not_go_on_from_another_runs_checkpoint(compose, whole, tmp_path):
    """Its end would be the other's, under this one's seed."""
    config = compose(*TINY, "seed=1", "checkpoint=both")
    execute(config, tmp_path / "run", **interrupted_after(1))
    begun = (tmp_path / "run" / "last.ckpt").read_bytes()
    (tmp_path / "run" / "last.ckpt").write_bytes((whole[1] / "last.ckpt").read_bytes())
    with pytest.raises(RetableError, match=r"its checkpoint is of another run \(seed=0\); accepted: its own, or none"):
        execute(config, tmp_path / "run")
    assert files.read_result(tmp_path / "run")["status"] == "failed"
    (tmp_path / "run" / "result.json").unlink()
    (tmp_path / "run" / "last.ckpt").write_bytes(begun)
    moved = compose(*TINY, "seed=1", "checkpoint=both", "data.root=elsewhere", "logger=none")
    assert execute(moved, tmp_path / "run")["status"] == "finished"


def test_the_best_checkpoint_is_the_best_epochs(whole, compose, tmp_path):
    _, directory = whole
    rows = history(directory)
    best = max(rows, key=lambda row: row["val/accuracy"])
    assert torch.load(directory / files.BEST, weights_only=True)["epoch"] == best["epoch"] - 1
    lower = compose(*TINY, "checkpoint=both", "task.metric=train/accuracy", "optimizer.lr=1e-6")
    lower["task"]["metric"] = "val/loss"  # which grows under this rate only in the last digits
    execute(lower, tmp_path / "run")
    least = min(history(tmp_path / "run"), key=lambda row: row["val/loss"])
    assert torch.load(tmp_path / "run" / files.BEST, weights_only=True)["epoch"] == least["epoch"] - 1


def test_predict_takes_the_best_one(whole, tmp_path, capsys):
    _, directory = whole
    assert load(directory).path.name == "last.ckpt"
    assert load(directory, which="best").path.name == "best.ckpt"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "best.ckpt").write_bytes((directory / "best.ckpt").read_bytes())
    assert load(tmp_path / "run").path.name == "best.ckpt"  # of checkpoint=best
    with pytest.raises(SystemExit):
        cli.main(["evaluate", str(tmp_path / "run"), str(tmp_path), "--checkpoint", "last"])
    assert f"{tmp_path}/run/last.ckpt: no such checkpoint; accepted: a last.ckpt" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"best.ckpt: no such checkpoint \(runs with checkpoint=both keep it\)"):
        load(tmp_path, which="best")


@pytest.mark.parametrize("option", KEPT)
def test_a_kill_between_a_result_and_what_is_kept_leaves_nothing_for_good(compose, tmp_path, monkeypatch, option):
    """The next to look at the finished run does what was left undone, and takes nothing that it was told to keep."""
    directory, config = tmp_path / "run", compose(*TINY, "trainer.max_epochs=2", f"checkpoint={option}")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "settle", lambda *_: None)
        execute(config, directory)
    result = (directory / files.RESULT).read_text()
    assert "previous.ckpt" in names(directory)
    assert execute(compose(*TINY, "trainer.max_epochs=2", "checkpoint=last"), directory)["status"] == "finished"
    assert names(directory) == KEPT[option]
    assert (directory / files.RESULT).read_text() == result


def test_a_history_that_is_behind_its_checkpoint_is_made_whole(whole, tmp_path):
    """Their renames may be lost each by itself when the power goes; also where no epoch is left to train."""
    config, reference = whole
    directory = tmp_path / "run"
    assert execute(config, directory)["status"] == "finished"
    (directory / files.RESULT).unlink()
    lines = (directory / files.HISTORY).read_text().splitlines(keepends=True)
    (directory / files.HISTORY).write_text("".join(lines[:3]))
    trained: list[int] = []
    assert execute(config, directory, on_epoch=lambda row: trained.append(row["epoch"]))["status"] == "finished"
    assert trained == []
    assert history(directory) == history(reference)


def test_a_finished_run_stays_finished_where_nothing_can_be_deleted(compose, tmp_path, monkeypatch):
    directory = tmp_path / "run"

    def fail(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "files", SimpleNamespace(**(vars(files) | {"remove": fail})))
        assert execute(compose(*TINY, "trainer.max_epochs=2"), directory)["status"] == "finished"
    assert (files.read_result(directory) or {})["status"] == "finished"
    assert names(directory) == ["last.ckpt", "previous.ckpt"]


def test_a_sweep_settles_what_a_kill_has_left(compose, tmp_path):
    """Without training anything; a run that has not finished keeps its previous checkpoint."""
    overrides = ["task=mnist", "data=sample", "data.fraction=0.1", "model.width=4", "trainer.max_epochs=1"]
    overrides += ["trainer.device=cpu", "logger=none", "seed=0,1", f"sweep.dir={tmp_path}"]

    def train(plan: Any, todo: list[Any]) -> Outcome:
        prepare(plan, todo)
        for run in todo:
            execute(run.config, run.directory)
        return Outcome()

    plan, _ = sweep(overrides, train)
    first, second = (run.directory for run in plan.runs)
    for directory in (first, second):
        (directory / "previous.ckpt").write_bytes(b"left")
    (second / files.RESULT).unlink()
    sweep(overrides, lambda plan, todo: Outcome())
    assert names(first) == ["last.ckpt"]
    assert names(second) == ["last.ckpt", "previous.ckpt"]


def small(path: Path) -> dict[str, Any]:
    content = {"weights": torch.arange(48, dtype=torch.float32), "epoch": 3, "name": "a run"}
    torch.save(content, path)
    return content


def test_no_flipped_bit_goes_unnoticed(tmp_path):
    """Every byte of a file: what is taken for undamaged loads as what was written."""
    content = small(tmp_path / "whole.ckpt")
    original = (tmp_path / "whole.ckpt").read_bytes()
    assert damage(tmp_path / "whole.ckpt") is None
    path, noticed = tmp_path / "last.ckpt", 0
    for place in range(0, len(original), 3):
        flipped = bytearray(original)
        flipped[place] ^= 1 << (place % 8)
        path.write_bytes(flipped)
        if damage(path) is None:
            loaded = torch.load(path, weights_only=True)
            assert torch.equal(loaded.pop("weights"), content["weights"]), place
            assert loaded == {"epoch": 3, "name": "a run"}, place
        else:
            noticed += 1
    assert noticed > 100


@pytest.mark.parametrize("share", [0, 0.2, 0.5, 0.9, 0.999])
def test_a_cut_file_is_damaged(tmp_path, share):
    small(tmp_path / "last.ckpt")
    whole = (tmp_path / "last.ckpt").read_bytes()
    (tmp_path / "last.ckpt").write_bytes(whole[: int(len(whole) * share)])
    assert damage(tmp_path / "last.ckpt")


def flip_in_a_tensor(path: Path) -> None:
    """One bit of a model's weight, by its place in the file."""
    content = path.read_bytes()
    weight = torch.load(path, weights_only=True)["state_dict"]["model.head.1.weight"].numpy().tobytes()
    place = content.index(weight) + 40
    path.unlink()  # the other names of this file keep it as it was
    path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(("broken", "both"), [(flip_in_a_tensor, False), (cut, False), (cut, True)])
def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(whole, tmp_path, capsys, broken, both):
    config, reference = whole
    directory = tmp_path / "run"
    assert execute(config, directory, **interrupted_after(3))["status"] == "interrupted"
    broken(directory / files.CHECKPOINT)
    if both:
        broken(directory / files.PREVIOUS)
    capsys.readouterr()
    trained: list[int] = []
    assert execute(config, directory, on_epoch=lambda row: trained.append(row["epoch"]))["status"] == "finished"
    assert trained == ([1, 2, 3, 4] if both else [3, 4])
    lines = [line for line in capsys.readouterr().out.splitlines() if "damaged" in line]
    assert len(lines) == 1 + both
    assert lines[0].startswith(f"{directory / files.CHECKPOINT}: damaged (")
    assert "set aside as last.ckpt.damaged, the run goes on from before" in lines[0]
    assert (directory / "last.ckpt.damaged").exists()
    assert history(directory) == history(reference)
    for name in KEPT["both"]:
        one, other = (torch.load(folder / name, weights_only=True) for folder in (directory, reference))
        assert all(torch.equal(value, other["state_dict"][key]) for key, value in one["state_dict"].items())


def test_predict_names_a_damaged_checkpoint(whole, tmp_path):
    (tmp_path / files.CHECKPOINT).write_bytes((whole[1] / files.CHECKPOINT).read_bytes())
    flip_in_a_tensor(tmp_path / files.CHECKPOINT)
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / files.CHECKPOINT}: not a whole checkpoint (data/")
    assert message.endswith("is not as it was written)")


def test_a_file_system_without_second_names(tmp_path, monkeypatch):
    def refuse(*_: Any) -> None:
        raise PermissionError("not supported")

    monkeypatch.setattr("os.link", refuse)
    for number in range(3):
        (tmp_path / ".last.ckpt").write_text(str(number))
        checkpoints.put(tmp_path, tmp_path / ".last.ckpt", best=number == 1)
    found = {name: (tmp_path / name).read_text() for name in names(tmp_path)}
    assert found == {"last.ckpt": "2", "previous.ckpt": "1", "best.ckpt": "1"}


def test_a_disk_that_cannot_be_read_is_no_damage(tmp_path, monkeypatch):
    small(tmp_path / "last.ckpt")

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("zipfile.ZipFile.testzip", fail)
    with pytest.raises(OSError, match="Input/output error"):
        checkpoints.usable(tmp_path)
    assert names(tmp_path) == ["last.ckpt"]
