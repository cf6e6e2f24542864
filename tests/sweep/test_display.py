"""What a sweep shows while it runs: the task's own metric, short names, time left, on any terminal and in a log."""

import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from retable.run import files
from retable.sweeps import curves, results
from retable.sweeps import display as module
from retable.sweeps.display import Display, labels, short_names
from retable.sweeps.plan import Run


class Time:
    """A clock that is set."""

    now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    time = Time()
    monkeypatch.setattr(module, "time", time)
    return time


@pytest.fixture
def runs(tmp_path):
    names = [f"data-sample__model-unet__lr-{lr}__seed-0" for lr in (0.1, 0.2)]
    return [Run(name, tmp_path / name, {"trainer": {"max_epochs": 10}}, [], {}, "new") for name in names]


@pytest.fixture
def halfway(runs, clock):
    """Two runs, of which the first has trained two of ten epochs in 20 seconds."""
    display = Display(runs, 3)
    display.started(runs[0], 0)
    display.started(runs[1], 1)
    for epoch in (1, 2):
        clock.now += 10
        event = {"epoch": epoch, "epochs": 10, "steps": 0, "loss": 0.5, "score": {"val/dice": 0.8123}}
        display.progress(runs[0], 0, event)
    return display


def rendered(display, width):
    console = Console(file=io.StringIO(), width=width)
    display._live = type("Live", (), {"console": console})()
    console.print(display._panel())
    display._live = None
    return console.file.getvalue()


def test_names_say_what_differs():
    assert short_names(["a-1__b-2", "a-1__b-3"]) == {"a-1__b-2": "b-2", "a-1__b-3": "b-3"}
    assert short_names(["a-1__b-2"]) == {"a-1__b-2": "a-1__b-2"}
    assert short_names(["a-1", "a-1__b-2"]) == {"a-1": "a-1", "a-1__b-2": "b-2"}
    assert short_names([]) == {}


def test_runs_are_called_by_what_was_set_also_where_it_is_the_default():
    def run(name, task="gland", **varied):
        return Run(name, Path(task, name), {"task": {"name": task}}, [], varied, "new")

    swept = [
        run("width-4__seed-0", width=4, lr=0.001, seed=0),
        run("width-4__lr-0.01__seed-0", width=4, lr=0.01, seed=0),
    ]
    assert list(labels(swept).values()) == ["lr-0.001", "lr-0.01"]
    assert list(labels(swept[:1]).values()) == ["width-4__seed-0"]  # nothing differs
    tasks = [run("seed-0", task, seed=0) for task in ("gland", "brain")]
    assert list(labels(tasks).values()) == ["gland/seed-0", "brain/seed-0"]
    tasks = [run("seed-0", task, seed=0, lr=lr) for task, lr in (("gland", 0.1), ("brain", 0.2))]
    assert list(labels(tasks).values()) == ["gland-lr-0.1", "brain-lr-0.2"]
    read = [run("lr-0.1__seed-0"), run("lr-0.2__seed-0")]  # from their directories: what was set is not known
    assert list(labels(read).values()) == ["lr-0.1", "lr-0.2"]


def test_the_panel_says_each_run_its_metric_and_what_is_left(halfway):
    lines = [line.rstrip() for line in rendered(halfway, 120).splitlines()]
    assert lines == [
        "worker 0  lr-0.1  epoch 2/10  loss 0.5000  val/dice 0.8123  1m20s left",
        "worker 1  lr-0.2  starting",
        "1 of 3 done, 2 left; 20s spent, 1m30s left",  # 8 + 10 epochs of 10 s, two at a time
    ]


def test_a_narrow_terminal_has_two_lines_a_run_and_none_is_cut(halfway):
    lines = rendered(halfway, 60).splitlines()
    assert [line.rstrip() for line in lines] == [
        "lr-0.1",
        "  epoch 2/10  loss 0.5000  val/dice 0.8123  1m20s left",
        "lr-0.2",
        "  starting",
        "1 of 3 done, 2 left; 20s spent, 1m30s left",
    ]


