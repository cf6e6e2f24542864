"""Loggers beside a run's own files: what each is told, and that a run which is continued goes on in the same one."""

import csv
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pytorch_lightning.loggers import CSVLogger

from retable.config.compose import Composer
from retable.config.identity import identity
from retable.run import execute as execution
from retable.run import files
from retable.run.execute import execute
from retable.run.result import write_plan
from tests.checking import refusal

TINY = ("task=mnist", "data.fraction=0.1", "model.width=4", "trainer.device=cpu", "trainer.max_epochs=3")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch, tmp_path):
    monkeypatch.setattr(execution, "_draw", lambda *_: None)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def parts():
    """Trains a run in two parts, as a table asks for it."""
    composer = Composer()

    def train(directory: Path, *overrides: str) -> dict[str, Any]:
        config = composer.compose([*TINY, "data=sample", *overrides]).config
        write_plan(directory, "dropout-0.3__seed-0", config, ["experiment=mnist/dropout"])
        epochs: list[int] = []
        stop = {"on_epoch": lambda row: epochs.append(row["epoch"]), "should_interrupt": lambda: 1 in epochs}
        assert execute(config, directory, **stop)["status"] == "interrupted"
        result = execute(config, directory)
        assert result["status"] == "finished"
        return config

    return train


def history(directory: Path) -> list[dict[str, float]]:
    return files.read_history(directory / files.HISTORY)


def test_csv_goes_on_in_its_file(parts, tmp_path):
    config = parts(tmp_path / "run", "logger=[csv,tensorboard]")
    with (tmp_path / "run" / "csv" / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["val/accuracy"]]
    own = history(tmp_path / "run")
    assert [float(row["val/accuracy"]) for row in rows] == pytest.approx([row["val/accuracy"] for row in own])
    assert [int(row["epoch"]) for row in rows] == [0, 1, 2]
    hyperparameters = yaml.safe_load((tmp_path / "run" / "csv" / "hparams.yaml").read_text())
    assert hyperparameters == identity(config) | {"trainer.precision": "32"}
    assert (tmp_path / "run" / "val").exists()


def test_a_logger_learns_what_became_of_the_run(compose, tmp_path, monkeypatch):
    """By its last word: Lightning's own comes before, and is of the fit alone."""
    words: list[str] = []
    monkeypatch.setattr(CSVLogger, "finalize", lambda _self, status: words.append(status))
    config = compose(*TINY, "logger=csv")
    epochs: list[int] = []
    stop = {"on_epoch": lambda row: epochs.append(row["epoch"]), "should_interrupt": lambda: 1 in epochs}
    assert execute(config, tmp_path / "run", **stop)["status"] == "interrupted"
    assert words.pop() == "failed"
    assert execute(config, tmp_path / "run")["status"] == "finished"
    assert words.pop() == "success"
    diverges = compose(*TINY, "logger=csv", "optimizer.lr=1e30")
    assert execute(diverges, tmp_path / "diverges")["status"] == "diverged"
    assert words.pop() == "failed"
    with pytest.raises(ZeroDivisionError):
        execute(config, tmp_path / "fault", on_epoch=lambda row: 1 / 0)
    assert words.pop() == "failed"


def test_the_learning_rate_of_steps(compose, tmp_path):
    monitor = ("callbacks=lr_monitor", "trainer.log_every_n_steps=1", "scheduler=cosine")
    execute(compose(*TINY, *monitor, "logger=csv"), tmp_path / "run")
    with (tmp_path / "run" / "csv" / "metrics.csv").open(newline="") as file:
        rates = [float(row["lr-SGD"]) for row in csv.DictReader(file) if row["lr-SGD"]]
    assert len(rates) == 3 * 7
    assert rates[::7] == pytest.approx([row["lr"] for row in history(tmp_path / "run")])
    execute(compose(*TINY, *monitor, "logger=tensorboard"), tmp_path / "board")
    assert list((tmp_path / "board" / "steps").glob("events*"))


def logged(content: bytes) -> Iterator[bytes]:
    """The records of a LevelDB log behind a header of 7 bytes: crc (4), length (2), type (1), data; 32 KiB a block."""
    data, place = b"", 7
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
        length, kind = struct.unpack_from("<HB", content, place + 4)
        data += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield data
            data = b""


def test_weights_and_biases_offline(parts, tmp_path):
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2 as records

    parts(tmp_path / "run", "logger=wandb", "tags=[night]")
    logs = sorted((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))
    assert len(logs) == 2  # a folder each time, of one run
    accuracies, ids = [], set()
    for log in logs:
        for data in logged(log.read_bytes()):
            record = records.Record()
            record.ParseFromString(data)
            if record.run.run_id:
                ids.add(record.run.run_id)
                assert record.run.display_name == "dropout-0.3__seed-0"
                assert sorted(record.run.tags) == ["mnist/dropout", "night"]
            for item in record.history.item:
                if "val/accuracy" in (item.key, *item.nested_key):
                    accuracies.append(json.loads(item.value_json))
    assert ids == {json.loads((tmp_path / "run" / files.LOGGERS).read_text())["wandb"]}
    assert accuracies == pytest.approx([row["val/accuracy"] for row in history(tmp_path / "run")])


def test_mlflow_in_a_database(parts, tmp_path):
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    from mlflow.tracking import MlflowClient

    config = parts(tmp_path / "run", "logger=mlflow", "tags=[night]")
    client = MlflowClient("sqlite:///mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("mnist").experiment_id])
    assert run.info.run_name == "dropout-0.3__seed-0"
    assert run.info.status == "FINISHED"
    assert (run.data.tags["table"], run.data.tags["tags"]) == ("mnist/dropout", "night")
    assert run.data.params["optimizer.lr"] == str(config["optimizer"]["lr"])
    seen = [metric.value for metric in client.get_metric_history(run.info.run_id, "val/accuracy")]
    assert seen == pytest.approx([row["val/accuracy"] for row in history(tmp_path / "run")])


def test_a_missing_package_is_named(compose, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    for name in ("wandb", "mlflow"):
        assert (
            refusal(compose(*TINY, f"logger={name}"))
            == f"logger={name}: needs {name}; install it by: pip install 'retable[{name}]'"
        )


REFUSED = {
    "+logger.mine._target_=torch.nn.ReLU": (
        "logger.mine._target_=torch.nn.ReLU: accepted: a class derived from Lightning's Logger"
    ),
    "callbacks=lr_monitor": (
        "callbacks: LearningRateMonitor has nowhere to write; accepted: with a logger, e.g. logger=csv"
    ),
    "tags=night": "tags=night: accepted: a list of words, e.g. [first,night]",
}


@pytest.mark.parametrize("override", REFUSED)
def test_what_is_refused(compose, override):
    assert refusal(compose(*TINY, override)) == REFUSED[override]


def test_tags_and_loggers_make_no_other_run(compose, tmp_path):
    tagged = compose(*TINY, "tags=[a,b]", "logger=csv", "trainer.max_epochs=1")
    assert identity(tagged) == identity(compose(*TINY, "trainer.max_epochs=1"))
    assert execute(tagged, tmp_path / "run")["tags"] == ["a", "b"]
