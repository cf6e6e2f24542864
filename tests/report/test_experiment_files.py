"""Every experiment's file: it parses, says what the report published, and its claims judge the published figures."""

import json
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

from retable.config.compose import Composer
from retable.experiment.grid import expand
from retable.experiment.table import parse_table
from retable.report.index import order
from retable.report.runs import cells_of
from retable.report.verdicts import evaluate_published
from tests.report.tables import FAILS, FOLDER, HOLDS, UNDECIDED, cells_by_run, composed, points, table

ROOT = Path(__file__).parents[2]
# Of every task; those of A1 and B1 are known by heart below, the others in test_segmentation_files.py.
FILES = sorted(FOLDER.glob("*/*.yaml"))
NAMES = [f"{path.parent.name}/{path.stem}" for path in FILES]
A1 = ["blocks", "dropout", "init", "augment", "activation", "optimizer", "best"]
B1 = ["fnn", "cnn", "order", "adam", "blocks", "maps", "activation", "dropout", "batch_norm", "regularisation"]
B1 += ["augment", "best"]
TABLES = [f"cifar/{name}" for name in A1] + [f"mnist/{name}" for name in B1]


def test_there_is_a_file_for_every_table():
    assert set(TABLES) <= set(NAMES)
    sources = [table(name).source for name in TABLES]
    assert sources == [f"A1.{n}" for n in (1, 2, 3, 4, 5, 6, 8)] + [f"B1.{n}" for n in range(1, 13)]


@pytest.mark.parametrize("name", NAMES)
def test_the_file_parses_and_says_its_name_and_command(name):
    text = (FOLDER / f"{name}.yaml").read_text()
    assert table(name).name == name
    assert text.startswith("# @package _global_\n")
    head = text.split("\ndefaults:")[0]
    assert f"python train.py -m experiment={name}" in head
    assert re.search(rf"\b{re.escape(table(name).source)}\b", head)


@pytest.mark.parametrize("name", NAMES)
def test_hydra_passes_the_table_on_unchanged(name):
    found = composed((f"experiment={name}",))[0]["table"]
    assert parse_table(found, name) == table(name)
    assert found == yaml.safe_load((FOLDER / f"{name}.yaml").read_text())["table"]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "cifar/best"])
def test_every_grid_point_is_one_cell(name):
    found = {}
    for point in points(name):
        config, key = composed(point)
        cells = cells_of(table(name), config)
        assert len(cells) == 1, point
        found.setdefault(cells[0], set()).add(key)
    assert set(found) == set(table(name).cells)
    assert {cell: len(runs) for cell, runs in found.items()} == dict.fromkeys(found, 1)


def test_shared_cells_are_one_run():
    runs = cells_by_run(TABLES)
    cells = [cell for found in runs.values() for cell in found]
    assert sum(cell.startswith("cifar") for cell in cells) == 45
    assert sum(any(cell.startswith("cifar") for cell in found) for found in runs.values()) == 41
    shared = [sorted(found) for found in runs.values() if len(found) > 1]
    assert sorted(shared) == [
        ["cifar/activation: relu", "cifar/dropout: all 0.3", "cifar/init: random"],
        ["cifar/blocks: 1-3 relu", "cifar/dropout: none", "cifar/optimizer: sgd 0.001 0.9"],
        [
            *("mnist/activation: relu", "mnist/batch_norm: without"),
            *("mnist/dropout: p 0", "mnist/maps: 32 maps"),
        ],
        ["mnist/adam: adam", "mnist/blocks: 3 blocks", "mnist/maps: 8 maps"],
        ["mnist/adam: sgd", "mnist/cnn: cnn", "mnist/order: activation_pool relu"],
        [
            *("mnist/augment: without", "mnist/batch_norm: batch norm"),
            *("mnist/best: best", "mnist/regularisation: Adam without"),
        ],
        ["mnist/cnn: fnn", "mnist/fnn: fnn"],
    ]


