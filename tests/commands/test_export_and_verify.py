"""What is exported of a run, and training it again."""

import json
import math
import re
import shutil

import pytest
from PIL import Image

from retable import cli
from retable.commands.verify import again, compared
from retable.errors import DataError
from retable.run import files
from retable.run.execute import execute
from tests.report.test_receptive_page import STUDY


@pytest.fixture(scope="module")
def exported(compose, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    config = compose("task=mnist", "model.width=2", "trainer.max_epochs=2", "trainer.limit_train_batches=4")
    kept = {key: value for key, value in config.items() if key not in ("sweep", "table", "seeds", "resume", "output")}
    directory = folder / "multirun" / "mnist" / "a"
    run = {"name": "a", "task": "mnist", "config": kept}
    run["overrides"] = ["task=mnist", "sweep.dir=/somewhere/multirun", "data.root=/somewhere/data", "model.width=2"]
    directory.mkdir(parents=True)
    (directory / files.RUN).write_text(json.dumps(run))
    execute(kept, directory)
    cli.main(["export", str(folder / "multirun"), str(folder / "results")])
    return folder / "results" / "mnist" / "a"


def test_places_of_the_machine_and_checkpoints_stay_behind(exported):
    run = json.loads((exported / files.RUN).read_text())
    assert run["overrides"] == ["task=mnist", "model.width=2"]
    assert "root" not in run["config"]["data"]
    assert "cache" not in run["config"]["data"]
    assert {path.name for path in exported.iterdir()} == {
        "run.json",
        "result.json",
        "history.csv",
        "images.json",
        "figures",
    }
    original = exported.parents[2] / "multirun/mnist/a/history.csv"
    assert (exported / files.HISTORY).read_text() == original.read_text()


def test_pictures_are_made_smaller_once(exported, tmp_path):
    names = {path.stem for path in (exported.parents[2] / "multirun/mnist/a/figures").glob("*.png")}
    assert "confusion_val" in names
    assert {path.name for path in (exported / "figures").iterdir()} == {f"{name}.webp" for name in names}
    run = tmp_path / "mnist/a"
    shutil.copytree(exported, run)
    for path in (run / "figures").iterdir():
        path.unlink()
    wide, small = Image.new("RGB", (2500, 800), "red"), Image.new("RGB", (300, 80), "red")
    wide.save(run / "figures/curves.png")
    small.save(run / "figures/samples.png")
    target = tmp_path / "out/mnist/a/figures"
    target.mkdir(parents=True)
    (target / "curves.png").write_bytes(b"of an earlier export")
    (target / "notes.txt").write_text("of the reader's own")
    cli.main(["export", str(run), str(tmp_path / "out")])
    assert sorted(path.name for path in target.iterdir()) == ["curves.webp", "notes.txt", "samples.webp"]
    with Image.open(target / "curves.webp") as picture:
        assert picture.format == "WEBP"
        assert picture.size == (1250, 400)  # 500,000 pixels
    with Image.open(target / "samples.webp") as picture:
        assert picture.size == (300, 80)
    cli.main(["export", str(run), str(tmp_path / "out"), "--pictures", "none"])
    assert [path.name for path in target.iterdir()] == ["notes.txt"]


def copy_of(exported, folder, **changes):
    """A run's files without its figures. Args: changes: of result.json."""
    shutil.copytree(exported, folder, ignore=shutil.ignore_patterns("figures"))
    result = json.loads((folder / files.RESULT).read_text())
    (folder / files.RESULT).write_text(json.dumps(result | changes))
    return folder


def test_two_runs_of_one_name_are_not_written_over_each_other(exported, tmp_path, capsys):
    one, two = (copy_of(exported, tmp_path / f"runs/{name}/mnist/a") for name in ("one", "two"))
    words = ["export", str(tmp_path / "runs"), str(tmp_path / "out"), "--pictures", "none"]
    cli.main(words)  # the same run, copied: once is enough
    assert capsys.readouterr().out.startswith("1 runs in ")
    rows = (two / files.HISTORY).read_text().splitlines()
    (two / files.HISTORY).write_text("\n".join(rows[:-1]) + "\n")
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(SystemExit):
        cli.main(words)
    assert f"{one} and {two}: both would be {tmp_path}/out/mnist/a; accepted: folders of" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_runs_that_did_not_finish_are_named(exported, tmp_path, capsys):
    """A table of the copy has not got them, which may decide a claim that the table of the runs leaves open."""
    copy_of(exported, tmp_path / "runs/mnist/a")
    failed = copy_of(exported, tmp_path / "runs/mnist/b", status="failed")
    begun = copy_of(exported, tmp_path / "runs/mnist/c")
    (begun / files.RESULT).unlink()
    cli.main(["export", str(tmp_path / "runs"), str(tmp_path / "out"), "--pictures", "none"])
    shown = capsys.readouterr()
    assert shown.out.startswith("1 runs in ")
    assert shown.err.splitlines() == [f"left out: {failed}: failed", f"left out: {begun}: unfinished"]


def test_an_exported_run_comes_out_the_same(exported, capsys):
    cli.main(["verify", str(exported)])
    assert "the same, bit for bit" in capsys.readouterr().out
    cli.main(["verify", str(exported), "--epochs", "1"])
    assert "figures of 1 epochs" in capsys.readouterr().out


def test_where_a_verification_is_among_epochs_that_something_else_may_end(compose, tmp_path, capsys):
    words = ("task=mnist", "model.width=2", "trainer.max_steps=8", "trainer.limit_train_batches=4")
    for epochs, shown in (("3", "epoch 1/3\nepoch 2/3\n"), ("-1", "epoch 1\nepoch 2\n")):
        config = compose(*words, f"trainer.max_epochs={epochs}")
        kept = {key: value for key, value in config.items() if key not in ("sweep", "table", "seeds", "resume")}
        directory = tmp_path / epochs
        directory.mkdir()
        run = {"name": "a", "task": "mnist", "config": kept, "overrides": []}
        (directory / files.RUN).write_text(json.dumps(run))
        execute(kept, directory)
        capsys.readouterr()
        cli.main(["verify", str(directory)])
        assert shown in capsys.readouterr().out


def trained(config, directory):
    kept = {key: value for key, value in config.items() if key not in ("sweep", "table", "seeds", "resume")}
    directory.mkdir()
    run = {"name": "a", "task": "mnist", "config": kept, "overrides": []}
    (directory / files.RUN).write_text(json.dumps(run))
    return execute(kept, directory)


@pytest.mark.parametrize("scheduler", ["one_cycle", "warmup_cosine"])
def test_the_first_epochs_have_the_whole_trainings_learning_rates(compose, tmp_path, capsys, scheduler):
    words = ("task=mnist", "model.width=2", "trainer.max_epochs=3", "trainer.limit_train_batches=4")
    trained(compose(*words, f"scheduler={scheduler}"), tmp_path / "run")
    capsys.readouterr()
    cli.main(["verify", str(tmp_path / "run"), "--epochs", "2"])
    assert re.search(r"the same, bit for bit: \d+ figures of 2 epochs", capsys.readouterr().out)


@pytest.mark.parametrize(
    "limit",
    [
        ("trainer.max_epochs=-1", "trainer.max_time={seconds: 2}"),
        ("trainer.max_epochs=9999", "callbacks=timer", "callbacks.timer.duration=00:00:00:02"),
    ],
)
def test_a_run_that_a_time_ended_is_compared_in_its_whole_epochs(compose, tmp_path, capsys, limit):
    words = ("task=mnist", "data.fraction=0.2", "model.width=2", "scheduler=step")
    result = trained(compose(*words, *limit), tmp_path / "run")
    rows = files.read_history(tmp_path / "run" / files.HISTORY)
    whole = result["step"] // 13
    assert (whole >= 1, rows[0]["step"]) == (True, 13)
    capsys.readouterr()
    cli.main(["verify", str(tmp_path / "run")])
    assert re.search(rf"the same, bit for bit: \d+ figures of {whole} epochs", capsys.readouterr().out)


def test_a_run_that_a_time_ended_within_its_first_epoch(compose, tmp_path):
    trained(compose("task=mnist", "data.fraction=0.2", "model.width=2", "trainer.max_steps=5"), tmp_path / "run")
    run = json.loads((tmp_path / "run" / files.RUN).read_text())
    run["config"]["trainer"] |= {"max_time": "00:00:00:01", "max_steps": -1}
    (tmp_path / "run" / files.RUN).write_text(json.dumps(run))
    with pytest.raises(DataError, match=r"run: trainer.max_time ended it within its first epoch; accepted: a longer"):
        again(tmp_path / "run")


def test_data_that_have_changed_are_named(compose, tmp_path, capsys):
    words = ("task=gland", "data._target_=tests.tasks.squares.Squares", "data.batch_size=8", "model=fcn_small_bn")
    folder = tmp_path / "squares"
    folder.mkdir()
    (folder / "seed.txt").write_text("7")
    result = trained(
        compose(*words, "trainer.max_epochs=1", "data.source=real", f"data.root={tmp_path}"), tmp_path / "run"
    )
    cli.main(["verify", str(tmp_path / "run")])
    assert "other data" not in capsys.readouterr().out
    (folder / "seed.txt").write_text("8")  # it says nothing of the images, which are the same
    cli.main(["verify", str(tmp_path / "run")])
    shown = capsys.readouterr().out
    was = result["data"]["fingerprint"][:8]
    assert re.search(rf"\nother data: their fingerprint was {was} and is (?!{was})[0-9a-f]{{8}}, so that the", shown)


def test_another_figure_is_found(exported, tmp_path, capsys):
    changed = tmp_path / "a"
    changed.mkdir()
    for name in (files.RUN, files.RESULT):
        (changed / name).write_text((exported / name).read_text())
    rows = (exported / files.HISTORY).read_text().splitlines()
    cells = rows[2].split(",")
    cells[rows[0].split(",").index("val/accuracy")] = "0.0"
    (changed / files.HISTORY).write_text("\n".join([*rows[:2], ",".join(cells)]) + "\n")
    with pytest.raises(SystemExit) as ended:
        cli.main(["verify", str(changed)])
    assert ended.value.code == 1
    assert "first differs at epoch 2, val/accuracy: 0.0 was recorded" in capsys.readouterr().out


def test_a_difference_is_set_against_the_spread_of_the_seeds(tmp_path):
    cell = []
    for seed, value in enumerate((0.5, 0.6, 0.7)):  # standard deviation 0.1
        directory = tmp_path / str(seed)
        files.write_history(directory / files.HISTORY, [{"epoch": 1, "val/accuracy": value}])
        cell.append(directory)
    old = [{"epoch": 1, "val/accuracy": 0.6}]
    line, same = compared(old, [{"epoch": 1, "val/accuracy": 0.75}], cell)
    assert same
    assert "two standard deviations of 3 seeds: 0.2" in line
    assert not compared(old, [{"epoch": 1, "val/accuracy": 0.85}], cell)[1]
    assert not compared(old, [{"epoch": 1, "val/accuracy": 0.65}], cell[:1])[1]  # one seed has no spread
    assert compared(old, [{"epoch": 1, "val/accuracy": 0.6, "seconds/train": 3.0}], cell)[1]
    assert not compared(old, [*old, {"epoch": 2, "val/accuracy": math.pi}], cell)[1]


def test_the_first_epochs_are_set_against_the_spread_of_their_seeds_then(tmp_path):
    """`--epochs 1`: seeds that end alike may be far apart at first, and the other way round."""
    cell = []
    for seed, (first, last) in enumerate(((0.1, 0.80), (0.3, 0.81), (0.5, 0.82))):  # deviations 0.2 and 0.01
        rows = [{"epoch": 1, "val/accuracy": first}, {"epoch": 2, "val/accuracy": last}]
        files.write_history(tmp_path / str(seed) / files.HISTORY, rows)
        cell.append(tmp_path / str(seed))
    line, same = compared([{"epoch": 1, "val/accuracy": 0.3}], [{"epoch": 1, "val/accuracy": 0.5}], cell)
    assert same
    assert "two standard deviations of 3 seeds: 0.4" in line
    old = [{"epoch": 1, "val/accuracy": 0.3}, {"epoch": 2, "val/accuracy": 0.81}]
    line, same = compared(old, [old[0], {"epoch": 2, "val/accuracy": 0.84}], cell)
    assert not same
    assert "two standard deviations of 3 seeds: 0.02" in line


def test_what_differs_in_training_alone_is_set_against_a_spread_too(tmp_path):
    files.write_history(tmp_path / files.HISTORY, [{"epoch": 1, "train/loss": 0.3, "val/accuracy": 0.5}])
    old = [{"epoch": 1, "train/loss": 0.3, "val/accuracy": 0.5}]
    line, same = compared(old, [{"epoch": 1, "train/loss": 9.0, "val/accuracy": 0.5}], [tmp_path])
    assert line.splitlines()[1:] == ["train/loss: 0.3000 recorded, 9.0000 now (one seed)", "not the same"]
    assert not same


def test_a_receptive_field_is_exported_with_smaller_pictures(tmp_path):
    study = tmp_path / "multirun/receptive/resnet18-layer4-10"
    study.mkdir(parents=True)
    command = "retable receptive --network=resnet18 --weights=/a/b/w.pth --layer=layer4 --unit=10 /data/photos here/"
    (study / "receptive.json").write_text(json.dumps(STUDY | {"command": command}))
    (study / "theoretical.json").write_text("[]")
    for name in ("top", "average", "discrepancy"):
        Image.new("RGB", (2500, 800), "red").save(study / f"{name}.png")
    (study / "index.html").write_text("of the machine")
    cli.main(["export", str(tmp_path / "multirun"), str(tmp_path / "out")])
    target = tmp_path / "out/receptive/resnet18-layer4-10"
    names = ["average.webp", "discrepancy.webp", "index.html", "receptive.json", "theoretical.json", "top.webp"]
    assert sorted(path.name for path in target.iterdir()) == names
    page = (target / "index.html").read_text()
    assert set(re.findall(r'<img class="figure" src="([^"]+)"', page)) == {name for name in names if "webp" in name}
    words = "retable receptive --network=resnet18 --weights=w.pth --layer=layer4 --unit=10 photos here"
    assert json.loads((target / "receptive.json").read_text()) == STUDY | {"command": words}
    with Image.open(target / "top.webp") as picture:
        assert picture.size == (1250, 400)
