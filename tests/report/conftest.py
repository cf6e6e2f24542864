"""Small tables and run records, built by hand."""

import copy
import csv
import json

import pytest

from retable.experiment.table import parse_table
from retable.report.runs import Assigned, RunRecord

TABLE = {
    "source": "T1",
    "title": "A toy table",
    "published_epochs": 2,
    "grid": [{"model": ["a", "b", "c"]}],
    "metrics": {
        "train": {"column": "train/accuracy", "scale": 100},
        "val": {"column": "val/accuracy", "scale": 100},
        "loss": {"column": "train/loss", "better": "lower", "digits": 3},
        "gap": {"difference": ["train", "val"], "better": "lower", "shown": False},
        "middle": {"mean": ["train", "val"], "shown": False},
        "epochs": {"column": "val/accuracy", "scale": 100, "reach": 50, "digits": 1},
        "step_time": {"result": "seconds_per_step", "scale": 1000, "better": "lower", "unit": "ms"},
    },
    "baseline": "a",
    "cells": {
        "a": {"match": {"model.name": "a"}, "published": {"train": 60, "val": 50}},
        "b": {"match": {"model.name": "b"}, "published": {"train": 80, "val": 60}},
        "c": {"match": {"model.name": "c"}, "published": {"train": 60, "val": 40}},
    },
}


@pytest.fixture
def data():
    """The toy table as plain data, to be changed freely."""
    return copy.deepcopy(TABLE)


@pytest.fixture
def make_table(data):
    def make(*claims, **changes):
        return parse_table({**data, "claims": list(claims), **changes}, "toy/table")

    return make


@pytest.fixture
def make_run():
    """A run of the toy task; val: validation accuracy an epoch, as shares of 1."""

    def make(cell, val, seed=0, status="finished", train=None, loss=None, config=None, **result):
        history = {
            "epoch": [float(epoch + 1) for epoch in range(len(val))],
            "train/accuracy": list(train if train is not None else [v + 0.1 for v in val]),
            "val/accuracy": list(val),
            "train/loss": list(loss if loss is not None else [1 / (epoch + 1) for epoch in range(len(val))]),
        }
        settings = {
            "model": {"name": cell},
            "seed": seed,
            "trainer": {"max_epochs": max(2, len(val))},
            **(config or {}),
        }
        return RunRecord(
            seed=seed,
            status=status,
            history=history,
            result={"status": status, **result},
            config=settings,
            name=f"model-{cell}__seed-{seed}",
            task="toy",
        )

    return make


@pytest.fixture
def assigned():
    def make(*records, others=()):
        cells = {name: [] for name in TABLE["cells"]}
        for record in records:
            cells[record.config["model"]["name"]].append(record)
        return Assigned(cells, tuple(others))

    return make


@pytest.fixture
def write_run(tmp_path):
    """Writes a record as a run directory, and returns the directory."""

    def write(record, folder=None):
        path = tmp_path / (folder or record.name)
        path.mkdir(parents=True)
        run = {"name": record.name, "task": record.task, "config": record.config}
        (path / "run.json").write_text(json.dumps(run))
        if record.status != "unfinished":
            (path / "result.json").write_text(json.dumps({"seed": record.seed, **record.result}))
        with (path / "history.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(record.history)
            writer.writerows(zip(*record.history.values(), strict=True))
        return path

    return write


@pytest.fixture
def no_charts(monkeypatch):
    """Pages without charts, for what has nothing to do with them: most of a page's time is theirs."""
    monkeypatch.setattr("retable.report.drawing.charts", lambda found: [])
