"""Folders of runs, tables and databases that are made to do harm: bombs, pipes, numbers beyond all, other types."""

import json
import os
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import pytest

from retable.commands.view import progress_page
from retable.errors import DataError
from retable.experiment.metrics import NotThere, result_value
from retable.experiment.table import load_table
from retable.report.foreign import read_foreign, read_table
from retable.report.runs import read_runs
from retable.report.sources.base import history_of, make_record, value_of
from retable.report.verdicts import settle_published
from retable.run import files, index
from retable.sweeps.store import Store, runs_below, status_of
from tests.data.limits import taken

BOMB = "a0: &a0 {x: 1, y: 2}\n" + "".join(
    f"a{n}: &a{n} {{" + ", ".join(f"k{i}: *a{n - 1}" for i in range(9)) + "}\n" for n in range(1, 12)
)
DEEP = "[" * 20_000


def hydra(folder: Path, config: str, figures: str = '{"val/loss": 1}') -> Path:
    (folder / "run" / ".hydra").mkdir(parents=True)
    (folder / "run" / ".hydra" / "config.yaml").write_bytes(config.encode("latin1"))
    (folder / "run" / "metrics.json").write_text(figures)
    return folder


ODD = ("when: 2001-99-99", "a: \xff\xfe", "? [a, b]\n: 1", "a: !!python/name:os.system", "a: &a [*a]")


@pytest.mark.parametrize("text", [BOMB, DEEP, *ODD])
def test_yaml_of_others_is_read_or_refused_and_takes_little(tmp_path, text):
    place = hydra(tmp_path / "runs", text)
    table = tmp_path / "table.yaml"
    table.write_bytes(text.encode("latin1"))
    for call in (lambda: read_foreign("hydra", [str(place)]), lambda: read_table(table), lambda: load_table(table)):
        found = taken(call)
        assert found.outcome is None or found.outcome.startswith(("DataError: ", "ConfigError: ")), found.outcome
        assert found.seconds < 3
        assert found.megabytes < 256


BEYOND = '{"a": 1' + "0" * 400 + "}"


@pytest.mark.parametrize("figures", ['{"epoch": Infinity, "a": 1}', BEYOND, "[" * 50_000, '{"a": [1]}', "5"])
def test_figures_of_others(tmp_path, figures):
    found = taken(read_foreign, "hydra", [str(hydra(tmp_path, "seed: .inf\nepochs: .inf\n", figures))])
    assert found.outcome is None or found.outcome.startswith("DataError: "), found.outcome


def test_numbers_beyond_all():
    assert value_of("9" * 400) == "9" * 400
    assert value_of("[" * 5000) == "[" * 5000
    assert value_of("[" + "-" * 100_000 + "1]") == "[" + "-" * 100_000 + "1]"
    assert history_of([{"epoch": float("inf"), "a": 1.0}, {"epoch": 2.0, "a": 3.0}]) == {"epoch": [2.0], "a": [3.0]}
    for odd in (float("inf"), float("nan"), 10**400, True):
        record = make_record("a", {"seed": odd, "epochs": odd}, [{"epoch": 1.0, "a": 1.0}], "finished")
        assert record.seed == -1 or odd == 10**400


ODD_RUNS = [
    (files.RESULT, {"device": {"kind": "cpu", "threads": "two"}}, "result.json: device.threads='two' is no number"),
    (files.RESULT, {"config_epochs": [3]}, "result.json: config_epochs='[3]' is no number"),
    (files.RESULT, {"steps_per_second": "fast"}, "result.json: steps_per_second='fast' is no number"),
    (files.RESULT, {"metrics": {"final": {"val/accuracy": "high"}}}, "result.json is odd"),
    (files.RESULT, {"seconds": 5}, "result.json is odd"),
    (files.RUN, {"trainer": {"max_epochs": "all"}}, "run.json: trainer.max_epochs='all' is no number"),
    (files.RUN, {"trainer": {"max_steps": True}}, "run.json: trainer.max_steps='True' is no number"),
    (files.RUN, {"trainer": {"limit_val_batches": "9"}}, "run.json: trainer.limit_val_batches='9' is no number"),
    (files.RUN, {"data": {"fraction": "half"}}, "run.json: data.fraction='half' is no number"),
    (files.RUN, {"data": {"fraction": float("inf")}}, "run.json: data.fraction='inf' is no number"),
    (files.HISTORY, "epoch,val/accuracy\n1,0.5\n1,0.9\n", "history.csv has epochs that do not go up"),
    (files.HISTORY, "epoch,val/accuracy\n1,0.5\nnan,0.9\n", "history.csv has epochs that do not go up"),
    (files.HISTORY, "epoch,val/accuracy\n1,0.5\ninf,0.9\n", "history.csv has epochs that do not go up"),
    (files.HISTORY, "epoch,val/accuracy,val/accuracy\n1,0.5,0.9\n", "history.csv has two columns val/accuracy"),
    (files.RESULT, {"epochs": 3}, "history.csv ends at epoch 1, and result.json says 3"),  # cut off while it was copied
]