def test_on_a_terminal_of_forty_columns_lines_are_continued_not_cut(halfway):
    lines = rendered(halfway, 40).splitlines()
    assert [line.rstrip() for line in lines] == [
        "lr-0.1",
        "  epoch 2/10  loss 0.5000  val/dice",
        "  0.8123  1m20s left",
        "lr-0.2",
        "  starting",
        "1 of 3 done, 2 left; 20s spent, 1m30s",
        "left",
    ]


def test_runs_of_two_tables_that_set_the_same_are_called_by_their_own_names(tmp_path):
    """`gland/models` and `gland/best` both set model, the second epochs, too: no name says a seed twice."""
    config = {"task": {"name": "gland"}}
    planned = [
        ("model-fcn__seed-0", {"seed": 0, "model": "fcn"}),
        ("fcn2__seed-0", {"seed": 0, "model": "fcn2"}),
        ("fcn2__best__seed-0", {"seed": 0, "model": "fcn2"}),
        ("lr-0.1__seed-1", {"seed": 1, "lr": 0.1}),
    ]
    runs = [Run(name, tmp_path / name, config, [], varied, "new") for name, varied in planned]
    assert curves.names(runs) == ["model-fcn__seed-0", "fcn2__seed-0", "fcn2__best__seed-0", "lr-0.1__seed-1"]
    runs = [Run(name, tmp_path / name, {"task": {"name": name[0]}}, [], v, "new") for name, v in planned[1:]]
    assert curves.names(runs) == ["f-fcn2__seed-0", "f-fcn2__best__seed-0", "l-lr-0.1__seed-1"]


def test_names_that_are_longer_than_the_terminal_are_continued_too(tmp_path, clock):
    names = [f"widths-{'+'.join(['128'] * 30)}+{end}__seed-0" for end in (1, 2)]
    runs = [Run(name, tmp_path / name, {"trainer": {"max_epochs": 10}}, [], {}, "new") for name in names]
    display = Display(runs, 2)
    for worker, run in enumerate(runs):
        display.started(run, worker)
    for width in (60, 110):
        text = "".join(line.strip() for line in rendered(display, width).splitlines())
        shown = text.replace("starting", "").replace("worker 0", "").replace("worker 1", "").replace(" ", "")
        assert all(name.removesuffix("__seed-0") in shown for name in names)


def test_a_run_whose_epochs_are_over_is_finishing(halfway, runs):
    halfway.progress(runs[0], 0, {"epoch": 10, "epochs": 10, "loss": 0.25, "score": {"val/dice": 0.9}})
    assert rendered(halfway, 120).splitlines()[0].rstrip() == (
        "worker 0  lr-0.1  epoch 10/10  loss 0.2500  val/dice 0.9000  finishing"
    )


def test_a_log_has_the_same_every_half_minute(halfway, clock, capsys):
    halfway.tick()
    assert capsys.readouterr().out == ""
    clock.now += 31
    halfway.tick()
    assert capsys.readouterr().out.splitlines() == [
        "lr-0.1: epoch 2/10  loss 0.5000  val/dice 0.8123  1m20s left",
        "lr-0.2: starting",
        "1 of 3 done, 2 left; 51s spent, 1m30s left",
    ]


def eight(tmp_path):
    return [Run(f"lr-{n}", tmp_path / str(n), {"trainer": {"max_epochs": 2}}, [], {}, "new") for n in range(8)]


