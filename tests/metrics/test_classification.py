"""Metrics against scikit-learn, and by hand."""

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from retable.metrics.classification import _scattered, accuracy, confusion, per_class

NAMES = [f"class {number}" for number in range(7)]


@pytest.fixture(params=range(3))
def labels(request):
    """Targets and predictions of 7 classes; class 5 is never predicted, class 6 neither predicted nor true."""
    rng = np.random.default_rng(request.param)
    targets = rng.integers(0, 6, 500)
    predictions = np.where(rng.random(500) < 0.5, targets, rng.integers(0, 6, 500))
    return targets, np.where(predictions == 5, 0, predictions)


def matrix(labels):
    return confusion(*map(torch.from_numpy, labels), 7)


def test_confusion_by_hand():
    counted = confusion(torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 1, 0]), 3)
    assert counted.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert counted.dtype == torch.int64


def test_confusion_as_sklearn(labels):
    assert matrix(labels).tolist() == sk.confusion_matrix(*labels, labels=range(7)).tolist()


def test_confusions_of_parts_add_up(labels):
    parts = [confusion(*(torch.from_numpy(part[rows]) for part in labels), 7) for rows in (slice(200), slice(200, 500))]
    assert torch.equal(sum(parts), matrix(labels))


def test_accuracy_as_sklearn(labels):
    assert accuracy(matrix(labels)) == sk.accuracy_score(*labels)


def test_accuracy_of_nothing():
    assert math.isnan(accuracy(torch.zeros(3, 3, dtype=torch.int64)))


def test_figures_by_class_as_sklearn(labels):
    rows = per_class(matrix(labels), NAMES)
    reference = sk.precision_recall_fscore_support(*labels, labels=range(7), zero_division=np.nan)
    counts = sk.multilabel_confusion_matrix(*labels, labels=range(7))
    assert [row["class"] for row in rows] == NAMES
    for row, precision, recall, f1, support, ((_tn, fp), (fn, tp)) in zip(rows, *reference, counts, strict=True):
        assert (row["tp"], row["fp"], row["fn"], row["support"]) == (tp, fp, fn, support)
        for key, expected in (("precision", precision), ("recall", recall), ("f1", f1)):
            assert row[key] == (None if math.isnan(expected) else pytest.approx(expected, rel=1e-15))


def test_figures_that_are_undefined():
    rows = per_class(torch.tensor([[3, 0, 0], [1, 0, 0], [0, 0, 0]]), ["a", "b", "c"])
    assert rows[1] == {
        "class": "b",
        "support": 1,
        "tp": 0,
        "fp": 0,
        "fn": 1,
        "recall": 0.0,
        "precision": None,
        "f1": 0.0,
    }
    assert [rows[2][key] for key in ("recall", "precision", "f1")] == [None, None, None]
    assert rows[0]["precision"] == 0.75


def test_counts_without_a_look_at_the_largest_number_are_the_same():
    cells = torch.randint(9, (1000,), generator=torch.Generator().manual_seed(0))  # none of the last of ten
    assert torch.equal(_scattered(cells, 10), torch.bincount(cells, minlength=10))
    assert _scattered(cells[:0], 3).tolist() == [0, 0, 0]