@pytest.mark.parametrize(("name", "content", "reason"), ODD_RUNS)
def test_a_report_lists_as_broken_what_it_could_not_count_with(tmp_path, name, content, reason):
    """As a sweep does: an epoch that stands there twice is no figure, either."""
    for run in ("a", "b"):
        directory = tmp_path / run
        directory.mkdir()
        config = {"seed": 0} | (content if (run, name) == ("a", files.RUN) else {})
        result = {"status": "finished"} | (content if (run, name) == ("a", files.RESULT) else {})
        (directory / files.RUN).write_text(json.dumps({"config": config, "identity": {}}))
        (directory / files.RESULT).write_text(json.dumps(result))
        history = content if (run, name) == ("a", files.HISTORY) else "epoch,val/accuracy\n1,0.5\n"
        (directory / files.HISTORY).write_text(history)
    found = read_runs([tmp_path])
    assert [(broken.path, broken.reason) for broken in found.broken] == [((tmp_path / "a").as_posix(), reason)]
    assert [record.path for record in found.records] == [(tmp_path / "b").as_posix()]


def test_a_figure_beyond_all_numbers_is_none():
    with pytest.raises(NotThere):
        result_value(SimpleNamespace(result={"parameters": 10**400}), "parameters")


def test_a_database_of_other_types(tmp_path):
    path = tmp_path / "mlflow.db"
    with sqlite3.connect(path) as database:
        database.executescript(
            "create table runs (run_uuid, name, status, start_time, end_time, lifecycle_stage);"
            "create table params (key, value, run_uuid); create table tags (key, value, run_uuid);"
            "create table metrics (key, value, timestamp, run_uuid, step, is_nan);"
            "insert into runs values (1, x'ff', 3, 'a', 'b', 'active');"
            "insert into params values (5, null, 1); insert into metrics values ('a', 'b', 0, 1, null, 0);"
        )
    with pytest.raises(DataError, match=rf"^{path}: "):
        read_foreign("mlflow", [str(path)])


def test_a_table_of_countless_ranges_is_evaluated_or_left_open(tmp_path, make_table):
    names = [f"c{n}" for n in range(40)]
    cells = {name: {"match": {"seed": n}, "published": {"val": {"range": [1, 2]}}} for n, name in enumerate(names)}
    table = make_table({"text": "a", "kind": "best", "cell": "c0", "metric": "val"}, cells=cells, baseline="c0")
    verdict, _, reasons = settle_published(table, table.claims[0])
    assert (verdict, reasons) == ("undecided", ("40 published ranges have too many ends to try",))


FILES = (files.RUN, files.RESULT, files.HISTORY, files.CONFIG, files.LOG, files.LOCK, ".lease-3", "../.index.json")


@pytest.mark.parametrize("name", FILES)
def test_no_pipe_in_a_run_directory_is_waited_for(tmp_path, name):
    directory = tmp_path / "mnist" / "a"
    directory.mkdir(parents=True)
    for other, content in ((files.RUN, {"name": "a"}), (files.RESULT, {"status": "failed", "reason": "<script>"})):
        (directory / other).write_text(json.dumps(content))
    (directory / name).unlink(missing_ok=True)
    os.mkfifo(directory / name)
    if name == ".lease-3":
        (directory / files.RESULT).unlink()

    def look() -> None:
        progress_page(runs_below(tmp_path), tmp_path)
        status_of(directory)
        Store(tmp_path / "mnist")
        read_runs([tmp_path])

    found = taken(look, limit=2)
    assert found.outcome is None


@pytest.mark.parametrize("text", ["[]", "5", '{"a": 5}', '{"a": {"run": 5}}', '{"a": {"run": [1]}}', "[" * 50_000])
def test_an_index_of_another_form_is_as_good_as_none(tmp_path, text):
    directory = tmp_path / "mnist" / "a"
    directory.mkdir(parents=True)
    (directory / files.RESULT).write_text('{"status": "failed"}')
    (directory / files.RUN).write_text('{"config": {}, "identity": {}}')
    (tmp_path / "mnist" / index.FILE).write_text(f"{index._head(text)}\n{text}\n")
    assert status_of(directory) == "failed"
    assert [run.status for run in runs_below(tmp_path)] == ["failed"]


def test_what_a_run_says_is_no_markup(tmp_path):
    directory = tmp_path / "mnist" / 'a"><script>alert(1)<'
    directory.mkdir(parents=True)
    (directory / files.RESULT).write_text(json.dumps({"status": "failed", "reason": "<script>alert(2)</script>"}))
    (directory / files.LOG).write_text("</pre><script>alert(3)</script>")
    page = progress_page(runs_below(tmp_path), tmp_path)
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert(") >= 2
