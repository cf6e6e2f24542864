"""Which columns of somebody's runs are settings: no seed, no figure, nothing that says how far a run has got."""

import re
from pathlib import Path

import pytest
import yaml

from retable.cli import main
from retable.errors import ConfigError, DataError
from retable.report.draft import digits, draft
from retable.report.evaluated import evaluate
from retable.report.foreign import read_foreign, read_table, swept_of, table_of
from retable.report.settings import factors, is_measure
from retable.report.sources import source
from retable.report.sources.base import UNSEEDED, seed_of

SEEDED = "opt,RandomSeed,val_acc\n" + "".join(
    f"{opt},{seed},{acc}\n" for opt, acc in (("a", 0.5), ("b", 0.7)) for seed in (11, 22, 33)
)
FOLDS = SEEDED.replace("RandomSeed", "fold")
EXPORT = """\
"Name","State","Created","Runtime","dropout","lr","seed","_runtime","_step","_timestamp","_wandb.runtime","epoch",\
"trainer/global_step","val/accuracy","num_params"
"brave-1","finished","2026-01-02T10:00:00.000Z","101","0.1","0.01","0","101.2","300","1767348000.1","101","9","2999","0.80","11000"
"brave-2","finished","2026-01-02T10:02:00.000Z","102","0.1","0.01","1","102.3","301","1767348100.1","102","9","2999","0.81","11000"
"calm-1","finished","2026-01-02T10:06:00.000Z","105","0.5","0.01","0","105.2","303","1767348300.1","105","8","2699","0.70","11000"
"calm-2","finished","2026-01-02T10:10:00.000Z","104","0.5","0.01","1","104.4","304","1767348500.1","104","7","2399","0.73","11000"
"""
REWARDS = "method,seed,reward,best_epoch\nppo,0,200,7\nppo,1,210,9\ndqn,0,150,3\ndqn,1,150,4\n"


def csv(folder: Path, text: str) -> str:
    (folder / "runs.csv").write_text(text)
    return str(folder / "runs.csv")


@pytest.mark.parametrize(
    "name", ["Seed", "SEED", "RandomSeed", "random seed", "Random-Seed", "randomState", "rng_seed"]
)
def test_a_seed_is_one_however_it_is_written(name, tmp_path):
    records = read_foreign("csv", [csv(tmp_path, SEEDED.replace("RandomSeed", name))]).records
    assert sorted(record.seed for record in records) == [11, 11, 22, 22, 33, 33]
    assert list(factors(records)) == ["opt"]
    assert list(draft(records)["metrics"]) == ["val_acc"]
    assert seed_of({"seedling": 1, "see": {"d": 2}}) == UNSEEDED


