"""What is done with a trained LightningModule of somebody's own: evaluate, predict, compare."""
# ruff: noqa: F811

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import retable
from retable.cli import main as cli
from retable.config.compose import Composer
from retable.run import files, foreign
from retable.run.calibrate import calibrate
from retable.run.execute import execute
from retable.run.single import run_single
from tests.checking import check
from tests.run.test_foreign import composed, project  # noqa: F401, fixtures
from tests.runs import history


@pytest.fixture
def in_process(project, monkeypatch, capsys):
    """Runs `retable ...` here; gives its exit code, and what it said (where it failed, on standard error)."""
    monkeypatch.setenv("RETABLE_FULL_ERROR", "0")

    def run(*words: str) -> tuple[int, str]:
        try:
            cli(words)
        except SystemExit as end:
            out, err = capsys.readouterr()
            return int(end.code or 0), err if end.code else out
        return 0, capsys.readouterr().out

    return run


def values(shown: str) -> dict[str, float]:
    """Names and figures of lines that hold both."""
    pairs = [line.split() for line in shown.splitlines()]
    return {pair[0]: float(pair[1]) for pair in pairs if len(pair) == 2 and pair[1][0].isdigit()}


def test_evaluate_gives_what_was_logged_in_training_of_the_last_and_the_best_epoch(project, in_process):
    words = ["module.lr=0.3", "trainer.max_epochs=6", "checkpoint=both"]  # soon the best, not to its end
    execute(composed(*words), project / "run")
    rows = history(project / "run")
    best = max(rows, key=lambda row: row["val_acc"])
    assert best is not rows[-1]
    for options, row in (([], rows[-1]), (["--checkpoint", "best"], best)):
        code, shown = in_process("evaluate", "run", "--split", "val", *options)
        assert (code, values(shown)) == (0, {key: round(row[key], 4) for key in ("val_loss", "val_acc")}), shown
    found = retable.evaluate(retable.load(project / "run"), split="val")
    assert (found.split, found.metrics) == ("val", {key: rows[-1][key] for key in ("val_loss", "val_acc")})
    assert retable.evaluate(retable.load(project / "run", which="best")).metrics["val_acc"] == best["val_acc"]


