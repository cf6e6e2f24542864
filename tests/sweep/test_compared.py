"""The images on which the first model did worst, drawn by the sweep under it and the best one (report B, figure 28)."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from sklearn.metrics import f1_score

from retable.commands.evaluate import evaluate
from retable.errors import ConfigError
from retable.experiment.shown import Compare
from retable.report.runs import Assigned, Runs
from retable.run.assemble import make_data
from retable.run.compared import draw_worst
from retable.run.execute import execute
from retable.run.restore import load
from retable.sweeps.compared import wanted
from retable.sweeps.session import sweep
from tests.report.conftest import data, make_run, make_table  # noqa: F401
from tests.report.tables import table


def test_the_experiment_asks_for_it():
    assert table("gland/best").compare == (Compare("first_and_best", "gland/models", "fcn", "best", 3),)
    assert "fcn" in table("gland/models").cells


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The first and the best model on sample glands, an epoch each, and a model of hearts."""
    from retable.config.compose import Composer

    composer, folder = Composer(), tmp_path_factory.mktemp("runs")
    common = ("data=sample", "trainer.max_epochs=1", "trainer.device=cpu", "logger=none", f"data.cache={folder}")
    found = []
    for name, *overrides in (
        ("first", "task=gland", "model=fcn_small"),
        ("best", "task=gland", "data.holdout=4", "model.width=4"),
        ("heart", "task=ventricle", "model.width=2", "data.size=32"),
    ):
        execute(composer.compose([*overrides, *common]).config, folder / name)
        found.append(folder / name)
    return found


def test_the_first_models_worst_images_are_drawn(runs, tmp_path, monkeypatch):
    first, best, _ = runs
    shown = []
    monkeypatch.setattr("retable.run.compared.sheet", lambda *given: shown.append(given))
    names = draw_worst(first, best, tmp_path / "a.png", 3, ("fcn", "best"))
    trained = load(first)
    by_image = evaluate(trained, make_data(trained.config).location, "test").by_image
    assert names == list(by_image.sort_values("dice", kind="stable")["image"][:3])
    images, truth, (under_first, under_best), own, notes, *_, headings = shown[0]
    assert (len(images), list(own), headings) == (3, names, ("fcn", "best"))
    for place, note in enumerate(notes):
        dice = [f1_score(truth[place].ravel(), found[place].ravel()) for found in (under_first, under_best)]
        assert note == f"dice {dice[0]:.3f} | {dice[1]:.3f}"


def test_models_of_other_sets_are_refused(runs, tmp_path):
    with pytest.raises(ConfigError, match="images or classes differ"):
        draw_worst(runs[0], runs[2], tmp_path / "a.png", 3, ("a", "b"))


def test_it_is_asked_for_once_both_are_there_and_again_when_one_is_new(make_table, make_run, tmp_path):  # noqa: F811
    parsed = make_table(compare=[{"picture": "both", "experiment": "toy/table", "cell": "a", "beside": "b"}])
    records = [make_run(cell, [0.5], seed=seed) for cell in "ab" for seed in (0, 1)]
    records = [replace(record, path=str(tmp_path / record.name)) for record in records]
    for record in records[:3]:  # b's second seed has kept no checkpoint
        Path(record.path).mkdir()
        (Path(record.path) / "last.ckpt").touch()
        (Path(record.path) / "result.json").touch()
    assigned = Assigned({"a": records[:2], "b": records[2:], "c": []})
    (command,) = wanted(parsed, assigned, Runs((), ()), None)
    picture = Path(records[2].path) / "figures/both.png"
    assert command == {
        "do": "compare",
        "first": records[0].path,
        "second": records[2].path,
        "picture": str(picture),
        "count": 3,
        "names": ["a", "b"],
    }
    picture.parent.mkdir()
    picture.touch()
    assert list(wanted(parsed, assigned, Runs((), ()), None)) == []
    later = picture.stat().st_mtime_ns + 10**9
    os.utime(Path(records[0].path) / "result.json", ns=(later, later))
    assert list(wanted(parsed, assigned, Runs((), ()), None)) == [command]


@pytest.mark.slow
def test_the_sweep_draws_it_into_the_best_runs_figures_and_its_page_shows_it(tmp_path):
    common = ["data=sample", "trainer.max_epochs=1", "trainer.device=cpu", "logger=none", "sweep.workers=1"]
    common += [f"sweep.dir={tmp_path}"]
    sweep(["experiment=gland/models", "data.holdout=0", *common])
    sweep(["experiment=gland/best", "data.holdout=4", *common])
    (drawn,) = tmp_path.glob("gland/*/figures/first_and_best.png")
    best = drawn.parents[1]
    assert json.loads((best / "run.json").read_text())["config"]["early_stop"]["epsilon"] == 0.05
    page = (tmp_path / "tables/gland/best/index.html").read_text()
    section = page[page.index('id="beside"') : page.index('id="pictures"')]
    assert f"{best.name}/figures/first_and_best.png" in section
    before = drawn.stat().st_mtime_ns
    sweep(["experiment=gland/best", "data.holdout=4", *common])
    assert drawn.stat().st_mtime_ns == before