def test_time_left_counts_what_runs_take_beside_their_epochs(tmp_path, clock, capsys):
    """Two epochs of 5 s in runs of 76 s, whose figures take 66 s."""
    runs = eight(tmp_path)
    display = Display(runs, 8)

    def train(run):
        display.started(run, 0)
        for epoch in (1, 2):
            clock.now += 5
            display.progress(run, 0, {"epoch": epoch, "epochs": 2})

    train(runs[0])
    assert display.clock.left(1) == 7 * 10  # nothing is known yet of what comes after the epochs
    clock.now += 66
    display.ended(runs[0], 0, "finished", None)
    assert capsys.readouterr().out.endswith("1m16s  · 8m52s left\n")
    assert display.clock.left(1) == 7 * 76
    assert display.clock.left(2) == 7 * 76 / 2
    train(runs[1])
    assert (display.clock.left_of(runs[1]), display.clock.left(1)) == (66, 66 + 6 * 76)
    clock.now += 60  # the figures are being drawn
    assert (display.clock.left_of(runs[1]), display.clock.left(1)) == (6, 6 + 6 * 76)
    assert rendered(display, 120).splitlines()[0].rstrip() == "worker 0  lr-1  epoch 2/2  finishing  6s left"
    clock.now += 60  # longer than the others
    assert display.clock.left(1) == 6 * 76
    display.ended(runs[1], 0, "failed", "RuntimeError")  # of which nothing is learnt
    assert display.clock.left(1) == 6 * 76


def test_runs_whose_epochs_are_told_at_once_are_timed_as_a_whole(tmp_path, clock):
    runs = eight(tmp_path)
    display = Display(runs, 8)
    display.started(runs[0], 0)
    clock.now += 1
    display.progress(runs[0], 0, {"epoch": 2, "epochs": 2})
    assert display.clock.left(1) is None
    clock.now += 75
    display.ended(runs[0], 0, "finished", None)
    assert display.clock.left(1) == 7 * 76


@pytest.mark.parametrize("name", ["dice", "map", "accuracy"])
def test_an_ended_run_says_the_tasks_own_metric(halfway, runs, capsys, name):
    final = {f"train/{name}": 0.9, f"val/{name}": 0.75, "val/loss": 0.1, "val/other": 0.2}
    result = {"status": "finished", "metrics": {"final": final, "best": final, "best_by": f"val/{name}"}}
    runs[0].directory.mkdir()
    Path(runs[0].directory / files.RESULT).write_text(json.dumps(result))
    halfway.ended(runs[0], 0, "finished", None)
    output = capsys.readouterr().out
    assert f"finished     {runs[0].name}  train/{name} 0.9000  val/{name} 0.7500  20s" in output
    assert "other" not in output


@pytest.mark.parametrize(
    ("best_by", "shown"),
    [("val_acc", "train_acc 0.9000  val_acc 0.7500"), ("recon", "recon 0.2500"), ("valid", "valid 0.5000")],
)
def test_so_does_one_of_a_module_of_ones_own(halfway, runs, capsys, best_by, shown):
    final = {"train_acc": 0.9, "val_acc": 0.75, "recon": 0.25, "valid": 0.5, "trainid": 0.1}
    result = {"status": "finished", "metrics": {"final": final, "best": final, "best_by": best_by}}
    runs[0].directory.mkdir()
    Path(runs[0].directory / files.RESULT).write_text(json.dumps(result))
    halfway.ended(runs[0], 0, "finished", None)
    assert f"finished     {runs[0].name}  {shown}  20s" in capsys.readouterr().out


def test_metrics_of_any_name_have_four_places_and_settings_as_they_are():
    row = {"module.lr": 0.05, "acc": 0.57, "recon": 0.000012345, "val_r2": 0.0, "val/loss": 0.5, "status": "finished"}
    console = Console(file=io.StringIO(), width=200)
    console.print(results.as_rich([row | {"directory": "runs/a"}], "toy", 200))
    (line,) = [line for line in console.file.getvalue().splitlines() if line.startswith("│")]
    assert line.strip("│ ").replace(" ", "").split("│") == [
        "0.05",
        "0.5700",
        "1.23e-05",
        "0.0000",
        "0.5000",
        "finished",
    ]


ROWS = [
    {"optimizer.lr": lr, "train/dice": dice, "train/iou": 0.6, "train/accuracy": 0.8, "val/dice": dice - 0.1}
    | {"val/iou": 0.5, "val/accuracy": 0.7, "train/loss": 0.5, "val/loss": 0.6}
    | {"epochs": 3, "status": "finished", "seconds": 94.0, "directory": "runs/a"}
    for lr, dice in ((0.01, 0.75), (0.001, 0.5))
]


