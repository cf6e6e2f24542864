"""`retable table new` of this project's own runs: a table's file that its sweep could train again."""

import json
from pathlib import Path

import pytest
import yaml

from retable.cli import main
from retable.config.compose import Composer
from retable.config.identity import run_name
from retable.run.result import write_plan


@pytest.fixture
def swept(tmp_path, monkeypatch):
    """Four runs of two models and two dropouts, and a second seed of each."""
    monkeypatch.chdir(tmp_path)
    composer = Composer()
    for model, base in (("cnn", 0.5), ("fnn", 0.25)):
        for p in (0.0, 0.25):
            for seed in (0, 1):
                asked = ["task=mnist", "data=sample", f"model={model}", f"dropout.p={p}", f"seed={seed}"]
                composition = composer.compose([*asked, "trainer.max_epochs=2"])
                folder = Path("multirun/mnist", f"{model}-{p}-{seed}")
                folder.mkdir(parents=True)
                write_plan(folder, run_name(composition), composition.config, [*asked, "trainer.max_epochs=2"])
                metrics = {"best_by": "val/accuracy", "higher_is_better": True, "final": {}}
                result = {"status": "finished", "config_epochs": 2, "data": {"source": "sample"}, "metrics": metrics}
                (folder / "result.json").write_text(json.dumps(result))
                value = base + p + seed / 8
                (folder / "history.csv").write_text(f"epoch,val/accuracy\n1,0.1\n2,{value}\n")
    return tmp_path


def test_a_table_of_a_sweep_is_drafted_as_an_experiment(swept, capsys):
    main(
        ["table", "new", "multirun", "--rows", "model", "--columns", "p", "--output", "conf/experiment/mnist/own.yaml"]
    )
    assert capsys.readouterr().out == "4 cells of 8 runs: conf/experiment/mnist/own.yaml\n"
    text = Path("conf/experiment/mnist/own.yaml").read_text()
    assert text.startswith("# @package _global_\n# 8 runs of retable, grouped by everything but the seed.\n")
    assert "# Then: retable report multirun --experiment mnist/own\n" in text
    made = yaml.safe_load(text)
    assert made["defaults"] == [{"override /task": "mnist"}]
    assert made["table"]["grid"] == [{"model": ["cnn", "fnn"], "dropout.p": [0.0, 0.25]}]
    assert (made["table"]["rows"], made["table"]["columns"]) == (["model.name"], ["dropout.p"])
    assert made["table"]["published_epochs"] == 2
    assert made["table"]["cells"]["fnn dropout 0.25"] == {"match": {"model.name": "fnn", "dropout.p": 0.25}}
    main(["report", "multirun", "--experiment", "mnist/own"])
    report = Path("multirun/tables/mnist/own/report.md").read_text()
    assert "| fnn | 0.3125 ± 0.0884 (2) | 0.5625 ± 0.0884 (2) |" in report
    assert "| cnn | 0.5625 ± 0.0884 (2) | **0.8125 ± 0.0884** (2) |" in report


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["nothing"],
            "nothing: no such folder; accepted: a sweep's folder, a task's, or a run's directory; with --from",
        ),
        (["multirun", "--name", "a_{lr}"], "--name a_{lr}: accepted: with --from"),
        (["multirun", "--where", "seed=7"], "--where: none of 8 runs is so"),
        (["multirun/mnist/cnn-0.0-0", "multirun/mnist/cnn-0.0-1"], "the runs differ in nothing but the seed; accepted"),
    ],
)
def test_what_no_table_can_be_drafted_of_is_refused_in_a_line(swept, capsys, words, message):
    with pytest.raises(SystemExit) as ended:
        main(["table", "new", *words])
    shown = capsys.readouterr().err.strip()
    assert (ended.value.code, len(shown.splitlines())) == (2, 1)
    assert shown.startswith(message)
