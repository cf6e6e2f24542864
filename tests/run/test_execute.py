"""What a run leaves, that it resumes bit for bit, and how it ends when training goes wrong."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch

from retable import atomic
from retable.run import files
from retable.run.execute import Busy, execute
from retable.tasks.base import Task
from tests.runs import history, weights

TINY = ("task=mnist", "data.fraction=0.1", "model.width=4", "dropout=0.2")


@pytest.fixture(scope="module")
def finished(compose, tmp_path_factory):
    """An uninterrupted run of four epochs, and its config."""
    config = compose(*TINY, "trainer.max_epochs=4", "optimizer=adam", "scheduler=cosine", "logger=tensorboard")
    directory = tmp_path_factory.mktemp("runs") / "whole"
    return config, directory, execute(config, directory)


def test_a_run_leaves_its_files(finished):
    _, directory, _ = finished
    found = {str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file()}
    figures = {"curves", "gradient_norms", "confusion_train", "confusion_val", "misclassified", "class_samples"}
    assert {"run.json", "result.json", "history.csv", "last.ckpt"} <= found
    assert {f"figures/{name}.png" for name in figures} <= found
    assert all((directory / "figures" / f"{name}.png").stat().st_size > 5000 for name in figures)


def test_result_holds_the_counts_behind_its_figures(finished):
    _, directory, returned = finished
    result = json.loads((directory / files.RESULT).read_text())
    assert result["status"] == returned["status"] == "finished"
    assert result["epochs"] == 4
    assert result["step"] == 4 * 7  # 200 digits in batches of 32
    assert result["data"]["counts"]["train"] == 200
    assert result["data"]["source"] == "sample"
    matrix = result["confusion"]["val"]
    right = sum(matrix[i][i] for i in range(10))
    assert result["metrics"]["final"]["val/accuracy"] == right / 500
    assert sum(row["support"] for row in result["per_class"]["val"]) == 500
    rows = history(directory)
    best = max(rows, key=lambda row: row["val/accuracy"])
    assert result["metrics"]["best"]["epoch"] == best["epoch"]
    assert result["parameters"] == 4 * 10 + 8 * 37 + 16 * 73 + 10 * (16 * 49 + 1)
    assert set(result["seconds"]) == {"setup", "train", "val", "figures", "total"}
    timed = files.read_history(directory / files.HISTORY)
    assert result["seconds_per_epoch"] == pytest.approx(sum(row["seconds/train"] for row in timed) / 4)
    assert len(result["git"]["commit"]) == 40
    assert result["versions"]["torch"] == torch.__version__.split("+")[0]


def test_the_network_written_with_numpy_trains_as_torchs_does(compose, tmp_path):
    """Same initialisation and batches, so that the losses of every epoch agree but for rounding."""
    settings = ("task=mnist", "data=sample", "data.fraction=0.1", "trainer.max_epochs=3", "optimizer.lr=0.1")
    for model in ("fnn", "numpy_fnn"):
        execute(compose(*settings, f"model={model}"), tmp_path / model)
    one, other = history(tmp_path / "fnn"), history(tmp_path / "numpy_fnn")
    for column in ("train/loss", "val/loss", "val/accuracy", "grad_norm/layers.1", "grad_norm/layers.3"):
        assert [row[column] for row in other] == pytest.approx([row[column] for row in one], rel=1e-4), column
    assert one[0]["train/loss"] > 2 * one[-1]["train/loss"]


def test_a_run_on_brain_tissue_holds_the_class_counts_of_its_volumes(compose, tmp_path, monkeypatch):
    """Of all voxels, by volume; the shares of the patches are the rows of the confusion matrices."""
    monkeypatch.setattr("retable.run.execute._draw", lambda *_: None)
    small = ("model.widths=[2,2,2,2,2]", "data.batch_size=4", "data.eval_batch_size=4", "trainer.max_epochs=1")
    limits = ("trainer.limit_train_batches=2", "trainer.limit_val_batches=2")
    result = execute(compose("task=brain", "data=sample", *small, *limits), tmp_path / "brain")
    counts = result["data"]["class_counts"]
    assert list(counts) == ["IBSR_01", "IBSR_03", "IBSR_05", "IBSR_13"]
    assert {len(labels) for labels in counts.values()} == {4}
    assert all(labels[0] > sum(labels[1:]) > 0 for labels in counts.values())
    assert sum(map(sum, result["confusion"]["train"])) == 2 * 4 * 16 * 16  # without background


def test_events_hold_train_and_validation_under_one_tag(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, directory, _ = finished
    for part in ("train", "val"):
        events = EventAccumulator(str(directory / part)).Reload()
        for tag in ("loss", "accuracy"):
            values = [event.value for event in events.Scalars(tag)]
            assert values == pytest.approx([row[f"{part}/{tag}"] for row in history(directory)])


def test_figures_are_images_in_tensorboard(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, directory, _ = finished
    events = EventAccumulator(str(directory / "val")).Reload()
    assert sorted(events.Tags()["images"]) == sorted(path.stem for path in (directory / "figures").glob("*.png"))
    (image,) = events.Images("curves")
    assert image.step == 4


def test_interrupted_and_resumed_equals_uninterrupted(finished, tmp_path):
    config, whole, _ = finished
    chunks = []

    def stop_in_the_third_epoch() -> bool:
        chunks.append(1)
        return len(chunks) == 3  # one chunk an epoch here: epoch 3 is trained and not finished

    directory = tmp_path / "run"
    assert execute(config, directory, should_interrupt=stop_in_the_third_epoch)["status"] == "interrupted"
    assert len(history(directory)) == 2
    assert not (directory / files.RESULT).exists()
    assert execute(config, directory)["status"] == "finished"
    assert history(directory) == history(whole)
    assert all(torch.equal(value, weights(directory)[name]) for name, value in weights(whole).items())


def test_ctrl_c_from_python_is_no_failure(finished, tmp_path):
    """Lightning would end the process by sys.exit(1), and have Ctrl-C ignored for good."""
    config, whole, _ = finished
    directory, before = tmp_path / "run", signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            execute(config, directory, on_epoch=lambda row: row["epoch"] == 2 and signal.raise_signal(signal.SIGINT))
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(history(directory)) == 2
    assert not (directory / files.RESULT).exists()
    assert execute(config, directory)["status"] == "finished"
    assert history(directory) == history(whole)


KILLED = """
import json, os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from retable.run.execute import execute
config, directory = json.loads(sys.argv[1]), Path(sys.argv[2])
seen = []
def chunk(steps, loss):
    seen.append(steps)
    if len(seen) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
