"""Runs that other programs recorded become the same table, with figures that pandas and SciPy give of the same numbers.

What W&B and MLflow wrote lies in `recorded/` (`recorded/make.py`); TensorBoard's files and Hydra's folders are written
here by those programs themselves.
"""

import html
import json
import math
import re
import sqlite3
import subprocess
import sys
import types
import zipfile
from dataclasses import replace
from pathlib import Path

import hydra
import pandas as pd
import pytest
import scipy.stats
import yaml

from retable.cli import main
from retable.errors import ConfigError, DataError
from retable.experiment.metrics import Metric, NotANumber
from retable.experiment.table import parse_table
from retable.report.draft import draft
from retable.report.evaluated import evaluate
from retable.report.foreign import read_foreign, read_table, table_of
from retable.report.sources import source
from retable.report.sources.base import UNSEEDED, history_of, make_record, planned_epochs, seed_of
from retable.report.sources.wandb import numbers_of
from tests.report.recorded.make import FINAL, SETTINGS, runs

RECORDED = Path(__file__).parent / "recorded"
TABLE = """\
source: toy
title: Dropout
published_epochs: 3
metrics:
  val: {column: val/accuracy, scale: 100, unit: "%"}
  loss: {column: train/loss, better: lower, digits: 3}
baseline: p 0.1
cells:
  p 0.1: {match: {dropout.p: 0.1}, published: {val: 81}}
  p 0.5: {match: {dropout.p: 0.5}}
claims:
  - {text: less dropout is better, kind: greater, metric: val, left: p 0.1, right: p 0.5}
  - {text: much dropout is better, kind: greater, metric: val, left: p 0.5, right: p 0.1}
"""
SCRIPT = """\
import csv, hydra
FINAL = {final}
@hydra.main(version_base=None, config_path=None, config_name="config")
def main(config):
    accuracy = FINAL[config.dropout.p][config.seed]
    with open(hydra.core.hydra_config.HydraConfig.get().runtime.output_dir + "/metrics.csv", "w") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "val/accuracy", "train/loss"])
        for epoch in (1, 2, 3):
            writer.writerow([epoch, round(accuracy - 0.05 * (3 - epoch), 4), ""])
            writer.writerow([epoch, "", round(2 / epoch + config.dropout.p, 4)])
main()
"""


def wandb_folder(folder: Path) -> Path:
    zipfile.ZipFile(RECORDED / "wandb.zip").extractall(folder / "wandb")
    return folder / "wandb"


def mlflow_store(folder: Path) -> Path:
    zipfile.ZipFile(RECORDED / "mlruns.zip").extractall(folder / "mlruns")
    return folder / "mlruns"


def mlflow_database(folder: Path) -> Path:
    with sqlite3.connect(folder / "mlflow.db") as database:
        database.executescript((RECORDED / "mlflow.sql").read_text(encoding="utf-8"))
    return folder / "mlflow.db"


def tensorboard_folder(folder: Path, seeded: bool = True) -> Path:
    from torch.utils.tensorboard import SummaryWriter

    for p, seed, rows in runs():
        writer = SummaryWriter(str(folder / f"tensorboard/p{p}-s{seed}"))
        for epoch, accuracy, loss in rows:
            writer.add_scalar("val/accuracy", accuracy, epoch)
            writer.add_scalar("train/loss", loss, epoch)
        settings = {"dropout.p": p, **SETTINGS, **({"seed": seed} if seeded else {})}
        writer.add_hparams(settings, {"hparam/accuracy": rows[-1][1]})
        writer.close()
    return folder / "tensorboard"


def csv_file(folder: Path) -> Path:
    lines = [
        {"Name": f"p{p}-s{seed}", "State": "finished", "dropout.p": p, "seed": seed, **SETTINGS}
        | {"val/accuracy": rows[-1][1], "train/loss": rows[-1][2]}
        for p, seed, rows in runs()
    ]
    pd.DataFrame(lines).to_csv(folder / "runs.csv", index=False)
    return folder / "runs.csv"


