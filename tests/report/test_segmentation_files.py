"""The tables of reports A2, B2, C, D1 and E: their published figures, and what their claims are worth on them."""

import math
import os
import shlex
import subprocess

import pytest

from retable.experiment.grid import expand
from retable.report.runs import cells_of
from retable.report.verdicts import evaluate_published
from tests.report.tables import FAILS, FOLDER, HOLDS, UNDECIDED, cells_by_run, composed, composer, points, table

# Sources, and what each claim is worth on the published figures, by hand.
TABLES = {
    "brain/models": ("A2", [HOLDS, HOLDS, HOLDS, UNDECIDED, HOLDS]),
    "brain/patch_size": ("A2, side of the patches", [UNDECIDED]),
    "gland/models": ("B2.1 - B2.3", [HOLDS, HOLDS, HOLDS]),
    "gland/batch": ("B2.4", [HOLDS, UNDECIDED, UNDECIDED, UNDECIDED]),
    "gland/lr": ("B2.5", [HOLDS, HOLDS, UNDECIDED, UNDECIDED]),
    "gland/best": ("B2.6", [HOLDS, UNDECIDED, UNDECIDED]),
    "lesion/encoder": ("C.1, C.2", [HOLDS, HOLDS, HOLDS, FAILS, FAILS]),
    "lesion/features": ("C.3", []),
    "fcn/models": ("D1", [HOLDS, HOLDS, HOLDS]),
    "fcn/theory": ("D1.2", [UNDECIDED] * 4),
    "ventricle/schedule": ("E.1", [HOLDS, FAILS, FAILS]),
    "ventricle/loss": ("E.2", [HOLDS, UNDECIDED, HOLDS, UNDECIDED]),
    "ventricle/masks": ("E.3", [UNDECIDED]),
    "ventricle/channels": ("E.4", [UNDECIDED]),
    "ventricle/optimizer": ("E.5", [HOLDS]),
    "ventricle/encoders": ("E.6", []),
    "ventricle/combined": ("E.6", []),
    "ventricle/examples": ("E, examples", []),
}


def test_there_is_a_file_for_every_table():
    folders = ("brain", "gland", "lesion", "fcn", "ventricle")
    assert {f"{folder}/{path.stem}" for folder in folders for path in FOLDER.glob(f"{folder}/*.yaml")} == set(TABLES)


@pytest.mark.parametrize("name", TABLES)
def test_the_source_and_the_claims_on_the_published_figures(name):
    source, verdicts = TABLES[name]
    assert table(name).source == source
    assert [found.verdict for found in evaluate_published(table(name))] == verdicts


def test_the_numbers_behind_them():
    numbers = {found.id: found.numbers for name in TABLES for found in evaluate_published(table(name))}
    assert numbers["A2 (3)"] == "segnet 0.435, transposed 0.422, strided 0.430: 0.013 apart, claimed at most 0.02"
    assert "segnet train_acc 0.780 > segnet val_acc 0.510 (by 0.27, claimed over 0.2)" in numbers["A2 (5)"]
    assert numbers["B2.4 (1)"] == "batch 8 0.8359, batch 64 0.8203 > batch 16 0.8150 (next)"
    assert numbers["C.1, C.2 (3)"] == "frozen max 0.7786 < 0.78"
    assert "0.1119 apart" in numbers["C.1, C.2 (5)"]  # said to be 0.11
    assert "0.006485 apart" in numbers["D1 (2)"]  # said to be 0.0065
    assert "by 0.1369" in numbers["D1 (3)"]  # said to be 0.137
    cosine, step = numbers["E.1 (2)"].split("; "), numbers["E.1 (3)"].split("; ")
    assert ["does not hold" in part for part in cosine] == [True, True, False, False, False, False]
    assert ["does not hold" in part for part in step] == [False, False, False, False, True, True]


def test_shared_cells_are_one_run():
    runs = cells_by_run(TABLES)
    assert sum(map(len, runs.values())) == 104
    assert sorted(sorted(found) for found in runs.values() if len(found) > 1) == [
        ["brain/models: segnet", "brain/patch_size: 16x16"],
        ["gland/batch: batch 64", "gland/lr: lr 0.001"],
        ["lesion/encoder: frozen", "lesion/features: last"],
        [
            *("ventricle/channels: grey", "ventricle/combined: dice", "ventricle/encoders: U-Net"),
            *("ventricle/examples: baseline", "ventricle/loss: dice"),
            *("ventricle/masks: black background", "ventricle/optimizer: Adam"),
        ],
        ["ventricle/combined: switching", "ventricle/examples: switching 0.75", "ventricle/loss: switching 0.75"],
        ["ventricle/examples: SGD", "ventricle/optimizer: SGD"],
    ]