execute(config, directory, on_chunk=chunk)
"""


@pytest.mark.parametrize("hook", ["on_before_optimizer_step", "validation_step"])
def test_what_sigterm_means_is_up_to_whoever_trains(compose, tmp_path, monkeypatch, hook):
    """Lightning's own handler would end the run by SystemExit: a failure, with exit code 0."""
    asked, called, step = [], [], getattr(Task, hook)

    def signalled(*arguments):
        called.append(hook)
        if len(called) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(*arguments)

    monkeypatch.setattr(Task, hook, signalled)
    # Single steps, between which Lightning looks at what its handler has noted.
    words = ("debug=fast", "trainer.max_epochs=2", "data.eval_batch_size=5", "trainer.accumulate_grad_batches=2")
    config = compose(*TINY, *words, "trainer.device=cpu")
    before = signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    try:
        result = execute(config, tmp_path / "run", should_interrupt=lambda: bool(asked))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (result["status"], asked) == ("interrupted", [signal.SIGTERM])
    assert not (tmp_path / "run" / files.RESULT).exists()


def test_killed_in_the_middle_of_an_epoch_and_resumed_equals_uninterrupted(finished, tmp_path):
    config, whole, _ = finished
    directory = tmp_path / "run"
    child = subprocess.run([sys.executable, "-c", KILLED, json.dumps(config), str(directory)], timeout=300)
    assert child.returncode == -signal.SIGKILL
    assert len(history(directory)) == 2
    assert execute(config, directory)["status"] == "finished"
    assert history(directory) == history(whole)


def test_a_run_in_float64_goes_on_with_all_its_digits(compose, tmp_path):
    """Lightning reads a checkpoint's weights into the module before it converts that to float64."""
    small = ("data.fraction=0.1", "model.width=2", "trainer.max_epochs=2", "trainer.limit_val_batches=1")
    config = compose("task=mnist", *small, "trainer.precision=64-true", "trainer.device=cpu")
    rows: list[dict] = []
    execute(config, tmp_path / "whole")
    execute(config, tmp_path / "cut", on_epoch=rows.append, should_interrupt=lambda: len(rows) == 1)
    execute(config, tmp_path / "cut")
    (_, expected), (_, found) = history(tmp_path / "whole"), history(tmp_path / "cut")
    assert found == expected


def test_finished_run_is_not_trained_again(finished):
    config, directory, result = finished
    before = (directory / files.HISTORY).stat().st_mtime_ns
    assert execute(config, directory)["metrics"] == result["metrics"]
    assert (directory / files.HISTORY).stat().st_mtime_ns == before


def test_a_run_killed_after_its_last_epoch_still_gets_its_result(finished, tmp_path):
    config, whole, expected = finished
    directory = tmp_path / "run"
    execute(config, directory)
    (directory / files.RESULT).unlink()
    result = execute(config, directory)
    assert result["status"] == "finished"
    assert result["metrics"] == expected["metrics"]
    assert result["confusion"]["val"] == expected["confusion"]["val"]
    assert history(directory) == history(whole)


def test_diverged_is_a_result_with_the_metrics_up_to_there(compose, tmp_path):
    config = compose(*TINY, "trainer.max_epochs=6", "optimizer.lr=1e4", "scheduler=none")
    result = execute(config, tmp_path / "run")
    assert result["status"] == "diverged"
    assert result["diverged"]["epoch"] == len(history(tmp_path / "run")) + 1
    assert (
        result["reason"] == f"loss not finite at epoch {result['diverged']['epoch']}, step {result['diverged']['step']}"
    )