def seeds(*values, **more):
    return [
        {"seed": seed, "val/dice": value, "epochs": 3, "status": "finished", "seconds": 9.0, "directory": "a"} | more
        for seed, value in enumerate(values)
    ]


def test_of_one_settings_seeds_the_mean_and_the_spread_are_said(tmp_path):
    assert results.over_seeds(seeds(0.5, 0.6, 0.7)) == "over 3 seeds: val/dice 0.6000 ± 0.1000"
    (other,) = seeds(0.9, status="failed")
    assert results.over_seeds([*seeds(0.5, 0.7), other]) == "over 2 seeds: val/dice 0.6000 ± 0.1414"
    assert results.over_seeds(seeds(0.5, 0.7, lost=None, odd=float("inf"))) == "over 2 seeds: val/dice 0.6000 ± 0.1414"
    plan = SimpleNamespace(label="toy", runs=[])
    assert results.as_markdown(seeds(0.5, 0.6, 0.7), plan).endswith("\n\nover 3 seeds: val/dice 0.6000 ± 0.1000\n")


@pytest.mark.parametrize(
    "rows",
    [[], seeds(0.5), [*seeds(0.5, 0.6, **{"dropout.p": 0.1}), *seeds(0.5, **{"dropout.p": 0.2})], ROWS],
    ids=["none", "one", "two settings", "no seed"],
)
def test_of_anything_else_it_is_not(rows):
    assert results.over_seeds(rows) is None


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (160, [key for key in ROWS[0] if key != "directory"]),
        (80, ["optimizer.lr", "train/dice", "val/dice", "val/iou", "val/accuracy", "status"]),
        (50, ["optimizer.lr", "val/dice", "status"]),
        (30, ["optimizer.lr", "val/dice"]),
    ],
)
def test_the_table_at_the_end_keeps_what_varied_and_the_tasks_metric_on_a_narrow_terminal(width, shown):
    console = Console(file=io.StringIO(), width=width)
    console.print(results.as_rich(ROWS, "toy", width))
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    (head,) = [line for line in lines if "optimizer.lr" in line and line.startswith("┃")]
    assert head.strip("┃ ").replace(" ", "").split("┃") == shown
    rows = [line.strip("│ ").replace(" ", "").split("│") for line in lines if line.startswith("│")]
    assert [[row[0], row[shown.index("val/dice")]] for row in rows] == [["0.01", "0.6500"], ["0.001", "0.4000"]]
    caption = " ".join(lines[lines.index(next(line for line in lines if line.startswith("└"))) + 1 :])
    assert ("val/loss" in caption and "results.csv" in caption) == (width < 160)


def test_a_table_whose_settings_alone_are_wider_than_the_terminal_is_folded_not_cut():
    rows = [{"model.widths": "8+16+32+64+128+256+512", "optimizer.name": name, **ROWS[0]} for name in ("sgd", "adamw")]
    console = Console(file=io.StringIO(), width=40)
    console.print(results.as_rich(rows, "toy", 40))
    text = console.file.getvalue()
    assert "…" not in text
    column = [line.split("│")[1].strip() for line in text.splitlines() if line.startswith("│")]
    assert "".join(column).count("8+16+32+64+128+256+512") == 2


def test_of_runs_that_steps_or_time_end_nobody_knows_how_long(tmp_path, clock, capsys):
    endless = Run("lr-0", tmp_path / "0", {"trainer": {"max_epochs": -1}}, [], {}, "new")
    display = Display([endless, eight(tmp_path)[1]], 2)
    display.started(endless, 0)
    for epoch in (1, 2):
        clock.now += 5
        display.progress(endless, 0, {"epoch": epoch, "epochs": None})
    assert rendered(display, 120).splitlines()[0].rstrip() == "worker 0  lr-0  epoch 2"
    assert (display.clock.left_of(endless), display.clock.left(1)) == (None, None)
    display.ended(endless, 0, "finished", None)
    assert display.clock.left(1) == 2 * 5  # of the other run