@pytest.mark.parametrize("name", TABLES)
def test_a_grid_trains_as_long_as_published(name):
    for point in points(name):
        config = composed(point)[0]
        (cell,) = cells_of(table(name), config)
        assert config["trainer"]["max_epochs"] == table(name).cells[cell].epochs


def test_the_quick_sweeps_reach_every_cell():
    """What the Makefile adds for SCALE=quick is accepted and leaves the settings alone that tell cells apart."""
    make = ["make", "--no-print-directory", "-n", "-o", "install", "sweep-seg", "SCALE=quick", "VENV=venv"]
    environment = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "ARGS")}
    printed = subprocess.run(
        make, cwd=FOLDER.parents[1], capture_output=True, text=True, check=True, env=environment
    ).stdout
    found = []
    for line in printed.splitlines():
        program, script, many, *arguments = shlex.split(line)
        assert (program, script, many) == ("venv/bin/python", "train.py", "-m")
        grid = expand(arguments, composer(None))
        for overrides, owner in zip(grid.points, grid.owners, strict=True):
            config = composer(None).compose(overrides).config
            assert config["trainer"]["max_epochs"] < table(owner).published_epochs
            found += [(owner, cell) for cell in cells_of(table(owner), config)]
    names = [name for name in TABLES if name != "ventricle/encoders"]  # the encoders are of one size
    assert sorted(found) == sorted((name, cell) for name in names for cell in table(name).cells)


def published(name):
    """Cell -> metric -> the published value, the last one of a curve."""
    return {
        cell.name: {metric: figure.value for metric, figure in cell.published.items()}
        for cell in table(name).cells.values()
    }


# train: dice 1, 2, 3, average, accuracy 1, 2, 3, average; then validation.
BRAIN = {
    "segnet": "0.80 0.765 0.785 0.783 0.91 0.71 0.727 0.78  0.21 0.538 0.576 0.435 0.821 0.42 0.64 0.51",
    "transposed": "0.887 0.887 0.892 0.892 0.89 0.90 0.87 0.889  0.20 0.50 0.57 0.422 0.77 0.40 0.63 0.50",
    "strided": "0.883 0.881 0.882 0.882 0.88 0.87 0.88 0.88  0.202 0.51 0.58 0.43 0.735 0.41 0.66 0.518",
    "skip": "0.91 0.93 0.92 0.92 0.90 0.92 0.89 0.912  0.4 0.58 0.66 0.55 0.805 0.49 0.85 0.61",
}


def test_figures_of_the_brain():
    columns = [
        f"{split}_{figure}{label}"
        for split in ("train", "val")
        for figure in ("dice", "acc")
        for label in ("_CSF", "_GM", "_WM", "")
    ]
    assert published("brain/models") == {
        name: dict(zip(columns, map(float, line.split()), strict=True)) for name, line in BRAIN.items()
    }
    sources = {name: metric.column for name, metric in table("brain/models").metrics.items()}
    assert (sources["val_acc_GM"], sources["train_dice"]) == ("val/accuracy/GM", "train/dice")
    assert set(columns) == {name for name, metric in table("brain/models").metrics.items() if metric.shown}


def test_figures_of_the_glands():
    assert published("gland/models") == {
        "fcn": {"test": 0.70, "parameters": 8634},
        "fcn2": {"test": 0.80, "gap": 0.05, "parameters": 11698},
        "fcn2 + flips": {"test": 0.82},
    }
    batch = {8: 0.8359, 16: 0.8150, 32: 0.8036, 64: 0.8203, 128: 0.7979}
    assert published("gland/batch") == {f"batch {size}": {"test": dsc} for size, dsc in batch.items()}
    rate = {"0.01": 0.8078, "0.001": 0.8230, "0.0001": 0.7132, "0.00001": 0.6411}
    assert published("gland/lr") == {f"lr {lr}": {"test": dsc} for lr, dsc in rate.items()}
    assert published("gland/best") == {"best": {"test": 0.83}}
    for name, epsilon in (("batch", 0.03), ("lr", 0.03), ("best", 0.05)):
        config = composed(next(points(f"gland/{name}")))[0]
        assert (config["early_stop"]["epsilon"], config["early_stop"]["apply"]) == (epsilon, False)
        columns = {metric.result for metric in table(f"gland/{name}").metrics.values()}
        assert columns >= {"early_stop.change", "early_stop.gap"}
    assert (config["data"]["holdout"], config["data"]["flips"], config["data"]["batch_size"]) == (60, True, 64)