def test_two_processes_do_not_train_one_run(compose, tmp_path):
    from filelock import FileLock

    (tmp_path / "run").mkdir()
    with FileLock(tmp_path / "run" / files.LOCK), pytest.raises(Busy):
        execute(compose(*TINY, "trainer.max_epochs=1"), tmp_path / "run")


def test_a_run_that_another_sweep_saw_fail_is_not_trained_again(compose, tmp_path):
    atomic.write_json(tmp_path / "run" / files.RESULT, {"status": "failed", "reason": "theirs"})
    assert execute(compose(*TINY), tmp_path / "run") == {"status": "failed", "reason": "theirs"}


def test_checkpoint_holds_plain_values_only(finished):
    config, directory, _ = finished
    content = torch.load(directory / files.CHECKPOINT, weights_only=True)
    assert content["retable"]["config"]["model"] == config["model"]
    assert content["retable"]["classes"] == [str(digit) for digit in range(10)]
    assert content["epoch"] == 3


def test_other_data_under_a_begun_run_is_refused(compose, tmp_path):
    from retable.errors import RetableError

    config = compose(*TINY, "trainer.max_epochs=1")
    execute(config, tmp_path / "run")
    (tmp_path / "run" / files.RESULT).unlink()
    run = atomic.read_json(tmp_path / "run" / files.RUN)
    atomic.write_json(tmp_path / "run" / files.RUN, run | {"fingerprint": "0" * 64})
    with pytest.raises(RetableError, match="was begun with other data"):
        execute(config, tmp_path / "run")


@pytest.mark.parametrize("more", [(), ("trainer.gradient_clip_val=1.0",)], ids=["chunks", "single steps"])
@pytest.mark.parametrize("steps", [10, 14])  # within the second epoch of seven steps, and at its end
def test_a_run_of_so_many_steps_is_resumed(compose, tmp_path, steps, more):
    small = ("task=mnist", "data=sample", "data.fraction=0.1", "model.width=4", "trainer.device=cpu", "logger=none")
    config = compose(*small, "trainer.max_epochs=3", f"trainer.max_steps={steps}", *more)
    execute(config, tmp_path / "whole")
    epochs: list[int] = []
    stop = {"on_epoch": lambda row: epochs.append(row["epoch"]), "should_interrupt": lambda: 1 in epochs}
    assert execute(config, tmp_path / "parts", **stop)["status"] == "interrupted"
    assert execute(config, tmp_path / "parts")["status"] == "finished"
    assert history(tmp_path / "parts") == history(tmp_path / "whole")
    assert [row["step"] for row in history(tmp_path / "whole")] == [7, steps]


def test_what_killed_writers_have_left_is_swept_up(tmp_path):
    old, new = tmp_path / ".result.json.tmp-old", tmp_path / ".result.json.tmp-new"
    for path in (old, new):
        path.write_text("cut")
    os.utime(old, (0, 0))
    files.sweep_up(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [new.name]  # of a writer that may live


def test_slurms_variables_change_nothing(finished, compose, monkeypatch, tmp_path):
    config, whole, _ = finished
    slurm = {"JOB_ID": "7", "JOB_NAME": "sweep", "NTASKS": "2", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
    for key, value in (slurm | {"NNODES": "1", "JOB_NODELIST": "node1", "NTASKS_PER_NODE": "2"}).items():
        monkeypatch.setenv(f"SLURM_{key}", value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hpc_ckpt_1.ckpt").write_bytes((whole / files.CHECKPOINT).read_bytes())  # another job's
    handler = signal.getsignal(signal.SIGUSR1)
    seen = []
    execute(config, tmp_path / "run", on_chunk=lambda done, loss: seen.append(signal.getsignal(signal.SIGUSR1)))
    assert set(seen) == {handler}  # nobody writes a checkpoint of his own at SLURM's signal
    assert history(tmp_path / "run") == history(whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hpc_ckpt_1.ckpt", "run"]


def test_atomic_writing_leaves_no_half_file(tmp_path):
    path = tmp_path / "value.json"
    atomic.write_json(path, {"kept": float("nan")})
    assert path.read_text() == '{\n  "kept": null\n}\n'
    with pytest.raises(TypeError):
        atomic.write_json(path, {"bad": object()})
    assert atomic.read_json(path) == {"kept": None}
    assert [p.name for p in tmp_path.iterdir()] == ["value.json"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_run_on_a_gpu_says_its_precision(compose, tmp_path):
    config = compose(*TINY, "trainer.max_epochs=1")
    result = execute(config, tmp_path / "run")
    assert result["device"]["kind"] == "cuda"
    capability = torch.cuda.get_device_capability()  # a step of this network is no work
    assert result["precision"] == ("tf32" if capability >= (8, 0) else "32")
    assert result["peak_memory_mb"]["gpu"] > 0
