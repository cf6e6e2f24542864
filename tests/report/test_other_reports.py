"""The kinds reach the claims of report A3, which has no experiment file yet: judged on its published figures."""

from retable.experiment.table import parse_table
from retable.report.verdicts import evaluate_published


def table(metrics, cells, claims):
    """A table of cells given as {name: {metric: published}}."""
    return parse_table(
        {
            "source": "X",
            "title": "x",
            "published_epochs": 20,
            "grid": [{"x": list(range(len(cells)))}],
            "metrics": metrics,
            "cells": {n: {"match": {"x": i}, "published": p} for i, (n, p) in enumerate(cells.items())},
            "claims": [{"text": "x", **claim} for claim in claims],
        },
        "other/table",
    )


def verdicts(*args):
    return [found.verdict for found in evaluate_published(table(*args))]


def test_wildlife():
    before = [0.231, 0.22, 0.24, 0.34, 0.35, 0.35, 0.421, 0.347]
    after = [1.0, 0.951, 0.968, 0.99, 1.0, 1.0, 1.0, 0.971]
    metrics = {f"ap_{i}": {"result": f"metrics.final.ap/{i}"} for i in range(8)}
    metrics |= {"iou": {"column": "val/iou"}, "reg": {"column": "train/reg"}, "cls": {"column": "train/cls"}}
    cells = {
        "frozen": {f"ap_{i}": v for i, v in enumerate(before)},
        "tuned": {f"ap_{i}": v for i, v in enumerate(after)},
    }
    cells["tuned"]["iou"] = 0.931
    claims = [
        {"kind": "greater", "left": "tuned", "right": "frozen", "each": [{"metric": f"ap_{i}"} for i in range(8)]},
        {"kind": "falls", "metric": "reg", "of": ["tuned"], "window": 10},
        {
            "kind": "every_epoch",
            "left": {"cell": "tuned", "metric": "reg"},
            "right": {"cell": "tuned", "metric": "cls"},
        },
        {"kind": "at_least", "metric": "iou", "of": "tuned", "value": 0.9},
    ]
    assert verdicts(metrics, cells, claims) == ["holds", "undecided", "undecided", "holds"]
