"""Runs of a project laid out as lightning-hydra-template's: trained by Lightning under Hydra, unknown to retable.

The project is `lightning_hydra/`. Its figures are read by pandas from the files that Lightning's CSVLogger wrote, its
settings from Hydra's list of overrides, so that nothing here is found in the way in which retable finds it.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import scipy.stats
import yaml

from retable.cli import main

pytestmark = pytest.mark.pages
PROJECT = Path(__file__).parent / "lightning_hydra"
RATES, SEEDS = (0.3, 0.0001), (0, 1, 2)
TABLE = """\
source: Example, table 1
title: Learning rate
published_epochs: 3
rows: [model.optimizer.lr]
metrics:
  val: {column: val/acc, scale: 100, unit: "%"}
  test: {column: test/acc, scale: 100, unit: "%"}
  loss: {column: train/loss, better: lower, digits: 4}
baseline: slow
cells:
  slow: {match: {model.optimizer.lr: 0.0001}, published: {test: 50}}
  fast: {match: {model.optimizer.lr: 0.3}, published: {val: 92.1, test: 90}}
claims:
  - {text: the larger rate learns more, kind: greater, metric: test, left: fast, right: slow}
  - {text: the smaller rate learns more, kind: greater, metric: val, left: slow, right: fast}
  - {text: the larger rate fits best, kind: best, metric: loss, cell: fast}
"""


@pytest.fixture(scope="module")
def multirun(tmp_path_factory):
    """The folder of a multirun of six runs, and their last figures: a row a run, with its rate and its seed."""
    project = shutil.copytree(PROJECT, tmp_path_factory.mktemp("project") / "project")
    rates, seeds = (",".join(map(str, values)) for values in (RATES, SEEDS))
    words = ["-m", f"model.optimizer.lr={rates}", f"seed={seeds}"]
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PROJECT_ROOT")}
    subprocess.run([sys.executable, "src/train.py", *words], cwd=project, env=environment, check=True, timeout=900)
    (folder,) = (project / "logs/train/multiruns").iterdir()
    rows = []
    for number in range(len(RATES) * len(SEEDS)):
        run = folder / str(number)
        row = dict(text.split("=") for text in yaml.safe_load((run / ".hydra/overrides.yaml").read_text()))
        frame = pd.read_csv(run / "csv/version_0/metrics.csv")
        rows.append(row | {name: frame[name].dropna().iloc[-1] for name in ("val/acc", "test/acc", "train/loss")})
    return folder, pd.DataFrame(rows).astype(float)


def test_the_layout_is_the_templates(multirun):
    folder, figures = multirun
    run = folder / "4"
    assert {path.name for path in folder.iterdir()} == {*"012345", "multirun.yaml"}
    for file in (".hydra/config.yaml", ".hydra/hydra.yaml", "csv/version_0/hparams.yaml", "checkpoints/last.ckpt"):
        assert (run / file).is_file(), file
    assert list(run.glob("tensorboard/version_0/events.out.tfevents.*"))
    config = yaml.safe_load((run / ".hydra/config.yaml").read_text())
    assert config["model"]["optimizer"] == {
        "_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.0001, "weight_decay": 0.0
    }  # fmt: skip
    assert config["paths"]["output_dir"] == "${hydra:runtime.output_dir}"
    assert len(figures) == 6


@pytest.mark.parametrize("program", ["hydra", "tensorboard"])
def test_they_become_a_table_with_verdicts(multirun, program, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder, figures = multirun
    Path("table.yaml").write_text(TABLE)
    main(["report", "--from", program, str(folder), "--table", "table.yaml", "--output", "pages"])
    assert "2 of 3 claims hold" in capsys.readouterr().out

    by_rate = figures.groupby("model.optimizer.lr")
    written = pd.read_csv("pages/table/report.csv").set_index(["cell", "metric"])
    for cell, rate in (("fast", 0.3), ("slow", 0.0001)):
        own = by_rate.get_group(rate)
        for metric, column, scale in (("val", "val/acc", 100), ("test", "test/acc", 100), ("loss", "train/loss", 1)):
            line = written.loc[cell, metric]
            assert line["mean"] == pytest.approx(scale * own[column].mean(), abs=2e-4), (cell, metric)
            assert line["std"] == pytest.approx(scale * own[column].std(), abs=2e-4), (cell, metric)
            assert line["n"] == 3
    fast, slow = (by_rate.get_group(rate).set_index("seed") for rate in (0.3, 0.0001))
    assert written.loc["fast", "test"]["difference"] == pytest.approx(100 * fast["test/acc"].mean() - 90, abs=2e-4)
    assert written.loc["slow", "test"]["difference"] == pytest.approx(100 * slow["test/acc"].mean() - 50, abs=2e-4)
    paired = 100 * (fast["test/acc"] - slow["test/acc"])
    low, high = scipy.stats.t.interval(0.95, 2, paired.mean(), scipy.stats.sem(paired))
    line = written.loc["fast", "test"]
    assert [line["baseline_low"], line["baseline_high"]] == pytest.approx([low, high], abs=1e-3)

    # What the verdicts must be, by the figures alone.
    assert fast["test/acc"].mean() > slow["test/acc"].mean()
    assert fast["val/acc"].mean() > slow["val/acc"].mean()
    assert fast["train/loss"].mean() < slow["train/loss"].mean()
    text = Path("pages/table/report.md").read_text()
    verdicts = dict(re.findall(r"\| Example, table 1 \((\d)\) [^|]*\| (holds|does not hold)", text))
    assert verdicts == {"1": "holds", "2": "does not hold", "3": "holds"}
    assert Path("pages/table/index.html").exists()


def test_a_table_is_drafted_from_what_varies(multirun, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder, figures = multirun
    new = ["table", "new", "--from", "hydra", str(folder), "--rows", "lr", "--metric", "test/acc"]
    main([*new, "--output", "t.yaml"])
    assert "2 cells of 6 runs: t.yaml" in capsys.readouterr().out
    table = yaml.safe_load(Path("t.yaml").read_text())["table"]
    assert (table["rows"], table["published_epochs"]) == (["model.optimizer.lr"], 3)
    assert table["metrics"] == {"test_acc": {"column": "test/acc", "digits": 4}}
    assert sorted(cell["match"]["model.optimizer.lr"] for cell in table["cells"].values()) == [0.0001, 0.3]
    main(["report", "--from", "hydra", str(folder), "--table", "t.yaml", "--output", "pages"])
    mean = figures.groupby("model.optimizer.lr")["test/acc"].mean()[0.3]
    assert f"| 0.3 | **{mean:.4f} ± " in Path("pages/t/report.md").read_text()
