"""The kinds reach the claims of the reports that have no experiment file yet: each judged on its published figures."""

import pytest

from ablate.report.claims import judge_published
from ablate.report.schema import parse_table


def numbers(text):
    return [float(word) for word in text.split()]


# C, per epoch: IoU and dice of the frozen and of the fine-tuned encoder.
FROZEN_IOU = numbers("""
    0.5185 0.5559 0.5843 0.5774 0.5980 0.6225 0.6214 0.6289 0.6095 0.6252 0.6234 0.6336 0.6136 0.6394 0.6411
    0.6398 0.6363 0.6431 0.6372 0.6295
""")
FROZEN_DICE = numbers("""
    0.6746 0.7073 0.7301 0.7243 0.7423 0.7628 0.7612 0.7669 0.7510 0.7637 0.7623 0.7716 0.7552 0.7759 0.7766
    0.7754 0.7727 0.7786 0.7717 0.7673
""")
TUNED_IOU = numbers("""
    0.5814 0.6553 0.7099 0.7211 0.7419 0.7379 0.7582 0.7691 0.7753 0.7791 0.7865 0.7860 0.7721 0.7903 0.7907
    0.7886 0.7916 0.7970 0.7928 0.7866
""")
TUNED_DICE = numbers("""
    0.7267 0.7856 0.8263 0.8348 0.8495 0.8466 0.8607 0.8683 0.8719 0.8747 0.8795 0.8790 0.8699 0.8815 0.8820
    0.8807 0.8825 0.8861 0.8834 0.8792
""")
# D1, mean IoU before the first epoch and after each.
FCN32 = numbers("""
    0.316749356 0.661428185 0.670798589 0.658773262 0.635150582 0.675304538 0.65913212 0.660272587 0.673351826
    0.662667339 0.673732397 0.670394612 0.676688951 0.677283299 0.674414111 0.665548775 0.673324803 0.673934933
    0.662125066
""")
FCN8 = numbers("""
    0.316749356 0.662014521 0.658925963 0.673922757 0.68321448 0.682177557 0.700641713 0.700251964 0.720603671
    0.727878855 0.735223603 0.723733819 0.751845672 0.747673587 0.769901563 0.763286321 0.77206065 0.770117971
    0.79583449
""")


def table(metrics, cells, claims):
    """A table of cells given as {name: {metric: published}}."""
    return parse_table(
        {
            "name": "other/table",
            "source": "X",
            "title": "x",
            "published_epochs": 20,
            "grid": [{"x": list(range(len(cells)))}],
            "metrics": metrics,
            "cells": {n: {"match": {"x": i}, "published": p} for i, (n, p) in enumerate(cells.items())},
            "claims": [{"text": "x", **claim} for claim in claims],
        }
    )


def verdicts(*args):
    return [found.verdict for found in judge_published(table(*args))]


def test_lesion():
    cells = {
        "frozen": {"iou": {"curve": FROZEN_IOU}, "dice": {"curve": FROZEN_DICE}},
        "tuned": {"iou": {"curve": TUNED_IOU}, "dice": {"curve": TUNED_DICE}},
    }
    pair = {"left": "frozen", "right": "tuned"}
    claims = [
        {"kind": "every_epoch", "metric": "dice", "left": "tuned", "right": "frozen"},
        {"kind": "at_least", "metric": "dice", "of": "tuned", "over": "max", "value": 0.88},
        {"kind": "at_most", "metric": "dice", "of": "frozen", "over": "max", "value": 0.78, "strict": True},
        {
            "kind": "greater",
            "each": [{**pair, "metric": m, "at": n} for m, n in (("iou", 12), ("iou", 13), ("dice", 14))],
        },
        {"kind": "within", "metric": "dice", "by": 0.02, **pair},
    ]
    found = judge_published(table({"iou": {"column": "val/iou"}, "dice": {"column": "val/dice"}}, cells, claims))
    assert [f.verdict for f in found] == ["holds", "holds", "holds", "does not hold", "does not hold"]
    assert "0.1119 apart" in found[4].numbers


def test_fcn():
    cells = {"32s": {"iou": {"curve": FCN32, "first": 0}}, "8s": {"iou": {"curve": FCN8, "first": 0}}}
    late = [[{"cell": cell, "over": "max"}, {"cell": cell, "at": 2}] for cell in cells]
    claims = [
        {"kind": "greater", "metric": "iou", "left": "8s", "right": "32s", "by": 0.05},
        {"kind": "within", "metric": "iou", "left": late[0][0], "right": late[0][1], "by": 0.02, "strict": True},
        {"kind": "greater", "metric": "iou", "left": late[1][0], "right": late[1][1], "by": 0.1},
    ]
    found = judge_published(table({"iou": {"column": "val/iou"}}, cells, claims))
    assert [f.verdict for f in found] == ["holds"] * 3
    assert "0.006485 apart" in found[1].numbers  # published 0.0065
    assert "by 0.1369" in found[2].numbers  # published 0.137