def test_curves_of_the_lesions():
    for cell, ends in {
        "frozen": {"iou": (0.5185, 0.6295), "soft_dice": (0.6746, 0.7673), "train_loss": (0.3819, 0.1849)},
        "fine-tuned": {"iou": (0.5814, 0.7866), "soft_dice": (0.7267, 0.8792), "train_loss": (0.3715, 0.0843)},
    }.items():
        curves = {metric: figure.curve for metric, figure in table("lesion/encoder").cells[cell].published.items()}
        assert {metric: list(curve) for metric, curve in curves.items()} == {
            metric: list(range(1, 21)) for metric in curves
        }
        assert {metric: (curves[metric][1], curves[metric][20]) for metric in ends} == ends
        # In all rows the validation loss is 1 - dice; the IoU, averaged over images too, is near dice / (2 - dice).
        assert all(math.isclose(curves["val_loss"][n], 1 - curves["soft_dice"][n], abs_tol=1e-9) for n in range(1, 21))
        assert all(
            0 < curves["iou"][n] - curves["soft_dice"][n] / (2 - curves["soft_dice"][n]) < 0.02 for n in range(1, 21)
        )


def test_curves_of_the_fcns():
    cells = table("fcn/models").cells
    curves = {name: cell.published["iou"].curve for name, cell in cells.items()}
    assert [list(curve) for curve in curves.values()] == [list(range(19))] * 2
    assert {curve[0] for curve in curves.values()} == {0.316749356}
    assert (curves["FCN-32s"][13], curves["FCN-32s"][18]) == (0.677283299, 0.662125066)
    assert (curves["FCN-8s"][2], curves["FCN-8s"][18]) == (0.658925963, 0.79583449)
    assert sum(curves["FCN-32s"].values()) == pytest.approx(12.321075331, abs=1e-9)
    assert sum(curves["FCN-8s"].values()) == pytest.approx(13.356058513, abs=1e-9)


# E.1, by row: train and validation at lr 0.01, 0.001, 0.0001.
SCHEDULE = {
    "adam cosine 100": "0.885 0.901  0.997 0.997  0.994 0.995",
    "adam cosine 80": "1.00 1.00  0.702 0.718  0.615 0.632",
    "adam cosine 40": "0.885 0.901  0.665 0.668  0.712 0.710",
    "adam step 100": "1.0 1.0  1.0 1.0  0.58 0.61",
    "adam step 80": "0.9988 30.6  0.9996 30.25  0.9996 9.35",
    "adam step 40": "0.88 0.90  0.99 0.99  0.76 0.71",
    "sgd cosine 100": "0.884 0.889  0.890 0.895  0.889 0.894",
    "sgd cosine 70": "0.8910 0.8910  0.8945 0.8950  0.8940 0.8940",
    "sgd cosine 40": "0.8845 0.89300  0.8870 0.89475  0.8845 0.89450",
    "sgd step 100": "0.8894 0.8938  0.8902 0.8948  0.8896 0.8941",
    "sgd step 70": "0.8925 0.9038  0.8934 0.9050  0.8933 0.9048",
    "sgd step 40": "0.8875 0.9044  0.8879 0.9048  0.8878 0.9045",
}


def test_figures_of_the_ventricles():
    expected = {}
    for row, line in SCHEDULE.items():
        figures = [float(word) for word in line.split()]
        for number, lr in enumerate(("0.01", "0.001", "0.0001")):
            expected[f"{row} {lr}"] = dict(zip(("train", "val"), figures[2 * number : 2 * number + 2], strict=True))
    assert published("ventricle/schedule") == expected
    for name, cell in table("ventricle/schedule").cells.items():
        match = cell.match
        share = round(100 * match["data.fraction"])
        assert name == f"{match['optimizer.name']} {match['scheduler.name']} {share} {match['optimizer.lr']}"
        assert cell.fraction == match["data.fraction"]
    losses = {"dice": 0.2761, "dice + BCE": 0.2668, "dice + BCE + inverse dice": 0.2527, "focal": 0.3762}
    losses |= {"switching 0.75": 0.2426}
    found = published("ventricle/loss")
    assert {name: figures["test_loss"] for name, figures in found.items() if figures} == losses
    assert [name for name, figures in found.items() if not figures] == ["switching 0.25", "switching 0.5"]
    ranges = {name: cell.published["test"] for name, cell in table("ventricle/optimizer").cells.items()}
    assert {name: (r.low, r.high) for name, r in ranges.items()} == {"Adam": (70, 75), "SGD": (10, 11)}


def test_the_settings_of_the_ventricles():
    sgd = composed(next(point for point in points("ventricle/schedule") if "optimizer=sgd" in point))[0]
    assert (sgd["optimizer"]["momentum"], sgd["scheduler"]["T_max"], sgd["loss"]["name"]) == (0.9, 50, "dice")
    configs = [composed(point)[0] for point in points("ventricle/loss")]
    assert {(c["optimizer"]["name"], c["optimizer"]["lr"], c["data"]["batch_size"]) for c in configs} == {
        ("adam", 0.0005, 16)
    }
    assert [c["loss"]["lam"] for c in configs if c["loss"]["name"] == "switching"] == [0.25, 0.5, 0.75]