def test_slurms_variables_bring_in_no_other_jobs_weights(project, in_process, monkeypatch):
    """Lightning takes up `hpc_ckpt_1.ckpt` of its root folder wherever it sees them, whatever it is to do."""
    for name, lr in (("run", "0.3"), ("other", "0.0")):
        execute(composed(f"module.lr={lr}", "trainer.max_epochs=2"), project / name)
    wanted = history(project / "run")[-1]
    slurm = {"JOB_ID": "7", "JOB_NAME": "sweep", "NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
    for key, value in (slurm | {"NNODES": "1", "JOB_NODELIST": "node1", "NTASKS_PER_NODE": "1"}).items():
        monkeypatch.setenv(f"SLURM_{key}", value)
    Path("hpc_ckpt_1.ckpt").write_bytes((project / "other" / files.CHECKPOINT).read_bytes())
    found = retable.evaluate(retable.load(project / "run"), split="val").metrics
    assert found["val_acc"] == pytest.approx(wanted["val_acc"])
    Path("hpc_ckpt_1.ckpt").write_text("no checkpoint")
    assert calibrate(composed("trainer.precision=32"))["seconds_per_step"] > 0
    monkeypatch.setattr(foreign, "_TRIED", {})
    assert check(composed("seed=5"))["parameters"] > 0


def test_evaluate_on_other_arguments_of_the_data_and_on_the_test_set(project, in_process):
    execute(composed("module._target_=stranger.Tested", "trainer.max_epochs=1"), project / "run")
    code, shown = in_process("evaluate", "run")  # the test set, where both have one
    assert (code, list(values(shown))) == (0, ["test_loss"])
    assert "run on stranger.LeavesData · test" in shown
    last = history(project / "run")[-1]
    assert values(in_process("evaluate", "run", "--split", "val")[1])["val_loss"] == round(last["val_loss"], 4)
    assert values(shown)["test_loss"] == round(last["test_loss"], 4)
    code, shown = in_process("evaluate", "run", "--set", "batch_size=3")
    assert (code, list(values(shown))) == (0, ["test_loss"])


def test_predict_writes_what_predict_step_gives(project, in_process):
    data = "data._target_=stranger.Predicted"
    execute(composed("trainer.max_epochs=1", data), project / "run")
    code, shown = in_process("predict", "run")
    assert (code, shown.splitlines()) == (0, ["predictions  float32 (300, 3)", "predictions.npz"])
    found = np.load(project / "predictions.npz")["predictions"]
    trained = retable.load(project / "run")
    x = torch.randn(300, 6, generator=torch.Generator().manual_seed(7))
    with torch.inference_mode():
        assert np.allclose(found, trained.module(x).numpy(), atol=1e-6)
    assert np.array_equal(retable.predict(trained)["predictions"], found)
    execute(composed("trainer.max_epochs=1", data, "module._target_=stranger.Named"), project / "named")
    assert in_process("predict", "named", "--output", "named.npz", "--quiet") == (0, "named.npz\n")
    named = np.load(project / "named.npz")
    assert {key: (values.dtype.name, values.shape) for key, values in named.items()} == {
        "label": ("int64", (300,)),
        "margin": ("float32", (5,)),  # one value a batch of 64
    }
    execute(composed("trainer.max_epochs=1", data, "trainer.limit_predict_batches=2"), project / "part")
    assert np.array_equal(retable.predict(retable.load(project / "part"))["predictions"], found[:128])


@pytest.mark.parametrize(
    ("data", "module", "message"),
    [
        (
            "ByPosition",
            "LitNet",
            "run: Lightning's predict takes a DataLoader whose batch_size is given by name, as batch_s",
        ),
        (
            "Predicted",
            "Noted",
            "run: its predict_step gives dict (logits: Tensor, note: str); accepted: a tensor, or seve",
        ),
    ],
)
def test_what_predict_cannot_take_is_said_in_a_line(project, in_process, data, module, message):
    classes = [f"data._target_=stranger.{data}", f"module._target_=stranger.{module}"]
    execute(composed("trainer.max_epochs=1", *classes), project / "run")
    code, shown = in_process("predict", "run")
    assert (code, shown.startswith(message), len(shown.splitlines())) == (2, True, 1), shown


def test_a_single_run_says_what_came_out_on_the_test_set(project, capsys):
    words = ["task=leaves", "module._target_=stranger.Tested", "trainer.max_epochs=1", "logger=none"]
    run_single(Composer().compose(words).config, words, project / "run")
    tested = history(project / "run")[-1]["test_loss"]
    assert f"\non the test set, once: test_loss {tested:.4f}\n" in capsys.readouterr().out


def test_compare_puts_what_both_log_side_by_side(project, in_process):
    for name, rate in (("slow", 0.0001), ("fast", 0.1)):
        execute(composed(f"module.lr={rate}", "trainer.max_epochs=2"), project / name)
    code, shown = in_process("compare", "slow", "fast")
    assert code == 0
    rows = {line.split()[0]: [float(v) for v in line.split()[1:]] for line in shown.splitlines()[1:]}
    last = {name: history(project / name)[-1] for name in ("slow", "fast")}
    for key in ("val_loss", "val_acc"):
        first, second, change = rows[key]
        assert (first, second) == tuple(round(last[name][key], 4) for name in ("slow", "fast"))
        assert change == pytest.approx(second - first, abs=1.5e-4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("evaluate run somewhere", "somewhere: run brings its own DataModule; --set KEY=VALUE for its arguments"),
        ("evaluate run --split test", "--split test: accepted for run: val"),
        ("evaluate run --split train", "--split train: accepted for run: val"),
        ("evaluate run --csv a.csv", "--csv: what run logs is no table by image; accepted: no --csv"),
        ("evaluate run --set size=3", "data.size: no such key; accepted: batch_size, workers"),
        (
            "evaluate run --checkpoint best",
            "run/best.ckpt: no such checkpoint (runs with checkpoint=both keep it); acc",
        ),
        ("predict run", "run: its LeavesData has no predict_dataloader"),
        ("predict run leaf.png", "leaf.png: not accepted for run, whose DataModule says what is predicted"),
        ("predict run --score 0.5", "--score: not accepted for run, whose DataModule says what is predicted"),
        ("compare run run --images 2", "--images: not accepted for run, a LightningModule of one's own"),
    ],
)
def test_what_cannot_be_done_with_one_is_refused_in_a_line(trained_once, in_process, words, message):
    code, shown = in_process(*words.split())
    assert (code, shown.splitlines()[0].startswith(message), len(shown.splitlines())) == (2, True, 1), shown


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    return tmp_path_factory.mktemp("once")


@pytest.fixture
def trained_once(project, once):
    """A run in the folder `run`, trained for the first test that asks for it."""
    if not (once / "run").exists():
        execute(composed("trainer.max_epochs=1"), once / "run")
    shutil.copytree(once / "run", project / "run")


def test_a_checkpoint_that_names_somebody_elses_class_is_refused(trained_once, project, in_process):
    path = project / "run" / files.CHECKPOINT
    content = torch.load(path, weights_only=True)
    content["retable"]["config"]["module"]["_target_"] = "subprocess.Popen"
    torch.save(content, path)
    code, shown = in_process("evaluate", str(path))
    assert code == 2
    assert "refused, module._target_=subprocess.Popen is neither this project's nor" in shown