def test_brain():
    val = {"segnet": (0.435, 0.51), "transposed": (0.422, 0.50), "strided": (0.43, 0.518), "skip": (0.55, 0.61)}
    train = {"segnet": 0.78, "transposed": 0.889, "strided": 0.88, "skip": 0.912}
    cells = {name: {"dice": dice, "acc": acc, "train_acc": train[name]} for name, (dice, acc) in val.items()}
    claims = [
        {"kind": "best", "cell": "skip", "each": [{"metric": "dice"}, {"metric": "acc"}]},
        {
            "kind": "greater",
            "left": "strided",
            "each": [
                {"right": "segnet", "metric": "acc"},
                {"right": "transposed", "metric": "acc"},
                {"right": "transposed", "metric": "dice"},
            ],
        },
        {"kind": "within", "metric": "dice", "of": ["segnet", "transposed", "strided"], "by": 0.02},
        {"kind": "at_least", "metric": "loss", "of": "skip", "fall_done": 25, "value": 0.95},
        {
            "kind": "greater",
            "by": 0.2,
            "each": [
                {"left": {"cell": c, "metric": "train_acc"}, "right": {"cell": c, "metric": "acc"}} for c in cells
            ],
        },
    ]
    metrics = {
        "dice": {"column": "val/dice"},
        "acc": {"column": "val/accuracy"},
        "train_acc": {"column": "train/accuracy"},
    }
    metrics["loss"] = {"column": "train/loss", "better": "lower"}
    assert verdicts(metrics, cells, claims) == ["holds", "holds", "holds", "undecided", "holds"]


def test_gland():
    batch = {8: 0.8359, 16: 0.8150, 32: 0.8036, 64: 0.8203, 128: 0.7979}
    rate = {"0.01": 0.8078, "0.001": 0.8230, "0.0001": 0.7132, "0.00001": 0.6411}
    sizes, rates = [f"batch {n}" for n in batch], [f"lr {lr}" for lr in rate]
    cells = dict(zip(sizes + rates, ({"dsc": value} for value in [*batch.values(), *rate.values()]), strict=True))
    claims = [
        {"kind": "best", "metric": "dsc", "cell": "lr 0.001", "of": rates},
        {"kind": "worst", "metric": "dsc", "cell": "lr 0.00001", "of": rates},
        {"kind": "best", "metric": "dsc", "cells": ["batch 8", "batch 64"], "of": sizes},
        {"kind": "at_most", "metric": "stopped", "of": sizes, "value": 0},
        {"kind": "within", "metric": "gap", "left": "batch 64", "right": 0.05, "by": 0.02},
    ]
    metrics = {
        "dsc": {"column": "test/dice"},
        "train": {"column": "train/dice"},
        "gap": {"difference": ["train", "dsc"], "better": "lower"},
        "stopped": {"result": "stopped_early"},
    }
    assert verdicts(metrics, cells, claims) == ["holds", "holds", "holds", "undecided", "undecided"]


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


def test_ventricle():
    losses = {"switching": 0.2426, "dice+BCE+inverse": 0.2527, "dice+BCE": 0.2668, "dice": 0.2761, "focal": 0.3762}
    sgd = {"sgd cosine 100": (0.884, 0.889), "sgd step 40": (0.8878, 0.9045)}
    rates = {"0.01": (0.885, 0.901), "0.001": (0.997, 0.997), "0.0001": (0.994, 0.995)}  # Adam + cosine, 100 %
    cells = {name: {"test": value} for name, value in losses.items()}
    cells |= {name: {"train": t, "val": v} for name, (t, v) in {**sgd, **rates}.items()}
    claims = [
        {"kind": "ordered", "metric": "test", "of": list(losses), "direction": "ascending"},
        {"kind": "at_least", "of": list(sgd), "value": 0.88, "each": [{"metric": "train"}, {"metric": "val"}]},
        {"kind": "best", "cell": "0.001", "of": list(rates), "each": [{"metric": "train"}, {"metric": "val"}]},
        {"kind": "best", "metric": "test", "cell": "switching", "of": list(losses)},
    ]
    metrics = {name: {"result": name, "better": "lower"} for name in ("train", "val", "test")}
    assert verdicts(metrics, cells, claims) == ["holds", "holds", "does not hold", "holds"]


@pytest.mark.parametrize("left", ["grey", "black"])
def test_claims_without_published_figures_are_undecided(left):
    claims = [{"kind": "best", "metric": "dice", "cell": left}]
    assert verdicts({"dice": {"column": "val/dice"}}, {left: {}, "other": {}}, claims) == ["undecided"]
