"""`retable report`: which runs make up which table, what is printed, and the same bytes from the same directories."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import retable
from retable.cli import main
from retable.config.compose import Composer
from retable.config.folders import config_dir
from retable.config.identity import identity
from retable.experiment.grid import expand
from retable.report.evaluated import evaluate
from retable.report.match import tables_of
from retable.report.runs import read_runs
from retable.sweeps.finish import finish
from retable.sweeps.plan import make_plan
from retable.sweeps.pool import Outcome


@pytest.fixture(scope="module")
def composer():
    return Composer()


@pytest.fixture
def run_sweep(composer, tmp_path):
    """Leaves the directories of a sweep, as if it had been trained; cells without a value get 0.4."""

    def run(
        *arguments,
        only=lambda config: True,
        accuracy=lambda config: 0.4,
        status="finished",
        root="multirun",
        data=None,
    ):
        folders = []
        for number, overrides in enumerate(expand(arguments, composer).points):
            config = composer.compose(overrides).config
            config["trainer"]["precision"] = "32"
            if not only(config):
                continue
            name = "_".join(text.replace("/", "-") for text in overrides)
            folder = tmp_path / root / config["task"]["name"] / f"{len(list(tmp_path.rglob('run.json')))}_{name}"
            folder.mkdir(parents=True)
            kept = {key: value for key, value in config.items() if key not in ("table", "sweep", "seeds", "output")}
            values = {"name": name, "task": config["task"]["name"], "overrides": overrides, "config": kept}
            (folder / "run.json").write_text(json.dumps({**values, "identity": identity(config)}))
            value = accuracy(config) + number / 1000
            rows = [f"1,{value + 0.1},{value}", f"2,{value + 0.1},{value}"]
            (folder / "history.csv").write_text("\n".join(["epoch,train/accuracy,val/accuracy", *rows, ""]))
            about = {"source": config["data"]["source"]} | ({"fingerprint": data} if data else {})
            result = {"status": status, "seed": config["seed"], "data": about}
            (folder / "result.json").write_text(json.dumps(result))
            folders.append(folder)
        return folders

    return run


def cells(found, name):
    """Seeds by cell of a table, cells without runs left out."""
    assigned = next(assigned for table, assigned in found if table.name == name)
    return {cell: [run.seed for run in runs] for cell, runs in assigned.cells.items() if runs}


def few(*names):
    """The baseline and dropout on all layers with these probabilities."""
    return lambda config: config["dropout"]["p"] in names and config["dropout"]["where"] == "all"


def test_a_run_belongs_where_its_identity_does(run_sweep, composer, tmp_path):
    run_sweep("experiment=cifar/dropout", "seeds=2", only=few(0.0, 0.3))
    run_sweep("experiment=cifar/blocks", "seed=0", "model.blocks=1")
    run_sweep("task=cifar", "dropout=0.3", "dropout.where=all", "seed=7")  # by hand, and of the table all the same
    run_sweep("task=cifar", "dropout=0.3", "optimizer.lr=0.5")  # of no table
    found = tables_of(read_runs([tmp_path]), composer=composer)
    assert [table.name for table, _ in found] == ["cifar/best", "cifar/blocks", "cifar/dropout"]
    assert cells(found, "cifar/dropout") == {"none": [0, 1], "all 0.3": [0, 1, 7]}


def test_a_run_by_hand_is_beside_those_of_the_settings_that_it_has(run_sweep, composer, tmp_path):
    """As a sweep of the experiment takes it for finished, and trains the others alone."""
    run_sweep("task=cifar", "model.width=8", "dropout=0.3", "dropout.where=all")
    run_sweep("experiment=cifar/dropout", "model.width=8", only=few(0.0, 0.5))
    found = tables_of(read_runs([tmp_path]), ["cifar/dropout"], composer=composer)
    assert cells(found, "cifar/dropout") == {"none": [0], "all 0.3": [0], "all 0.5": [0]}
    assert found[0][1].notes == ("Set for every run beside the experiment: model.width=8.",)


def test_a_shared_run_is_in_both_tables_and_a_baseline_alone_is_no_table(run_sweep, composer, tmp_path):
    run_sweep("experiment=cifar/dropout", only=few(0.0, 0.3))
    runs = read_runs([tmp_path])
    assert [table.name for table, _ in tables_of(runs, composer=composer)] == ["cifar/best", "cifar/dropout"]
    found = tables_of(runs, ["cifar/blocks", "cifar/dropout"], composer=composer)
    assert list(cells(found, "cifar/blocks").values()) == [[0]]


def test_scales_are_kept_apart_and_the_largest_is_shown(run_sweep, composer, tmp_path):
    run_sweep("experiment=cifar/dropout", "trainer.max_epochs=5", only=few(0.0, 0.2, 0.3))
    run_sweep("experiment=cifar/dropout", "trainer.max_epochs=30", only=few(0.0, 0.3))
    run_sweep("experiment=cifar/dropout", "data=sample", only=few(0.0, 0.3, 0.4))
    run_sweep("experiment=cifar/blocks", only=lambda config: config["model"]["blocks"] == 3)  # the baseline at 100
    runs = read_runs([tmp_path])
    found = tables_of(runs, ["cifar/dropout"], composer=composer)
    assert cells(found, "cifar/dropout") == {"none": [0], "all 0.3": [0]}
    assert found[0][1].notes == (
        "Not in this table, of other data, scale or settings: 3 with trainer.max_epochs=5;"
        " 3 with data.source=sample; 1 with as published (runs).",
    )
    found = tables_of(runs, ["cifar/dropout"], {"trainer.max_epochs": 5}, composer)
    assert cells(found, "cifar/dropout") == {"none": [0], "all 0.2": [0], "all 0.3": [0]}


def test_a_run_of_one_batch_is_none_of_all_of_them_and_one_without_a_key_none_with_its_default(
    run_sweep, composer, tmp_path
):
    run_sweep("experiment=cifar/dropout", "seeds=2", only=few(0.0, 0.3))
    run_sweep("experiment=cifar/dropout", "trainer.limit_train_batches=1", "seed=2", only=few(0.0, 0.3))
    run_sweep("task=cifar", "~optimizer.weight_decay", "seed=3")
    found = tables_of(read_runs([tmp_path]), ["cifar/dropout"], composer=composer)
    assert cells(found, "cifar/dropout") == {"none": [0, 1], "all 0.3": [0, 1]}
    assert found[0][1].notes == (
        "Not in this table, of other data, scale or settings: 2 with trainer.limit_train_batches=1 (runs).",
    )


def test_a_run_is_none_of_a_grid_whose_option_adds_a_key(run_sweep, tmp_path):
    folder = tmp_path / "conf"
    shutil.copytree(config_dir(), folder)
    run_sweep("task=cifar", "dropout=0.3", "dropout.where=all")
    (folder / "optimizer/maximize.yaml").write_text("defaults: [sgd, _self_]\nmaximize: true\n")
    path = folder / "experiment/cifar/dropout.yaml"
    found = tables_of(read_runs([tmp_path]), ["cifar/dropout"], composer=Composer(folder))
    assert cells(found, "cifar/dropout") == {"all 0.3": [0]}
    chosen = "  - override /task: cifar\n  - override /optimizer: maximize\n"
    path.write_text(path.read_text().replace("  - override /task: cifar\n", chosen))
    found = tables_of(read_runs([tmp_path]), ["cifar/dropout"], composer=Composer(folder))
    assert cells(found, "cifar/dropout") == {}


def test_runs_on_files_that_were_changed_are_no_part_of_one_table(run_sweep, composer, tmp_path):
    """A sweep trains all runs anew then, beside the old ones, which the table went on showing."""
    old = run_sweep("experiment=cifar/dropout", "seeds=2", only=few(0.0, 0.3), data="0ld" * 20)
    for folder in old:
        os.utime(folder / "result.json", (1e9, 1e9))
    new = run_sweep("experiment=cifar/dropout", "seeds=2", only=few(0.0, 0.3), data="2ew" * 20)
    ((_, assigned),) = tables_of(read_runs([tmp_path]), ["cifar/dropout"], composer=composer)
    assert {Path(run.path) for found in assigned.cells.values() for run in found} == set(new)  # the later ones
    assert assigned.notes == (
        "Trained on other data, in files that have changed, and not in this table: 4 runs"
        " (0ld0ld0l; 2ew2ew2e is shown).",
    )
    assert [note.kind for note in assigned.notes] == ["left out"]
    ((_, assigned),) = tables_of(read_runs([tmp_path]), ["cifar/dropout"], composer=composer, shown=old[:1])
    assert {Path(run.path) for found in assigned.cells.values() for run in found} == set(old)
    (new[0] / "result.json").write_text('{"status": "failed", "reason": "x", "seed": 0}')
    ((_, assigned),) = tables_of(read_runs([tmp_path]), ["cifar/dropout"], composer=composer)
    assert {Path(run.path) for found in assigned.cells.values() for run in found} == set(old)  # more of them finished


def test_runs_that_stand_twice_with_other_figures_are_named(run_sweep, composer, tmp_path):
    """The first by their path were shown without a word, whichever folder was named first."""
    first = run_sweep("experiment=cifar/dropout", only=few(0.0, 0.3), root="cpu")
    second = run_sweep("experiment=cifar/dropout", only=few(0.0, 0.3), root="gpu", accuracy=lambda config: 0.6)
    ((_, assigned),) = tables_of(read_runs([tmp_path / "gpu", tmp_path / "cpu"]), ["cifar/dropout"], composer=composer)
    shown = {Path(run.path) for found in assigned.cells.values() for run in found}
    assert shown == set(first)
    left = ", ".join(path.as_posix() for path in second)
    assert assigned.notes == (f"Trained more than once, with other figures, and shown once; left out: {left}.",)
    for path, other in zip(first, second, strict=True):
        (other / "history.csv").write_bytes((path / "history.csv").read_bytes())
    ((_, assigned),) = tables_of(read_runs([tmp_path]), ["cifar/dropout"], composer=composer)
    assert assigned.notes == ()  # the same figures: it does not matter which


def test_cells_on_sets_of_their_own_are_of_different_data(run_sweep, composer, tmp_path):
    run_sweep("experiment=gland/models", only=lambda config: not config["data"]["flips"], data="one1" * 16)
    run_sweep("experiment=gland/models", only=lambda config: config["data"]["flips"], data="two2" * 16)
    ((table, assigned),) = tables_of(read_runs([tmp_path]), ["gland/models"], composer=composer)
    assert not [note for note in assigned.notes if note.startswith("Trained on other data")]
    assert [len(found) for found in assigned.cells.values()] == [1, 1, 1]
    assert "The runs come from different files of data: one1one1, two2two2." in evaluate(table, assigned).remarks


def test_the_end_of_a_sweep_shows_its_own_scale_by_the_same_rule(run_sweep, composer, tmp_path, capsys):
    run_sweep("experiment=cifar/dropout", only=few(0.0, 0.3))
    quick = ("experiment=cifar/dropout", "data=sample", "trainer.max_epochs=2")
    run_sweep(*quick, "seed=1", only=few(0.0, 0.3))  # of an earlier command
    run_sweep(*quick, only=few(0.0, 0.3, 0.4))
    plan = make_plan([*quick, f"sweep.dir={tmp_path / 'multirun'}"], composer)
    finish(plan, Outcome())
    text = (tmp_path / "multirun/tables/cifar/dropout/report.md").read_text()
    assert "2 with as published (runs)." in text
    main(["report", str(tmp_path / "multirun"), "--where", "trainer.max_epochs=2", "--output", str(tmp_path / "two")])
    report = (tmp_path / "two/cifar/dropout/report.md").read_text()
    assert [line for line in text.splitlines() if line.startswith("|")] == [
        line for line in report.splitlines() if line.startswith("|")
    ]
    found = tables_of(read_runs([tmp_path]), composer=composer, shown=[run.directory for run in plan.runs])
    assert cells(found, "cifar/dropout") == {"none": [0, 1], "all 0.3": [0, 1], "all 0.4": [0]}


def test_what_a_command_set_for_all_runs_is_a_setting_of_its_own(run_sweep, composer, tmp_path):
    run_sweep("experiment=cifar/dropout", "model.width=24", "trainer.max_epochs=3", only=few(0.0, 0.3))
    found = tables_of(read_runs([tmp_path]), composer=composer)
    assert cells(found, "cifar/dropout") == {"none": [0], "all 0.3": [0]}
    assert found[0][1].notes == ("Set for every run beside the experiment: model.width=24.",)
    run_sweep("experiment=cifar/dropout", "trainer.max_epochs=2", only=few(0.0, 0.4))
    found = tables_of(read_runs([tmp_path]), composer=composer)
    assert cells(found, "cifar/dropout") == {"none": [0], "all 0.4": [0]}
    assert "2 with trainer.max_epochs=3 model.width=24" in found[0][1].notes[0]


def test_a_share_of_the_data_that_the_grid_varies_is_no_reduction(run_sweep, composer, tmp_path):
    """E.1 varies the share of the data, and its cosine schedules are as long as the training."""
    quick = ("trainer.max_epochs=3", "model.width=8", "data.size=64")
    run_sweep(
        "experiment=ventricle/schedule",
        *quick,
        only=lambda config: (config["optimizer"]["name"], config["optimizer"]["lr"]) == ("adam", 0.01),
    )
    ((table, assigned),) = tables_of(read_runs([tmp_path]), ["ventricle/schedule"], composer=composer)
    names = [f"adam {scheduler} {share} 0.01" for scheduler in ("cosine", "step") for share in (100, 80, 40)]
    assert [cell for cell, found in assigned.cells.items() if found] == names
    assert assigned.notes == ("Set for every run beside the experiment: model.width=8 data.size=64.",)
    assert {row.scale for row in evaluate(table, assigned).rows if row.runs} == {"3 of 50 epochs"}


def test_the_command_prints_a_line_a_table_and_the_same_bytes_twice(run_sweep, tmp_path, capsys):
    better = {0.0: 0.4, 0.3: 0.5, 0.8: 0.2}
    folders = run_sweep(
        "experiment=cifar/dropout",
        "seeds=2",
        only=few(*better),
        accuracy=lambda config: better[config["dropout"]["p"]],
    )
    (folders[0] / "result.json").write_text("{")
    made = []
    for output in ("one", "two"):
        main(["report", str(tmp_path / "multirun"), "--output", str(tmp_path / output)])
        folder = tmp_path / output
        made.append({p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()})
        output = capsys.readouterr()
        lines = output.out.splitlines()
        assert lines[1] == f"cifar/dropout  5 claims, undecided: cells missing  {folder / 'cifar/dropout/report.md'}"
        assert output.err.startswith(f"broken, left out: {folders[0]}: result.json is no JSON")
    assert {p.name for p in made[0]} >= {"report.md", "report.csv", "report.tex"}
    assert made[0].keys() == made[1].keys()
    assert [str(path) for path in made[0] if made[0][path] != made[1][path]] == []
    text = (tmp_path / "one/cifar/dropout/report.md").read_text()
    assert f"- Broken and left out: {folders[0].as_posix()}: result.json is no JSON" in text


def test_a_task_folder_and_a_run_do_as_well(run_sweep, tmp_path, capsys):
    folders = run_sweep("experiment=cifar/activation")
    for path in (tmp_path / "multirun/cifar", folders[0]):
        main(["report", str(path), "--output", str(tmp_path / "tables")])
        assert capsys.readouterr().out.startswith("cifar/activation  ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: no such folder; accepted: a sweep's folder, a task's, or a run's directory"),
        (["empty"], "empty: no run directory; accepted: folders with run.json in them or below"),
        (["multirun", "--experiment", "cifar/dropuot"], "--experiment cifar/dropuot: no such experiment; accepted: "),
        (["multirun", "--where", "seed"], "--where seed: accepted is KEY=VALUE, e.g. trainer.max_epochs=30"),
        (["multirun", "--where", "seed=[0"], "--where seed=[0: is no YAML ("),
        (["multirun", "--where", "seed=9"], "multirun: none of 2 runs so chosen is of a table in conf/experiment; "),
    ],
)
def test_what_is_refused_is_refused_in_one_line(run_sweep, tmp_path, capsys, monkeypatch, arguments, message):
    run_sweep("experiment=cifar/activation")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(["report", *arguments])
    found = capsys.readouterr().err
    assert found.startswith(message)
    assert found.count("\n") == 1


def test_from_python_tables_are_data_frames_made_without_a_word(run_sweep, tmp_path, capsys):
    folders = run_sweep("experiment=cifar/dropout", only=few(0.0, 0.3))
    last = [float((folder / "history.csv").read_text().split()[-1].rpartition(",")[2]) for folder in folders]
    frames = retable.report(tmp_path / "multirun", experiments=["cifar/dropout"], output=tmp_path / "pages", quiet=True)
    assert capsys.readouterr().out == ""
    assert list(frames) == ["cifar/dropout"]
    means = frames["cifar/dropout"].query("n > 0 and metric == 'val'").set_index("cell")["mean"]
    assert means.to_dict() == pytest.approx({"none": 100 * last[0], "all 0.3": 100 * last[1]})
    assert (tmp_path / "pages/cifar/dropout/report.md").exists()


def test_report_is_a_function_before_and_after_its_package_is_imported(tmp_path):
    code = "import retable; {}\ntry: retable.report('nowhere')\nexcept retable.errors.ConfigError as e: print(e)"
    for more in ("import retable.errors", "import retable.errors, retable.report.runs"):
        command = [sys.executable, "-c", code.format(more)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout.startswith("nowhere: ")
