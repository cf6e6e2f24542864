"""Paired differences and their intervals: by hand, against scipy's own, and where there is none."""

import csv
import io
import math

import numpy as np
import pytest

from retable.report.csv import csv_text
from retable.report.evaluated import evaluate
from retable.report.intervals import ONE_SEED, interval_text, t_interval
from retable.report.markdown import report
from retable.report.verdicts import evaluate_claims

METRICS = {
    "train": {"column": "train/accuracy", "scale": 100, "shown": False},
    "val": {"column": "val/accuracy", "scale": 100, "unit": "%"},
    "epochs": {"column": "val/accuracy", "scale": 100, "reach": 50, "digits": 1},
}
BEATS = {"text": "b beats a", "kind": "greater", "metric": "val", "left": "b", "right": "a"}


def runs_of(make_run, cell, values, **options):
    return [make_run(cell, [0.1, value], seed, **options) for seed, value in enumerate(values)]


def found(table, runs):
    return {(one.label, one.metric): one for one in evaluate(table, runs).differences}


def test_by_hand():
    # mean 2, s = 1, n = 3: 2 ± 4.302652730 / √3
    low, high = t_interval([1, 2, 3])
    assert (low, high) == pytest.approx((2 - 4.302652729911275 / math.sqrt(3), 2 + 4.302652729911275 / math.sqrt(3)))
    assert t_interval([1.0]) is None
    assert t_interval([0.5, 0.5, 0.5]) == (0.5, 0.5)


@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_against_scipys_paired_test(n):
    from scipy.stats import ttest_rel

    random = np.random.default_rng(n)
    left, right = random.normal(60, 2, n), random.normal(59, 1, n)
    theirs = ttest_rel(left, right).confidence_interval(0.95)
    assert t_interval(list(left - right)) == pytest.approx((theirs.low, theirs.high), rel=1e-9)


def test_cells_are_paired_with_the_baseline_by_seed(make_table, make_run, assigned):
    from scipy.stats import ttest_rel

    ours, base = (0.61, 0.64, 0.59, 0.70), (0.60, 0.58, 0.57)  # the baseline has no seed 3
    runs = assigned(*runs_of(make_run, "b", ours), *runs_of(make_run, "a", base))
    one = found(make_table(metrics=METRICS), runs)[("b", "val")]
    theirs = ttest_rel(np.array(ours[:3]) * 100, np.array(base) * 100)
    assert one.seeds == (0, 1, 2)
    assert one.mean == pytest.approx(3)
    assert (one.low, one.high) == pytest.approx(tuple(theirs.confidence_interval(0.95)))


def test_what_is_the_same_in_every_seed_is_no_test(make_table, make_run, assigned):
    """A number of parameters has no spread: no interval of width 0, no p < 0.001, and no part in Holm's correction."""
    metrics = METRICS | {"parameters": {"result": "parameters", "digits": 0}}
    runs = [
        *(run for n, cell in enumerate("ab") for run in runs_of(make_run, cell, (0.5, 0.6 + n / 10), parameters=8 + n)),
        *runs_of(make_run, "c", (0.7, 0.9), parameters=20),
    ]
    one = found(make_table(metrics=metrics), assigned(*runs))
    texts = [interval_text(one[cell, "parameters"], make_table(metrics=metrics).metrics["parameters"]) for cell in "bc"]
    assert texts == ["+1 (the same in 2 seeds)", "+12 (the same in 2 seeds)"]
    assert one["b", "parameters"].holm is None
    # b - a: 0 and 10 points, t = 1, two-sided p with one degree of freedom 1 - 2 atan(1) / pi; of two comparisons
    assert one["b", "val"].p == pytest.approx(0.5)
    # c - a: 20 and 30 points, t = 5, p = 1 - 2 atan(5) / pi
    assert one["c", "val"].p == pytest.approx(1 - 2 * math.atan(5) / math.pi)
    assert one["c", "val"].holm == pytest.approx(2 * one["c", "val"].p)  # of two comparisons, not of four