def test_the_setting_that_is_named_the_seed_is_a_setting_no_more(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    csv(tmp_path, FOLDS)
    main(["report", "--from", "csv", "runs.csv", "--seed", "fold", "--output", "pages"])
    text = Path("pages/csv/report.md").read_text()
    assert re.findall(r"^\| (a|b) \|.*\((\d)\) \|$", text, re.MULTILINE) == [("a", "3"), ("b", "3")]
    assert "fold 11" not in text
    assert "`retable report --from csv runs.csv --seed fold --output pages`" in text
    main(["table", "new", "--from", "csv", "runs.csv", "--seed", "fold", "--output", "t.yaml"])
    table = yaml.safe_load(Path("t.yaml").read_text())["table"]
    assert (table["rows"], table["grid"]) == (["opt"], [{"opt": ["a", "b"]}])
    assert "# Then: retable report --from csv runs.csv --seed fold --table t.yaml" in Path("t.yaml").read_text()
    main(["report", "--from", "csv", "runs.csv", "--seed", "fold", "--table", "t.yaml", "--output", "pages"])
    assert "differ in" not in Path("pages/t/report.md").read_text()
    capsys.readouterr()


def test_where_every_run_is_a_cell_a_note_names_what_may_be_the_seed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    csv(tmp_path, FOLDS)
    note = "Every cell has one run. If fold only tells its runs apart: --seed fold makes it the seed."
    main(["report", "--from", "csv", "runs.csv", "--output", "pages"])
    assert note in Path("pages/csv/report.md").read_text()
    capsys.readouterr()
    main(["table", "new", "--from", "csv", "runs.csv", "--output", "t.yaml"])
    assert note in capsys.readouterr().err
    Path("u.yaml").write_text("metrics: {v: {column: val_acc}}\ncells: {a: {match: {opt: a}}, b: {match: {opt: b}}}\n")
    notes = table_of(read_table(Path("u.yaml")), read_foreign("csv", ["runs.csv"])).notes
    assert notes[-1] == (
        "Runs of one cell differ in fold, of which the table does not speak. If it only tells runs apart: --seed fold."
    )
    csv(tmp_path, SEEDED)
    main(["report", "--from", "csv", "runs.csv", "--output", "pages"])
    assert "Every cell" not in Path("pages/csv/report.md").read_text()


def test_an_export_of_wandb_has_no_settings_but_its_own(tmp_path):
    records = read_foreign("csv", [csv(tmp_path, EXPORT)]).records
    assert factors(records) == {"dropout": [0.1, 0.5]}
    table = draft(records)
    assert list(table["cells"]) == ["dropout 0.1", "dropout 0.5"]
    with pytest.raises(DataError, match=r"runs.csv: a CSV file; accepted: an export of W&B with --from csv$"):
        source("wandb").read(str(tmp_path / "runs.csv"))


def test_how_far_runs_got_does_not_confound_them(tmp_path):
    place = csv(
        tmp_path,
        "opt,seed,epoch,global_step,_step,acc\na,0,9,90,9,0.5\na,1,9,90,9,0.6\nb,0,7,70,7,0.7\nb,1,7,70,7,0.8\n",
    )
    (tmp_path / "t.yaml").write_text(
        "metrics: {acc: {column: acc}}\nbaseline: a\ncells: {a: {match: {opt: a}}, b: {match: {opt: b}}}\n"
    )
    table = read_table(tmp_path / "t.yaml")
    assert evaluate(table, table_of(table, read_foreign("csv", [place]))).differences[0].differs == "opt"


def test_targets_of_hydra_are_settings_still(tmp_path):
    for number, name in enumerate("ab"):
        (tmp_path / f"{number}/.hydra").mkdir(parents=True)
        (tmp_path / f"{number}/.hydra/config.yaml").write_text(f"model: {{_target_: {name}}}\n")
        (tmp_path / f"{number}/metrics.csv").write_text("epoch,acc\n1,0.5\n")
    assert factors(read_foreign("hydra", [str(tmp_path)]).records) == {"model._target_": ["a", "b"]}


def test_whole_numbers_that_are_named_as_figures_are_no_settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    csv(tmp_path, REWARDS)
    main(
        [
            "table",
            "new",
            "--from",
            "csv",
            "runs.csv",
            "--metric",
            "reward",
            "--metric",
            "best_epoch",
            "--output",
            "t.yaml",
        ]
    )
    table = yaml.safe_load(Path("t.yaml").read_text())["table"]
    assert (list(table["cells"]), list(table["metrics"])) == (["dqn", "ppo"], ["reward", "best_epoch"])
    main(["report", "--from", "csv", "runs.csv", "--metric", "reward", "--without", "best_epoch", "--output", "pages"])
    text = Path("pages/csv/report.md").read_text()
    assert "| ppo | **205.00 ± 7.07** (2) |" in text
    assert "`retable report --from csv runs.csv --metric reward --without best_epoch --output pages`" in text


def test_figures_of_the_table_are_in_no_check_of_settings(tmp_path):
    """A failed run and its repetition have other rewards, and are one run all the same."""
    text = "method,seed,State,reward\nppo,0,crashed,20\nppo,0,finished,200\nppo,1,finished,210\ndqn,0,finished,150\n"
    (tmp_path / "t.yaml").write_text(
        "metrics: {r: {column: reward}}\ncells: {ppo: {match: {method: ppo}}, dqn: {match: {method: dqn}}}\n"
    )
    assigned = table_of(read_table(tmp_path / "t.yaml"), read_foreign("csv", [csv(tmp_path, text)]))
    assert [len(found) for found in assigned.cells.values()] == [2, 1]
    assert assigned.notes[-1] == "Left out: 1 that did not finish and were repeated with the same settings."
    assert not any("differ in" in note for note in assigned.notes)


def test_a_column_is_left_out(tmp_path):
    place = csv(tmp_path, "opt,seed,gpu,acc\na,0,1,0.5\na,1,2,0.6\nb,0,2,0.7\nb,1,1,0.8\n")
    assert list(factors(read_foreign("csv", [place]).records)) == ["opt", "gpu"]
    records = read_foreign("csv", [place], without=["gpu"]).records
    assert list(factors(records)) == ["opt"]
    assert "gpu" not in records[0].history
    with pytest.raises(ConfigError, match=r"^--without gpus: is in no run; settings: opt, seed, gpu$"):
        read_foreign("csv", [place], without=["gpus"])


@pytest.mark.parametrize("head", ["name", "trial"])
def test_a_row_an_epoch_is_noticed(head, tmp_path):
    rows = [(f"{opt}-{seed}", opt, seed, epoch) for opt in "ab" for seed in (0, 1) for epoch in (1, 2, 3)]
    text = f"{head},opt,seed,epoch,val_acc\n" + "".join(f"{n},{o},{s},{e},0.{e}{s}5\n" for n, o, s, e in rows)
    note = "Rows of {} differ in epoch alone, as in a file with a row an epoch: here each is taken for a run."
    place = csv(tmp_path, text)
    assert note.format(place) in read_foreign("csv", [place]).notes
    # Runs that stopped at different epochs, a row each, are nothing of the kind.
    text = f"{head},opt,seed,epoch,val_acc\n" + "".join(
        f"{n},{o},{s},{s + 5},0.{s}5\n" for n, o, s, e in rows if e == 1
    )
    place = csv(tmp_path, text)
    assert not any("alone" in one for one in read_foreign("csv", [place]).notes)


def test_without_published_figures_no_page_speaks_of_a_publication(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    csv(tmp_path, SEEDED)
    table = (
        "metrics: {v: {column: val_acc}}\nbaseline: a\nclaims: [{text: b is better, kind: greater, metric: v, left: b,"
        " right: a}]\ncells: {a: {match: {opt: a}}, b: {match: {opt: b}}}\n"
    )
    words = r"\bpublished (?:figures|scale|value)|\bpublication|\bregenerated\b"
    for published in ("", ", published: {v: 0.6}"):
        Path("t.yaml").write_text(table.replace("{match: {opt: b}}", f"{{match: {{opt: b}}{published}}}"))
        main(["report", "--from", "csv", "runs.csv", "--table", "t.yaml", "--output", "pages"])
        for page in ("index.html", "t/index.html", "t/report.md", "t/report.tex"):
            text = re.sub(r"<style.*?</style>", "", Path("pages", page).read_text(), flags=re.DOTALL)
            found = set(map(str.lower, re.findall(words, text, re.IGNORECASE)))
            assert bool(found) == bool(published) or page == "t/report.tex", (page, found)
    assert re.search(r"<h1>Regenerated tables</h1>", Path("pages/index.html").read_text())


def test_the_name_of_a_model_is_a_setting_and_that_of_a_run_is_none(tmp_path):
    head = "name,run.name,logger.wandb.id,model.name,seed,val_acc\n"
    place = csv(tmp_path, head + "x,x,1,cnn,0,0.5\ny,x,1,cnn,1,0.6\nz,z,2,vit,0,0.7\nw,z,2,vit,1,0.75\n")
    assert factors(read_foreign("csv", [place]).records) == {"model.name": ["cnn", "vit"]}


def test_a_sweep_of_somebodys_runs_compares_its_scale_with_no_publication(tmp_path):
    from retable.report.foreign import swept_of

    place = csv(tmp_path, "opt,epochs,seed,acc\na,5,0,0.5\nb,9,0,0.6\n")
    remarks = swept_of(read_foreign("csv", [place]), "csv").found.remarks
    (scale,) = [remark for remark in remarks if remark.kind == "scale"]
    assert scale == "Reduced scale: 5 of 9 epochs."  # without claims there is nothing to say of them


@pytest.mark.parametrize(("option", "value"), [("seed", "fold"), ("name", "a{b}"), ("without", "x"), ("metric", "y")])
def test_what_reads_somebodys_runs_is_refused_of_ones_own(option, value, capsys):
    with pytest.raises(SystemExit):
        main(["report", ".", f"--{option}", value])
    assert capsys.readouterr().err == f"--{option} {value}: accepted: with --from; else --experiment NAME\n"


def test_the_latex_says_which_command_made_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    csv(tmp_path, SEEDED)
    Path("t.yaml").write_text("metrics: {v: {column: val_acc}}\ncells: {a: {match: {opt: a}}, b: {match: {opt: b}}}\n")
    main(["report", "--from", "csv", "runs.csv", "--table", "t.yaml", "--output", "pages"])
    command = "retable report --from csv runs.csv --table t.yaml --output pages"
    assert Path("pages/t/report.tex").read_text().startswith(f"% t t: {command}\n")
    assert f"% t t: {command}\n" in Path("pages/t/index.html").read_text()


def test_rows_of_runs_that_stopped_early_are_of_one_scale(tmp_path):
    """What was planned is not in the file: the longest run says it, and a table's own number where no column does."""

    def means(text: str, epochs: int) -> list[tuple[float | None, str]]:
        path = tmp_path / "t.yaml"
        path.write_text(
            f"published_epochs: {epochs}\nmetrics: {{acc: {{column: acc}}}}\n"
            "cells: {a: {match: {opt: a}}, b: {match: {opt: b}}}\n"
        )
        table = read_table(path)
        rows = evaluate(table, table_of(table, read_foreign("csv", [csv(tmp_path, text)]))).rows
        return [(row.entries["acc"].mean, row.scale) for row in rows]

    text = "opt,seed,epoch,acc\na,0,9,0.5\na,1,8,0.75\nb,0,7,1\nb,1,9,2\n"
    assert means(text, 9) == [(0.625, ""), (1.5, "")]
    assert means(text, 18) == [(0.625, "9 of 18 epochs"), (1.5, "9 of 18 epochs")]
    assert means(text.replace("epoch", "epochs"), 9)[0] == (None, "8 of 9 epochs")
    assert means(re.sub(r",\d,(?=\d\.?\d*$)", ",", text.replace("epoch,", ""), flags=re.MULTILINE), 18)[0] == (
        0.625,
        "",
    )


def test_a_number_is_one_setting_with_a_point_and_without(tmp_path):
    """A config's 0 and 0.0 are one weight decay: two cells of it would have each half of the runs."""
    text = "wd,nesterov,seed,acc\n0,True,0,0.5\n0.0,True,1,0.7\n0.5,False,0,0.8\n0.5,False,1,0.9\n"
    records = read_foreign("csv", [csv(tmp_path, text)]).records
    assert factors(records) == {"wd": [0, 0.5], "nesterov": [True, False]}
    rows = swept_of(read_foreign("csv", [csv(tmp_path, text)]), "csv").found.rows
    assert [(row.cell.name, row.entries["acc"].n, round(row.entries["acc"].mean, 9)) for row in rows] == [
        ("wd 0 nesterov True", 2, 0.6),
        ("wd 0.5 nesterov False", 2, 0.85),
    ]


def test_figures_that_no_metric_names_do_not_confound_single_runs(tmp_path):
    """With a run a cell every column differs between cells; one that is a figure by its name is no setting."""
    place = csv(
        tmp_path, "opt,lr,val_acc,train_acc,test_score,train_loss\na,0.1,0.5,0.6,0.4,1.5\nb,0.2,0.7,0.9,0.6,0.5\n"
    )
    (tmp_path / "t.yaml").write_text(
        "metrics: {acc: {column: val_acc}}\nbaseline: a\ncells: {a: {match: {opt: a}}, b: {match: {opt: b}}}\n"
        "claims: [{text: b wins, kind: greater, metric: acc, left: b, right: a}]\n"
    )
    table = read_table(tmp_path / "t.yaml")
    found = evaluate(table, table_of(table, read_foreign("csv", [place])))
    assert found.differences[0].differs == "opt; confounded: lr"
    assert found.verdicts[0].line.endswith("b 0.70 > a 0.50; confounded: the cells differ in lr, too")


@pytest.mark.parametrize(
    "key", ["accumulate_grad_batches", "acceleration", "mapping_layers", "loss_weight", "iou-threshold", "dice_alpha"]
)
def test_a_setting_whose_name_begins_as_a_figures_is_one(key, tmp_path):
    """Taken for a figure, its values would be averaged in one cell, as further seeds."""
    rows = [(weight, seed, 0.1 * weight + 0.01 * seed) for weight in (1, 4) for seed in (0, 1)]
    place = csv(tmp_path, f"{key},seed,val_acc\n" + "".join(f"{w},{seed},{acc:.2f}\n" for w, seed, acc in rows))
    records = read_foreign("csv", [place]).records
    assert factors(records) == {key: [1, 4]}
    assert [row.entries["val_acc"].n for row in swept_of(read_foreign("csv", [place]), "csv").found.rows] == [2, 2]


@pytest.mark.parametrize(
    "column", ["accuracy", "acc1", "mAP50", "map_50", "loss", "f1_score", "IoU", "error-rate", "acc"]
)
def test_a_figure_is_one_by_its_name(column):
    assert is_measure(column, ())


def test_cells_and_figures_of_one_name_are_all_there(tmp_path):
    """`flip crop`, `x` and `flip`, `crop x` read alike, as `val_acc` and `val.acc` do; none is left out for another."""
    head = "aug,post,seed,val_acc,val.acc\n"
    place = csv(tmp_path, f"{head}flip crop,x,0,0.5,0.1\nflip,crop x,0,0.7,0.2\nflip,x,0,0.9,0.3\n")
    rows = swept_of(read_foreign("csv", [place]), "csv", ["val_acc", "val.acc"]).found.rows
    shown = {row.cell.name: [entry.mean for entry in row.entries.values()] for row in rows}
    assert shown == {"flip crop x": [0.7, 0.2], "flip crop x'": [0.5, 0.1], "flip x": [0.9, 0.3]}


@pytest.mark.parametrize(
    ("values", "decimals"),
    [
        ([0.5, 0.71], 4),
        ([0.012], 4),
        ([0.0031, 0.001], 6),
        ([3.1e-10, 1e-10], 13),
        ([71.2], 2),
        ([7e4], 0),
        ([0.0], 4),
        ([], 4),
    ],
)
def test_a_drafts_decimals_show_the_values_however_small(values, decimals):
    """Errors of 3.1e-10 and 1e-10 stood there as 0.0000 ± 0.0000, both of them."""
    assert digits(values) == decimals


@pytest.mark.parametrize("head", ["opt,acc,acc", "opt,acc,acc "])
def test_two_columns_of_one_name_are_refused(head, tmp_path):
    """The last of them stood for both."""
    with pytest.raises(DataError, match=r"runs.csv: two columns are called acc; accepted: a name for each$"):
        read_foreign("csv", [csv(tmp_path, f"{head}\na,0.1,0.5\nb,0.9,0.4\n")])