def hydra_folder(folder: Path) -> Path:
    if sys.version_info >= (3, 14) and hydra.__version__.startswith("1.3."):
        pytest.skip("no program of Hydra 1.3 starts on Python 3.14 (its help of --shell-completion is no text)")
    (folder / "config.yaml").write_text("dropout: {p: 0.1}\nseed: 0\noptimizer: sgd\nepochs: 3\n")
    script = SCRIPT.format(final={p: list(values) for p, values in FINAL.items()})
    (folder / "script.py").write_text(script.replace("config_path=None", f"config_path={str(folder)!r}"))
    words = ["-m", "dropout.p=0.1,0.5", "seed=0,1,2", "hydra.sweep.dir=sweep"]
    subprocess.run([sys.executable, "script.py", *words], cwd=folder, check=True, capture_output=True)
    return folder / "sweep"


PLACES = {
    "wandb": wandb_folder,
    "mlflow": mlflow_store,
    "mlflow (sqlite)": mlflow_database,
    "tensorboard": tensorboard_folder,
    "csv": csv_file,
    "hydra": hydra_folder,
}


@pytest.mark.parametrize("program", PLACES)
def test_six_runs_become_the_same_table_whoever_recorded_them(program, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    place = PLACES[program](tmp_path)
    Path("table.yaml").write_text(TABLE)
    main(["report", "--from", program.partition(" ")[0], str(place), "--table", "table.yaml", "--output", "pages"])
    assert (
        "table  1 of 2 claims hold, 1 of them resolved; 1 that does not hold is resolved  pages/table/report.md"
        in capsys.readouterr().out
    )

    frame = pd.DataFrame(FINAL) * 100  # a row a seed, a column a probability
    written = pd.read_csv("pages/table/report.csv").set_index(["cell", "metric"])
    for p in FINAL:
        line = written.loc[f"p {p}", "val"]
        assert line["mean"] == pytest.approx(frame[p].mean(), abs=1e-4)
        assert line["std"] == pytest.approx(frame[p].std(), abs=1e-4)
        assert line["n"] == 3
        assert written.loc[f"p {p}", "loss"]["mean"] == pytest.approx(2 / 3 + p, abs=1e-4)
    assert written.loc["p 0.1", "val"]["difference"] == pytest.approx(frame[0.1].mean() - 81, abs=1e-4)
    paired = frame[0.5] - frame[0.1]
    low, high = scipy.stats.t.interval(0.95, 2, paired.mean(), scipy.stats.sem(paired))
    line = written.loc["p 0.5", "val"]
    assert line["baseline_low"] == pytest.approx(low, abs=1e-4)
    assert line["baseline_high"] == pytest.approx(high, abs=1e-4)
    assert line["baseline_n"] == 3

    text = Path("pages/table/report.md").read_text()
    assert "| less dropout is better | holds, " in text.replace("toy (1) ", "")
    assert "| much dropout is better | does not hold, " in text.replace("toy (2) ", "")
    assert "Not recorded: the code's commit, the data's fingerprint." in text
    page = html.unescape(Path("pages/table/index.html").read_text())
    assert f"retable report --from {program.partition(' ')[0]} {place} --table table.yaml" in page
    assert "81.33 ± 1.53" in re.sub(r"<[^>]+>", "", page)


@pytest.mark.parametrize("program", ["wandb", "mlflow", "csv"])
def test_a_draft_holds_what_varies_and_makes_the_same_figures(program, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    place = str(PLACES[program](tmp_path))
    main(
        [
            "table",
            "new",
            "--from",
            program,
            place,
            "--rows",
            "dropout",
            "--metric",
            "val/accuracy",
            "--output",
            "t.yaml",
        ]
    )
    assert "2 cells of 6 runs: t.yaml" in capsys.readouterr().out
    table = yaml.safe_load(Path("t.yaml").read_text())["table"]
    assert table["rows"] == ["dropout.p"]
    assert table["grid"] == [{"dropout.p": [0.1, 0.5]}]
    assert table["cells"] == {f"dropout {p}": {"match": {"dropout.p": p}} for p in (0.1, 0.5)}
    assert table["metrics"] == {"val_accuracy": {"column": "val/accuracy", "digits": 4}}
    main(["report", "--from", program, place, "--table", "t.yaml", "--output", "pages"])
    assert "| 0.1 | **0.8133 ± 0.0153** (3) |" in Path("pages/t/report.md").read_text()


def test_without_a_table_the_report_is_of_what_varies(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["report", "--from", "csv", str(csv_file(tmp_path)), "--output", "pages"])
    assert "| 0.5 | 0.7167 ± 0.0153 (3) |" in Path("pages/csv/report.md").read_text()


def test_what_is_made_says_the_very_command_that_made_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [{"p": p, "trial": s, "keep": k, "acc": p + s / 10} for p in (1, 2) for s in (0, 1) for k in (0, 1)]
    grid_csv(tmp_path, rows)
    Path("runs.csv").rename("my runs.csv")
    chosen = ["--from", "csv", "my runs.csv", "--seed", "trial", "--where", "keep=1"]
    said = "--from csv 'my runs.csv' --seed trial --where keep=1"
    main(["table", "new", *chosen, "--output", "a table.yaml"])
    assert f"# Then: retable report {said} --table 'a table.yaml'\n" in Path("a table.yaml").read_text()
    main(["table", "new", *chosen])
    assert f"# Then: retable report {said} --table table.yaml\n" in capsys.readouterr().out
    Path("a table.yaml").rename("t.yaml")
    for words, more, place in (
        (["--table", "t.yaml", "--output", "the pages"], " --table t.yaml --output 'the pages'", "the pages/t"),
        ([], "", "tables/csv"),
    ):
        main(["report", *chosen, *words])
        command = f"retable report {said}{more}"
        page = html.unescape(Path(place, "index.html").read_text())
        assert f'<code class="command">{command}</code>' in page
        assert f"`{command}`" in Path(place, "report.md").read_text()
        first = Path(place, "report.tex").read_text().splitlines()[0]
        assert first.endswith(f": {command}")
        assert first in page  # copied as LaTeX
        assert "train.py" not in page


def test_a_csv_file_with_a_column_of_states_says_which_runs_ended_well(tmp_path):
    note = "A CSV file does not say which runs ended well: those with figures are taken as finished."
    rows = [{"Name": "a", "p": 1, "seed": 0, "acc": 0.5}, {"Name": "b", "p": 2, "seed": 0, "acc": 0.6}]
    assert note in read_foreign("csv", [grid_csv(tmp_path, rows)]).notes
    for head in ("State", "status"):
        place = grid_csv(tmp_path, [row | {head: "finished"} for row in rows])
        assert note not in read_foreign("csv", [place]).notes
    with pytest.raises(DataError, match=r"^none\.csv: No such file or directory; accepted: a CSV file"):
        read_foreign("csv", ["none.csv"])


def test_of_a_row_a_run_there_are_no_curves_and_without_published_figures_no_word_of_them(tmp_path):
    file, table = tmp_path / "runs.csv", tmp_path / "table.yaml"
    file.write_text("lr,seed,val_acc\n0.1,0,0.8\n0.1,1,0.9\n0.2,0,0.7\n0.2,1,0.6\n")
    main(["table", "new", "--from", "csv", str(file), "--output", str(table)])
    for published in (False, True):
        if published:
            cell = "lr 0.1: {match: {lr: 0.1}"
            assert cell in table.read_text()
            table.write_text(table.read_text().replace(cell, f"{cell}, published: {{val_acc: 0.9}}"))
        main(["report", "--from", "csv", str(file), "--table", str(table), "--output", str(tmp_path / "out")])
        page = (tmp_path / "out" / "table" / "index.html").read_text()
        text = (tmp_path / "out" / "table" / "report.md").read_text()
        assert "per epoch" not in page
        assert ("the published value" in page) == ("/ published /" in text) == published
        assert "Each figure: mean ± sample standard deviation over n seeds" in page
        assert '<td data-sort="0">–</td>' in page  # epochs, of which the file says nothing
        assert "1 of 1" not in page.partition('id="all-runs"')[2]


def grid_csv(path: Path, rows: list[dict]) -> str:
    pd.DataFrame(rows).to_csv(path / "runs.csv", index=False)
    return str(path / "runs.csv")


@pytest.mark.parametrize(
    "text",
    [
        "name,model,learning_rate,random_seed,best acc\n"
        "a,cnn,0.1,1,71.2%\nb,cnn,0.1,2,70.8%\nc,vit,0.01,1,60.5 %\nd,vit,0.01,2,61%\n",
        "name;model;learning_rate;random_seed;best acc\n"
        "a;cnn;0,1;1;71,2\nb;cnn;0,1;2;70,8\nc;vit;0,01;1;60,5\nd;vit;0,01;2;61\n",
    ],
    ids=["percent signs", "decimal commas"],
)
def test_a_sheet_as_a_person_writes_it(text, tmp_path):
    (tmp_path / "runs.csv").write_text(text)
    foreign = read_foreign("csv", [str(tmp_path / "runs.csv")])
    drafted = draft(foreign.records, ["learning_rate"])
    assert (drafted["rows"], list(drafted["metrics"])) == (["learning_rate", "model"], ["best acc"])
    table = parse_table(drafted, "t")
    rows = evaluate(table, table_of(table, foreign)).rows
    means = {row.cell.name: row.entries["best acc"].mean for row in rows}
    assert means == {"learning_rate 0.01 vit": pytest.approx(60.75), "learning_rate 0.1 cnn": pytest.approx(71.0)}


def test_shares_and_percentages_are_not_mixed(tmp_path):
    """71.2 % and 0.73 have no mean of 35.97: a column has its signs throughout, or they are part of its texts."""
    (tmp_path / "runs.csv").write_text("opt,seed,acc\na,0,71.2 %\na,1,0.73\nb,0,0.8\nb,1,0.9\n")
    records = read_foreign("csv", [str(tmp_path / "runs.csv")]).records
    assert [record.history.get("acc") for record in records] == [None, [0.73], [0.8], [0.9]]


def test_a_seed_is_no_figure_of_a_draft(tmp_path):
    rows = [{"opt": name, "seed": s, "quality": 1 + s} for name in "ab" for s in (0, 1)]
    records = read_foreign("csv", [grid_csv(tmp_path, rows)]).records
    assert list(draft(records)["metrics"]) == ["quality"]


def test_rows_and_columns_lay_the_table_out_and_what_else_varies_joins_the_rows(tmp_path):
    rows = [
        {"dropout": p, "optimizer": name, "batch": batch, "seed": seed, "val_acc": p + batch / 100 + seed / 1000}
        for p in (0.1, 0.5)
        for name in ("adam", "sgd")
        for batch in (16, 32)
        for seed in (0, 1)
    ]
    records = read_foreign("csv", [grid_csv(tmp_path, rows)]).records
    found = draft(records, ["dropout"], ["optimizer"])
    assert found["rows"] == ["dropout", "batch"]
    assert found["columns"] == ["optimizer"]
    assert len(found["cells"]) == 8
    assert found["cells"]["dropout 0.1 batch 16 adam"] == {"match": {"dropout": 0.1, "batch": 16, "optimizer": "adam"}}
    with pytest.raises(ConfigError, match=r"^epochs: is not among what varies; accepted: dropout, optimizer, batch$"):
        draft(records, ["epochs"])


def test_a_setting_that_some_runs_lack_is_null_in_the_table(tmp_path):
    rows = [{"opt": "sgd", "momentum": 0.9, "seed": s, "val_acc": 0.5 + s / 10} for s in (0, 1)]
    rows += [{"opt": "adam", "momentum": None, "seed": s, "val_acc": 0.7 + s / 10} for s in (0, 1)]
    foreign = read_foreign("csv", [grid_csv(tmp_path, rows)])
    table = parse_table(draft(foreign.records), "t")
    means = {row.cell.name: row.entries["val_acc"].mean for row in evaluate(table, table_of(table, foreign)).rows}
    assert means == {"adam no momentum": pytest.approx(0.75), "sgd momentum 0.9": pytest.approx(0.55)}


def test_runs_without_a_seed_pair_with_none_which_a_note_says(tmp_path):
    foreign = read_foreign("tensorboard", [str(tensorboard_folder(tmp_path, seeded=False))])
    assert "Not recorded: the seed, the code's commit, the data's fingerprint." in foreign.notes
    assert any("Runs without a seed pair with no others" in note for note in foreign.notes)
    (tmp_path / "t.yaml").write_text(TABLE)
    table = read_table(tmp_path / "t.yaml")
    assigned = table_of(table, foreign)
    assert [[run.seed for run in found] for found in assigned.cells.values()] == [[0, 1, 2], [0, 1, 2]]
    assert evaluate(table, assigned).rows[0].entries["val"].mean == pytest.approx(81.3333, abs=1e-4)


def test_a_failed_run_that_was_repeated_is_left_out_and_two_finished_ones_are_reported(tmp_path):
    runs = [("crashed", 1, 0), ("finished", 1, 0), ("finished", 2, 0), ("finished", 2, 0), ("failed", 1, 1)]
    rows = [
        {"Name": f"r{number}", "State": state, "p": p, "seed": seed, "val_acc": 0.5}
        for number, (state, p, seed) in enumerate(runs)
    ]
    foreign = read_foreign("csv", [grid_csv(tmp_path, rows)])
    table = parse_table(draft(foreign.records), "t")
    assigned = table_of(table, foreign)
    found = {
        row.cell.name: (row.entries["val_acc"].n, row.entries["val_acc"].words)
        for row in evaluate(table, assigned).rows
    }
    assert found == {"p 1": (1, "1 of 2 failed"), "p 2": (0, "several runs of seed 0")}
    assert "Left out: 1 that did not finish and were repeated with the same settings." in assigned.notes


def test_what_the_table_does_not_speak_of_is_reported(tmp_path):
    rows = [{"p": p, "batch": 16 + 16 * seed, "seed": seed, "val_acc": 0.5} for p in (1, 2) for seed in (0, 1)]
    foreign = read_foreign("csv", [grid_csv(tmp_path, rows)])
    (tmp_path / "t.yaml").write_text(
        "metrics: {v: {column: val_acc}}\ncells: {a: {match: {p: 1}}, b: {match: {p: 2}}}\n"
    )
    assigned = table_of(read_table(tmp_path / "t.yaml"), foreign)
    assert assigned.notes[-1] == "Runs of one cell differ in batch, of which the table does not speak."


def test_keras_folders_and_paths_of_hydra_and_lightnings_files_are_understood(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    for part, value in (("train", 0.9), ("validation", 0.8)):
        with SummaryWriter(str(tmp_path / "lr=0.1,seed=3" / part)) as writer:
            writer.add_scalar("epoch_accuracy", value, 0)
    with SummaryWriter(str(tmp_path / "other/version_0")) as writer:
        for step, epoch in ((99, 0), (199, 1)):
            writer.add_scalar("epoch", epoch, step)
            writer.add_scalar("val/loss", 1 / (epoch + 1), step)
    (tmp_path / "other/version_0/hparams.yaml").write_text("optimizer: {lr: 0.5}\nseed: 4\n")
    first, second = source("tensorboard").read(str(tmp_path))
    assert first.config == {"lr": 0.1, "seed": 3}
    assert first.seed == 3
    assert first.history["validation/epoch_accuracy"] == pytest.approx([0.8])
    assert second.config == {"optimizer": {"lr": 0.5}, "seed": 4}
    assert second.history == {"epoch": [0.0, 1.0], "val/loss": [1.0, 0.5]}


def test_wandbs_states_commits_and_files_cut_off(tmp_path):
    folder = wandb_folder(tmp_path)
    records = source("wandb").read(str(folder))
    assert {record.status for record in records} == {"finished"}
    assert records[0].config == {"dropout": {"p": 0.1}, "seed": 0, "optimizer": "sgd", "epochs": 3}
    path = next(folder.rglob("*.wandb"))
    path.write_bytes(path.read_bytes()[:-60])  # the exit is not there
    assert [record.status for record in source("wandb").read(str(path))] == ["unfinished"]
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match="is no run file of W&B"):
        source("wandb").read(str(path))


def test_a_project_of_wandb_is_read_through_its_package(monkeypatch):
    run = types.SimpleNamespace(
        name="a",
        config={"lr": 0.1, "seed": 2, "_wandb": {}},
        state="crashed",
        commit="abc",
        summary={"_runtime": 7.5},
        scan_history=lambda: [{"_step": 0, "epoch": 1, "val": {"acc": 0.5}, "note": "x"}, {"_step": 1, "loss": 2}],
    )
    api = types.SimpleNamespace(Api=lambda: types.SimpleNamespace(runs=lambda place: [run]))
    monkeypatch.setitem(sys.modules, "wandb", api)
    (record,) = source("wandb").read("me/toy")
    assert (record.status, record.seed, record.result["git"]["commit"]) == ("failed", 2, "abc")
    assert record.history == {"epoch": [1.0], "val.acc": [0.5], "loss": [2.0]}
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"pip install wandb$"):
        source("wandb").read("me/toy")


def test_mlflows_database_is_not_written_to(tmp_path):
    path = mlflow_database(tmp_path)
    before = path.read_bytes()
    assert len(source("mlflow").read(f"sqlite:///{path}")) == 6
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["mlflow.db"]


def test_hydras_figures_may_be_json_and_a_run_without_is_unfinished(tmp_path):
    for number, (name, text) in enumerate(
        [("results.json", json.dumps({"val": {"acc": 0.5}, "note": "x"})), ("log.jsonl", '{"epoch": 1, "loss": 3}\n')]
    ):
        (tmp_path / f"{number}/.hydra").mkdir(parents=True)
        (tmp_path / f"{number}/.hydra/config.yaml").write_text(f"lr: {number}\n")
        (tmp_path / f"{number}" / name).write_text(text)
    (tmp_path / "2/.hydra").mkdir(parents=True)
    (tmp_path / "2/.hydra/config.yaml").write_text("lr: 2\n")
    records = source("hydra").read(str(tmp_path))
    assert [record.status for record in records] == ["finished", "finished", "unfinished"]
    assert records[0].history["val.acc"] == [0.5]
    assert records[1].history == {"epoch": [1.0], "loss": [3.0]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "aim", "x"], "--from aim: accepted: csv, hydra, mlflow, tensorboard, wandb"),
        (["--from", "csv", "no.csv"], "no.csv: No such file or directory; accepted: a CSV file"),
        (["--from", "wandb", "."], ".: no run file (*.wandb); accepted: a folder with W&B's run files"),
        (["--from", "mlflow", "."], ".: no run of MLflow; accepted: a file store (mlruns) or a sqlite database"),
        (["--from", "tensorboard", "."], ".: no event file with scalars; accepted: a folder with event files"),
        (["--from", "hydra", "."], ".: no run of Hydra; accepted: a multirun folder"),
        (["--table", "t.yaml", "."], "--table t.yaml: accepted: with --from; else --experiment NAME"),
        (["--from", "csv", "runs.csv", "--seed", "opt"], "--seed opt: is in no run a whole number"),
        (
            ["--from", "csv", "runs.csv", "--where", "opt=x"],
            "--where: none of 4 runs is so; settings that vary: opt (a, b)",
        ),
    ],
)
def test_refusals_are_one_line_and_say_what_is_accepted(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    grid_csv(tmp_path, [{"opt": o, "seed": s, "val_acc": s / 3} for o in "ab" for s in (0, 1)])
    with pytest.raises(SystemExit) as stopped:
        main(["report", *arguments])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_rows_of_one_epoch_are_one_and_steps_stand_in_for_epochs():
    nan = float("nan")
    rows = [{"epoch": 1, "a": 1.0}, {"epoch": 1, "a": 2.0, "b": 5.0}, {"epoch": 2, "a": nan}]
    found = history_of(rows)
    assert found["epoch"] == [1.0, 2.0]
    assert found["a"][0] == 2.0
    assert found["b"][0] == 5.0
    assert all(found[name][1] != found[name][1] for name in "ab")
    assert history_of([{"step": 50, "a": 1.0}, {"step": 100, "a": 2.0}]) == {"epoch": [50.0, 100.0], "a": [1.0, 2.0]}


HYDRA_NANS = {
    "metrics.csv": "epoch,loss,error,fine,other\n1,3.0,3.0,3.0,\n2,nan,inf,0.25,\n3,,,,\n",
    "metrics.jsonl": '{"epoch": 1, "loss": 3, "error": 3, "fine": 3}\n'
    '{"epoch": 2, "loss": NaN, "error": Infinity, "fine": 0.25}\n',
}


def test_what_a_program_recorded_as_nan_or_infinite_at_the_end_is_no_number(tmp_path):
    """The loss of the last epoch is nan, and an error that was 3 is infinite: neither is the epoch's before it."""
    metrics = {name: Metric(name, column=name) for name in ("loss", "error", "fine")}
    folder = tmp_path / "mlruns/0/a"
    (folder / "metrics").mkdir(parents=True)
    (folder / "meta.yaml").write_text("run_name: a\nstatus: 3\nlifecycle_stage: active\n")
    for name, last in (("loss", "nan"), ("error", "inf"), ("fine", "0.25")):
        (folder / "metrics" / name).write_text(f"1 3.0 1\n2 {last} 2\n")
    with sqlite3.connect(mlflow_database(tmp_path)) as database:
        (run,) = database.execute("select run_uuid from runs order by name limit 1").fetchone()
        largest = 1.7976931348623157e308  # as MLflow keeps an infinite one
        for name, last, is_nan in (("loss", 0.0, True), ("error", largest, False), ("fine", 0.25, False)):
            for step, value, nan in ((1, 3.0, False), (2, last, is_nan)):
                row = {"key": name, "value": value, "timestamp": step, "run_uuid": run, "step": step, "is_nan": nan}
                names = ", ".join(row)
                database.execute(f"insert into metrics ({names}) values (?, ?, ?, ?, ?, ?)", tuple(row.values()))
    for name, text in HYDRA_NANS.items():
        (tmp_path / f"multirun/{name}/.hydra").mkdir(parents=True)
        (tmp_path / f"multirun/{name}/.hydra/config.yaml").write_text("lr: 0.1\n")
        (tmp_path / f"multirun/{name}" / name).write_text(text)
    items = [("loss", math.nan), ("error", math.inf), ("fine", 0.25), ("none", None), ("epoch", 2)]
    online = [("loss", "NaN"), ("error", "Infinity"), ("fine", 0.25), ("epoch", 2)]
    first = {"epoch": 1.0, "loss": 3.0, "error": 3.0, "fine": 3.0}
    records = [
        *source("mlflow").read(str(tmp_path / "mlruns")),
        source("mlflow").read(str(tmp_path / "mlflow.db"))[0],
        *source("hydra").read(str(tmp_path / "multirun")),
        *(make_record("a", {}, [first, numbers_of(row, None)], "finished") for row in (items, online)),
    ]
    for record in records:
        assert metrics["fine"].value(record, metrics) == 0.25
        for name in ("loss", "error"):
            with pytest.raises(NotANumber, match=f"{name} is not a number at epoch 2"):
                metrics[name].value(record, metrics)


def test_a_row_of_the_test_set_alone_is_no_epoch_that_was_planned():
    """Lightning logs what `trainer.test` found at the epoch after the last one."""
    rows = [{"epoch": 0, "train_loss": 2.0}, {"epoch": 1, "train_loss": 1.0}, {"epoch": 2, "test_loss": 1.5}]
    assert make_record("a", {}, rows, "finished").planned_epochs == 2
    assert make_record("a", {}, rows[:2], "finished").planned_epochs == 2


def test_seeds_and_epochs_are_found_by_their_usual_names():
    assert seed_of({"trainer": {"seed": 4}, "seed": 1}) == 1
    assert seed_of({"data": {"random_state": 3.0}}) == 3
    assert seed_of({"seed": "a"}) == UNSEEDED
    assert seed_of({"fold": 2}, "fold") == 2
    assert planned_epochs({"trainer": {"max_epochs": 7}}, {"epoch": [1.0]}) == 7
    assert planned_epochs({}, {"epoch": [0.0, 1.0, 2.0]}) == 3
    assert planned_epochs({}, {"epoch": [50.0, 100.0]}) == 0


def test_curves_are_drawn_of_whatever_the_tables_metrics_name(make_table, make_run, assigned):
    """`val_acc` and `valid/f1` as others' loops call them, with their training twins, and a column of no part."""
    history = {
        "epoch": [1.0, 2.0, 3.0],
        "train_acc": [0.3, 0.5, 0.7],
        "val_acc": [0.2, 0.4, 0.5],
        "valid/f1": [0.1, 0.2, 0.3],
        "perplexity": [9.0, 5.0, 4.0],
        "test/acc": [float("nan"), float("nan"), 0.45],
        "lr": [0.1, 0.1, 0.1],
    }
    record = replace(make_run("a", [0.1]), history=history)
    metrics = {
        "acc": {"column": "val_acc", "scale": 100, "unit": "%"},
        "f1": {"column": "valid/f1"},
        "perplexity": {"column": "perplexity", "better": "lower"},
        "test": {"column": "test/acc"},
    }
    cells = {name: {"match": {"model.name": name}} for name in "abc"}
    found = evaluate(make_table(metrics=metrics, cells=cells), assigned(record))
    lines = {
        plot.title: [(panel.title, panel.axis, [line.points[-1][1] for line in panel.lines]) for panel in plot.panels]
        for plot in found.plots
        if "epoch" in plot.title
    }
    assert lines == {
        "Acc per epoch, all runs": [("train", "acc (%)", [70.0]), ("validation", "acc (%)", [50.0])],
        "F1 per epoch, all runs": [("validation", "f1", [0.3])],
        "Perplexity per epoch, all runs": [("", "perplexity", [4.0])],
        "Validation acc of all runs from epoch 2 on": [
            ("validation acc of all runs from epoch 2 on", "acc (%)", [50.0])
        ],
        "Train and validation of the two best from epoch 2 on": [
            ("train and validation of the two best from epoch 2 on", "acc (%)", [50.0, 70.0])
        ],
    }
