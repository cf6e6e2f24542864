"""Makes the files of this folder: six runs, two probabilities of dropout with three seeds each.

    python make.py     with wandb 0.31.0, mlflow-skinny 3.17.2 and sqlalchemy 2.1.9

Of MLflow's database only the tables that hold runs are kept, as SQL; addresses of artifacts, which name the machine,
are cut.
"""

import os
import re
import sqlite3
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
FINAL = {0.1: (0.80, 0.81, 0.83), 0.5: (0.70, 0.73, 0.72)}  # validation accuracy by dropout and seed
SETTINGS = {"optimizer": "sgd", "epochs": 3}


def runs() -> Iterator[tuple[float, int, list[tuple[int, float, float]]]]:
    """(dropout, seed, a row an epoch: epoch, validation accuracy, training loss)."""
    for p, accuracies in FINAL.items():
        for seed, accuracy in enumerate(accuracies):
            rows = [(epoch, round(accuracy - 0.05 * (3 - epoch), 4), round(2 / epoch + p, 4)) for epoch in (1, 2, 3)]
            yield p, seed, rows


def make_wandb(folder: Path) -> None:
    import wandb

    quiet = wandb.Settings(x_disable_stats=True, x_disable_meta=True, console="off", disable_git=True, save_code=False)
    for p, seed, rows in runs():
        config = {"dropout": {"p": p}, "seed": seed, **SETTINGS}
        run = wandb.init(project="toy", dir=str(folder), name=f"p{p}-s{seed}", config=config, settings=quiet)
        for epoch, accuracy, loss in rows:
            run.log({"epoch": epoch, "val/accuracy": accuracy})
            run.log({"epoch": epoch, "train/loss": loss})
        run.finish()


def make_mlflow(uri: str) -> None:
    import mlflow

    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("toy")
    for p, seed, rows in runs():
        with mlflow.start_run(run_name=f"p{p}-s{seed}"):
            mlflow.log_params({"dropout.p": p, "seed": seed, **SETTINGS})
            for epoch, accuracy, loss in rows:
                mlflow.log_metrics({"val/accuracy": accuracy, "train/loss": loss}, step=epoch)


def pack(folder: Path, pattern: str, target: Path) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(path for path in folder.rglob(pattern) if path.is_file()):
            data = path.read_bytes()
            if path.name == "meta.yaml":
                data = re.sub(rb"(artifact_(?:uri|location)): .*", rb"\1: ''", data)
            archive.writestr(zipfile.ZipInfo(path.relative_to(folder).as_posix()), data)


def dump(database: Path, target: Path) -> None:
    with sqlite3.connect(database) as connection:
        kept = [
            line
            for line in connection.iterdump()
            if re.match(r'(CREATE TABLE|INSERT INTO) "?(runs|metrics|params|tags)"?[ (]', line)
        ]
    text = "\n".join(kept)
    target.write_text(re.sub(r"file:/[^']*|/[^']*/artifacts", "", text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    os.environ |= {"WANDB_SILENT": "true", "WANDB_MODE": "offline", "MLFLOW_ALLOW_FILE_STORE": "true"}
    sys.argv[0] = "make.py"
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        make_wandb(scratch)
        pack(scratch / "wandb", "*.wandb", HERE / "wandb.zip")
        make_mlflow((scratch / "mlruns").as_uri())
        pack(scratch / "mlruns", "*", HERE / "mlruns.zip")
        make_mlflow(f"sqlite:///{scratch / 'mlflow.db'}")
        dump(scratch / "mlflow.db", HERE / "mlflow.sql")