@pytest.mark.parametrize(("task", "tables"), [("cifar", A1), ("mnist", B1)])
def test_best_of_all_runs_includes_every_other_table(task, tables):
    included = [block["include"] for block in table(f"{task}/best").grid if "include" in block]
    assert included == [f"{task}/{name}" for name in tables if name != "best"]


def test_every_run_of_a1_is_one_row_of_its_last_table():
    """With the figure that the run's own table has; the table trains nothing itself."""
    last, rows = table("cifar/best"), {}
    for name in A1[:-1]:
        own = table(f"cifar/{name}")
        for point in points(f"cifar/{name}"):
            config, key = composed(point)
            (row,), (cell,) = cells_of(last, config), cells_of(own, config)
            rows.setdefault(row, set()).add(key)
            if name != "optimizer":  # no table of it was published
                assert last.cells[row].published["val"] == own.cells[cell].published["val"]
    assert len(last.grid) == len(A1) - 1
    assert set(rows) == set(last.cells)
    assert {len(runs) for runs in rows.values()} == {1}
    assert len(rows) == 41
    assert last.ranked == "val"


PUBLISHED = {
    "cifar/blocks": {
        "1 relu": (89.98, 51.9),
        "1 tanh": (77.9, 53.05),
        "1-2 relu": (88.2125, 54.75),
        "1-2 tanh": (55.6, 49.25),
        "1-3 relu": (64.48, 46),
        "1-3 tanh": (41.66, 39.8),
    },
    "cifar/dropout": {
        "none": (64.48, 46),
        **{"conv 0.2": (63.15, 47.15), "fc 0.2": (66.41, 46.6), "all 0.2": (59.825, 51.35)},
        **{"conv 0.3": (56.38, 48.7), "fc 0.3": (71.58, 50.65), "all 0.3": (58.375, 53.05)},
        **{"conv 0.4": (51.9, 48.3), "fc 0.4": (60.16, 44.85), "all 0.4": (45.82, 44.9)},
        **{"conv 0.5": (48.025, 45.55), "fc 0.5": (67.2, 51.8), "all 0.5": (41.81, 41.85)},
        **{"conv 0.8": (30.11, 31.2), "fc 0.8": (49.55, 41.8), "all 0.8": (25.51, 24.1)},
    },
    "cifar/init": {
        **{"random": (58.375, 53.05), "zero": (10.337, 9.9), "constant": (10.3375, 9.9)},
        **{"He conv": (56.83, 51.4), "He fc": (51.66, 49.7), "He both": (50.35, 45.85)},
        **{"Xavier conv": (54.1, 52.15), "Xavier fc": (51.0125, 48.5), "Xavier both": (44.02, 41.3)},
    },
    "cifar/augment": {
        "all augmentation, no dropout": (51.9, 47.3),
        "all augmentation, dropout 0.3": (45.13, 53.15),
        "without the noise copy, dropout 0.3": (48.68, 50.35),
    },
    "cifar/activation": {"relu": (58.375, 53.05), "no activation": (10.15, 10.1)},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_figures_are_those_of_the_report(name):
    found = {c.name: (c.published["train"].value, c.published["val"].value) for c in table(name).cells.values()}
    assert found == PUBLISHED[name]


def test_published_figures_of_the_digits():
    figures = {
        (name, cell.name, metric): published.value
        for name in TABLES[len(A1) :]
        for cell in table(name).cells.values()
        for metric, published in cell.published.items()
        if published.value is not None
    }
    fnn = {("fnn", "test"): 98, ("fnn", "train"): 99.7, ("fnn", "loss_gap"): 0.04, ("fnn", "seconds"): 50}
    cnn = {("cnn", "test"): 99, ("cnn", "train"): 99.8, ("cnn", "gap"): 0.008, ("cnn", "seconds"): 160}
    cnn |= {("cnn", "loss_gap"): 0.03}
    ordered = ("activation_pool relu", "pool_activation relu", "pool_activation tanh")  # the fourth was not trained
    sgd = {("sgd", "test"): 99, ("sgd", "train"): 99.8, ("sgd", "gap"): 0.008, ("sgd", "epochs_to_99"): 5}
    adam = {("adam", "epochs_to_99"): 2, ("adam", "train_loss"): 0.005}
    assert figures == {
        **{("mnist/fnn", *key): value for key, value in fnn.items()},
        **{("mnist/cnn", *key): value for key, value in {**cnn, **fnn}.items()},
        **{("mnist/order", cell, "test"): 99 for cell in ordered},
        **{("mnist/order", cell, "seconds"): 160 for cell in ordered},
        **{("mnist/adam", *key): value for key, value in {**sgd, **adam}.items()},
        ("mnist/batch_norm", "batch norm", "gap"): 0.003,
        ("mnist/augment", "without", "test"): 99,
        ("mnist/augment", "rotated copy", "test"): 96,
        ("mnist/best", "best", "test"): 99.0,
        ("mnist/best", "best", "9_as_5"): 10,
        ("mnist/best", "best", "3_as_5"): 5,
    }


# What each claim is worth on the published figures, by hand; the report contradicts itself in A1.2 (4) and (5).
VERDICTS = {
    "cifar/blocks": [*[HOLDS] * 4, UNDECIDED],
    "cifar/dropout": [HOLDS, HOLDS, HOLDS, FAILS, FAILS],
    "cifar/init": [*[HOLDS] * 4, UNDECIDED],
    "cifar/augment": [HOLDS],
    "cifar/activation": [HOLDS],
    "cifar/optimizer": [UNDECIDED],
    "cifar/best": [UNDECIDED],
    "mnist/fnn": [HOLDS, UNDECIDED, UNDECIDED],
    "mnist/cnn": [HOLDS] * 4,
    "mnist/order": [UNDECIDED] * 3,
    "mnist/adam": [HOLDS],
    "mnist/blocks": [UNDECIDED] * 3,
    "mnist/maps": [UNDECIDED] * 3,
    "mnist/activation": [UNDECIDED],
    "mnist/dropout": [UNDECIDED] * 3,
    "mnist/batch_norm": [UNDECIDED] * 2,
    "mnist/regularisation": [UNDECIDED] * 4,
    "mnist/augment": [HOLDS],
    "mnist/best": [UNDECIDED] * 2,
}


@pytest.mark.parametrize("name", VERDICTS)
def test_claims_on_the_published_figures(name):
    assert [found.verdict for found in evaluate_published(table(name))] == VERDICTS[name]


def test_the_numbers_behind_them():
    numbers = {found.id: found.numbers for name in TABLES for found in evaluate_published(table(name))}
    beside = "1 relu 51.90 < 1 tanh 53.05, 1-2 relu 54.75 > 1-2 tanh 49.25, 1-3 relu 46.00 > 1-3 tanh 39.80"
    assert numbers["A1.1 (1)"] == f"relu 50.88 > tanh 47.37; beside it: {beside}"
    assert numbers["A1.1 (3)"] == "1 relu 38.08 > 1-3 relu 18.48; 1 tanh 24.85 > 1-3 tanh 1.86"
    assert numbers["A1.2 (1)"] == "all 0.3 53.05 > fc 0.5 51.80 (next)"
    assert "none 18.48 < fc 0.3 20.93 (does not hold)" in numbers["A1.2 (4)"]
    assert "fc 0.3 50.65 < fc 0.5 51.80 (does not hold)" in numbers["A1.2 (5)"]
    assert numbers["A1.3 (3)"] == "He 48.98 > Xavier 47.32"
    assert "by 31.4, claimed over 30" in numbers["A1.3 (4)"]
    assert numbers["B1.2 (3)"] == "fnn 0.0170 > cnn 0.0080"
    assert numbers["B1.4 (1)"] == "adam 2.0 < sgd 5.0"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_files_header_says_source_command_and_duration_on_named_hardware(path):
    package, first, duration, *_ = path.read_text().splitlines()
    name = f"{path.parent.name}/{path.stem}"
    assert package == "# @package _global_"
    source, _, command = first.removeprefix("# ").partition(":   ")
    assert command == f"python train.py -m experiment={name}"
    assert source.startswith(table(name).source.partition(",")[0].partition(" ")[0])
    assert re.fullmatch(
        r"#   one seed on two cores of an AMD EPYC: (about [\d.]+ (minutes|hours?|days?)( \d+ minutes)?|weeks)"
        r"(; meant for a GPU)?(, all (\d+ )?runs of \w+)? \((an estimate|by the epochs of benchmarks/results)\)"
        r"(; \d+ measured beside other work \(results/[\w-]+\))?",
        duration,
    )


def stated_minutes(name):
    duration = (FOLDER / f"{name}.yaml").read_text().splitlines()[2]
    hours, minutes = (re.search(rf"(\d+) {unit}", duration) for unit in ("hour", "minute"))
    return (60 * int(hours[1]) if hours else 0) + (int(minutes[1]) if minutes else 0), duration


@pytest.mark.parametrize(
    ("name", "case", "runs", "epochs"),
    [
        ("mnist/order", "B1.2", 4, 20),
        ("mnist/adam", "B1.2", 2, 20),
    ],
)
def test_a_duration_by_the_benchmarks_is_what_these_give(name, case, runs, epochs):
    stated, duration = stated_minutes(name)
    assert "by the epochs of benchmarks/results" in duration
    assert len(expand([f"experiment={name}"], Composer()).points) == runs
    results = ROOT / "benchmarks/results"
    step = json.loads((results / f"step-{case.lower()}-amd-epyc.json").read_text())
    workers = 1.76  # two of them, against one: benchmarks/README.md
    minutes = runs * epochs * step["cases"][case]["epoch_seconds"]["retable"]["median"] / workers / 60
    assert stated == pytest.approx(minutes, rel=0.15)


@pytest.mark.parametrize("name", ["gland/batch", "gland/lr", "gland/best", "gland/models", "cifar/blocks"])
def test_a_measured_duration_is_what_the_gallerys_runs_took(name):
    _, duration = stated_minutes(name)
    minutes, hardware = re.search(r"(\d+) measured beside other work \(results/([\w-]+)\)", duration).groups()
    gallery = ROOT / "results" / hardware
    page, task = (gallery / "tables" / name / "index.html").read_text(), name.partition("/")[0]
    names = set(re.findall(rf'<th scope="row"><a href="[./]*{task}/([^"/]+)/"', page[page.index('id="runs"') :]))
    results = [json.loads((gallery / task / unquote(run) / "result.json").read_text()) for run in names]
    seconds = [result["seconds"]["total"] for result in results if result["seed"] == 0]
    assert len(seconds) == len(expand([f"experiment={name}"], Composer()).points)
    workers = min(2, len(seconds))
    assert int(minutes) == pytest.approx(sum(seconds) / workers / 60, abs=0.5)


def test_every_claim_stands_beside_a_statement_of_its_report():
    """docs/reports/claims.md names each claim of conf/experiment once, and no other."""
    claims = [claim.id for name in NAMES for claim in table(name).claims]
    text = (ROOT / "docs/reports/claims.md").read_text()
    named = re.findall(r"(?:A2, side of the patches|B2\.1 - B2\.3|C\.1, C\.2|[A-E]\d?(?:\.\d+)?) \(\d\)", text)
    assert sorted(named) == sorted(claims)


def test_tables_stand_in_the_order_of_their_numbers():
    sources = list(dict.fromkeys(one.source for one in sorted(map(table, NAMES), key=order)))
    assert sources[:9] == [*(f"A1.{n}" for n in (1, 2, 3, 4, 5, 6, 8)), "A2", "A2, side of the patches"]
    assert [one for one in sources if one[0] in "CD"] == ["C.1, C.2", "C.3", "D1", "D1.2"]