def test_why_there_is_no_interval(make_table, make_run, assigned):
    table = make_table(metrics=METRICS)
    one = found(table, assigned(make_run("a", [0.1, 0.5]), make_run("b", [0.1, 0.6])))
    assert (one["b", "val"].mean, one["b", "val"].low, one["b", "val"].words) == (pytest.approx(10), None, ONE_SEED)
    assert interval_text(one["b", "val"], table.metrics["val"]) == "+10.00 (one seed: no interval)"
    assert (one["c", "val"].mean, one["c", "val"].words) == (None, "missing")
    disjoint = found(table, assigned(make_run("a", [0.1, 0.5], 0), make_run("b", [0.1, 0.6], 1)))
    assert disjoint["b", "val"].words == "no shared seed"
    failed = found(table, assigned(make_run("a", [0.1], status="failed"), make_run("b", [0.1, 0.6])))
    assert failed["b", "val"].words == "baseline: failed"
    never = found(table, assigned(*runs_of(make_run, "a", (0.4, 0.5)), *runs_of(make_run, "b", (0.6, 0.6))))
    assert never["b", "epochs"].words == f"no figure in 1 of 2 seeds, {ONE_SEED}"
    mixed = assigned(make_run("a", [0.1, 0.5]), make_run("b", [0.1, 0.6], config={"data": {"fraction": 0.1}}))
    assert found(table, mixed)["b", "val"].words == "runs of different scale"
    assert evaluate(make_table(baseline=None), mixed).differences == ()


def test_claims_have_one_where_one_figure_is_set_over_another(make_table, make_run, assigned):
    table = make_table(
        BEATS,
        {"text": "b is best", "kind": "best", "metric": "val", "cell": "b"},
        {"text": "a needs more epochs", "kind": "fewer_epochs", "metric": "epochs", "left": "b", "right": "a"},
        {"text": "over 50", "kind": "greater", "metric": "val", "left": "b", "right": 50},
        {
            "text": "b beats each",
            "kind": "greater",
            "metric": "val",
            "left": "b",
            "each": [{"right": "a"}, {"right": "c"}],
        },
        metrics=METRICS,
    )
    cells = {"a": (0.52, 0.51, 0.56), "b": (0.54, 0.56, 0.57), "c": (0.2, 0.3, 0.4)}
    runs = assigned(*(run for cell, values in cells.items() for run in runs_of(make_run, cell, values)))
    intervals = [verdict.intervals for verdict in evaluate_claims(table, runs)]
    assert [[one.label for one in each] for each in intervals] == [["b - a"], [], ["a - b"], [], ["b - a", "b - c"]]
    differ = np.array(cells["b"]) * 100 - np.array(cells["a"]) * 100
    assert intervals[0][0].mean == pytest.approx(differ.mean())
    assert (intervals[0][0].low, intervals[0][0].high) == pytest.approx(t_interval(list(differ)))
    undecided = assigned(make_run("a", [0.1, 0.5]))
    assert [verdict.intervals for verdict in evaluate_claims(table, undecided)] == [()] * 5


def test_in_markdown_and_csv(make_table, make_run, assigned):
    table = make_table(BEATS, metrics={name: METRICS[name] for name in ("train", "val")})
    runs = assigned(*runs_of(make_run, "a", (0.5, 0.5, 0.5)), *runs_of(make_run, "b", (0.51, 0.52, 0.53)))
    text = report(evaluate(table, runs))
    section = text[text.index("## Differences") : text.index("\n\nPaired over the seeds")]
    assert section.splitlines() == [
        "## Differences from the baseline",
        "",
        "| minus a | val (%) | differs in |",
        "| --- | --- | --- |",
        "| b | +2.00 [-0.48, +4.48] (3) | model.name |",
        "| c | missing | – |",
    ]
    assert "| claim | verdict | difference [95 % interval] | on the published figures |" in text
    assert "50.00 | b - a +2.00 [-0.48, +4.48] (3); differ in model.name | holds |" in text
    lines = {line["cell"]: line for line in csv.DictReader(io.StringIO(csv_text(evaluate(table, runs))))}
    assert float(lines["b"]["baseline_low"]) == pytest.approx(2 - 4.302652729911275 / math.sqrt(3))
    assert (lines["b"]["baseline"], lines["b"]["baseline_n"]) == ("a", "3")
    assert (lines["c"]["baseline_words"], lines["c"]["baseline_difference"]) == ("missing", "")
    assert (lines["a"]["baseline"], lines["a"]["baseline_n"]) == ("", "")
