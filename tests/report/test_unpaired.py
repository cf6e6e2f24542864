"""Runs without a seed pair with nothing: Welch's interval and p value, as scipy has them, whatever the rows' order."""

import re
from itertools import permutations
from pathlib import Path

import pytest
import scipy.stats

from retable.cli import main
from retable.report.evaluated import evaluate
from retable.report.foreign import read_foreign, read_table, table_of
from retable.report.intervals import interval_text, runs_needed
from retable.report.markdown import report
from retable.report.unpaired import Estimate

A, B = (0.70, 0.72, 0.745), (0.71, 0.731, 0.754)
TABLE = """\
metrics: {v: {column: val_acc, scale: 100}}
baseline: a
cells: {a: {match: {opt: a}}, b: {match: {opt: b}}}
claims: [{text: b is better, kind: greater, metric: v, left: b, right: a}]
"""


def evaluated(path: Path, lines: list[str], table: str = TABLE, head: str = "opt,val_acc"):
    (path / "runs.csv").write_text("\n".join([head, *lines]) + "\n")
    (path / "t.yaml").write_text(table)
    return evaluate(read := read_table(path / "t.yaml"), table_of(read, read_foreign("csv", [str(path / "runs.csv")])))


def lines_of(**cells) -> list[str]:
    return [f"{name},{value}" for name, values in cells.items() for value in values]


@pytest.mark.parametrize("b", [B, (*B, 0.9, 0.95), (0.9, 0.91)], ids=["3 and 3", "3 and 5", "3 and 2"])
def test_interval_and_p_value_are_welchs(b, tmp_path):
    found = evaluated(tmp_path, lines_of(a=A, b=b))
    test = scipy.stats.ttest_ind([100 * v for v in b], [100 * v for v in A], equal_var=False)
    ends = test.confidence_interval(0.95)
    for one in (found.differences[0], found.verdicts[0].intervals[0], found.verdicts[0].resolution.deciding):
        assert one.mean == pytest.approx(100 * (sum(b) / len(b) - sum(A) / 3))
        assert (one.low, one.high, one.p) == pytest.approx((ends.low, ends.high, test.pvalue))
    assert found.verdicts[0].resolution.p == pytest.approx(test.pvalue)
    assert found.verdicts[0].resolution.resolved == (test.pvalue < 0.05)


def test_large_values_with_a_small_difference_have_an_interval_too(tmp_path):
    a, b = ([1e8 + one / 3 for one in values] for values in ((1, 2, 4), (2, 3.5, 4)))
    found = evaluated(tmp_path, lines_of(a=a, b=b))
    test = scipy.stats.ttest_ind(b, a, equal_var=False)
    assert found.verdicts[0].resolution.p == pytest.approx(test.pvalue, rel=1e-4)


def test_the_order_of_rows_changes_nothing(tmp_path):
    pages = {report(evaluated(tmp_path, lines_of(a=A, b=b))) for b in permutations(B)}
    pages.add(report(evaluated(tmp_path, lines_of(a=A, b=B)[::-1])))
    assert len(pages) == 1


def test_a_page_says_that_nothing_was_paired(tmp_path, monkeypatch):
    """By scipy: -8.48 to +10.48 was the paired interval of one order, +0.75 to +1.25 that of another."""
    monkeypatch.chdir(tmp_path)
    found = evaluated(tmp_path, lines_of(a=A, b=B))
    assert interval_text(found.differences[0], found.metrics[0]) == "+1.00 [-4.05, +6.05] (3 and 3 runs)"
    assert found.verdicts[0].line == (
        "holds, not resolved at 3 runs a cell (about 79 runs a cell would decide): b 73.17 > a 72.17"
    )
    main(["report", "--from", "csv", "runs.csv", "--table", "t.yaml", "--output", "pages"])
    page, text = (Path("pages/t", name).read_text() for name in ("index.html", "report.md"))
    for one in (page, text):
        assert "[-4.05, +6.05] (3 and 3 runs)" in one
        assert "Welch" in one
        assert not re.search("paired over the seeds|holds in|over seeds|n seeds|pairs nothing", one, re.IGNORECASE)
    assert "sample standard deviation over 3 runs" in Path("pages/t/report.tex").read_text()
    assert '<td class="text">b</td><td>–</td>' in page  # no seed


def test_runs_without_a_seed_on_one_side_alone_pair_with_nothing(tmp_path):
    lines = [f"a,{seed},{value}" for seed, value in enumerate(A)] + [f"b,,{value}" for value in B]
    found = evaluated(tmp_path, lines, head="opt,seed,val_acc")
    ends = scipy.stats.ttest_ind(B, A, equal_var=False).confidence_interval(0.95)
    assert found.differences[0].low == pytest.approx(100 * ends.low)
    assert found.verdicts[0].seeds == 0


def test_a_run_that_failed_is_counted_and_not_named_by_a_number(tmp_path):
    lines = [f"{cell},finished,{value}" for cell, values in (("a", A), ("b", B)) for value in values]
    found = evaluated(tmp_path, [*lines, "b,crashed,0.1"], head="opt,State,val_acc")
    assert found.verdicts[0].line == "undecided: b: 1 of 4 runs failed"


def test_one_run_has_no_interval_and_resolves_nothing(tmp_path):
    found = evaluated(tmp_path, lines_of(a=A[:1], b=B))
    assert interval_text(found.differences[0], found.metrics[0]) == "+3.17 (a cell of one run: no interval)"
    assert found.verdicts[0].resolution.text == "not resolved at 1 to 3 runs a cell"


def test_a_mean_of_cells_has_the_interval_that_welch_and_satterthwaite_give(tmp_path):
    """The contrast (a + c) / 2 - b: variance and degrees of freedom by their formula, t from scipy."""
    c = (0.60, 0.66, 0.61, 0.63)
    table = TABLE.replace("left: b, right: a", "left: b, right: {mean: [a, c]}").replace(
        "b: {match: {opt: b}}", "b: {match: {opt: b}}, c: {match: {opt: c}}"
    )
    found = evaluated(tmp_path, lines_of(a=A, b=B, c=c), table)
    parts = [w**2 * scipy.stats.tvar([100 * v for v in x]) / len(x) for w, x in ((0.5, A), (1, B), (0.5, c))]
    degrees = sum(parts) ** 2 / sum(part**2 / (n - 1) for part, n in zip(parts, (3, 3, 4), strict=True))
    half = scipy.stats.t.ppf(0.975, degrees) * sum(parts) ** 0.5
    (one,) = found.verdicts[0].intervals
    mean = 100 * (sum(B) / 3 - sum(A) / 6 - sum(c) / 8)
    assert (one.mean, one.low, one.high) == pytest.approx((mean, mean - half, mean + half))
    assert interval_text(one, found.metrics[0]).endswith("(3, 3 and 4 runs)")


def test_what_is_no_mean_of_runs_resolves_nothing(tmp_path):
    """The lowest of two cells that overlap: which it is may change with the runs."""
    table = TABLE.replace("right: a", "right: {lowest: [a, c]}").replace(
        "b: {match: {opt: b}}", "b: {match: {opt: b}}, c: {match: {opt: c}}"
    )
    found = evaluated(tmp_path, lines_of(a=A, b=(0.9, 0.91, 0.92), c=(0.71, 0.73, 0.70)), table)
    assert found.verdicts[0].verdict == "holds"
    assert found.verdicts[0].intervals == ()
    assert not found.verdicts[0].resolution.resolved


def test_one_cell_against_itself_is_tested_within_its_runs(make_table, make_run, assigned):
    """A run's own values belong together, with a seed or without: scipy's t test of one sample."""
    from dataclasses import replace

    rises = [(0.4, 0.5), (0.45, 0.62), (0.3, 0.44)]
    runs = [replace(make_run("a", list(pair), seed=n), seeded=False) for n, pair in enumerate(rises)]
    claim = {"text": "it rises", "kind": "greater", "metric": "val", "left": "a", "right": {"cell": "a", "at": 1}}
    found = evaluate(make_table(claim), assigned(*runs)).verdicts[0]
    test = scipy.stats.ttest_1samp([100 * (last - first) for first, last in rises], 0)
    assert found.resolution.p == pytest.approx(test.pvalue)
    ends = test.confidence_interval(0.95)
    assert (found.intervals[0].low, found.intervals[0].high) == pytest.approx((ends.low, ends.high))


@pytest.mark.parametrize(("effect", "known"), [(1.0, 17), (0.8, 26), (0.5, 64)])
def test_runs_needed_are_those_of_the_t_test_of_two_samples(effect, known):
    """n a group at 5 %, power 80 %: Cohen (1988, table 2.4.1) and G*Power say 17, 26 and 64."""
    assert runs_needed(effect, (1.0, 1.0)) == known


@pytest.mark.parametrize(("n", "p"), [(3, 1 / 20), (4, 1 / 70), (5, 1 / 252)])
def test_without_a_spread_it_is_fishers_exact_test(n, p):
    """All of one cell above all of the other: one of C(2n, n) ways to deal the values out, as Mann and Whitney say."""
    found = Estimate(1.0, (0.0, 0.0), (n, n))
    exact = scipy.stats.mannwhitneyu([2] * n, range(-n, 0), alternative="greater", method="exact").pvalue
    assert found.p_above == pytest.approx(p) == pytest.approx(exact)


def test_equals_in_every_run_name_the_runs_that_would_decide(tmp_path):
    """By Fisher's exact test: 1 / 20 with three runs of each cell, 1 / 70 with four."""
    found = evaluated(tmp_path, lines_of(a=(0.7,) * 3, b=(0.7,) * 3)).verdicts[0]
    assert found.verdict == "does not hold"
    assert found.resolution.more == "about 4 runs a cell would decide"


def test_with_seeds_everything_is_paired_as_before(tmp_path):
    lines = [f"{cell},{seed},{value}" for cell, vs in (("a", A), ("b", B)) for seed, value in enumerate(vs)]
    found = evaluated(tmp_path, lines, head="opt,seed,val_acc")
    test = scipy.stats.ttest_rel(B, A)
    assert found.verdicts[0].resolution.p == pytest.approx(test.pvalue)
    assert (found.verdicts[0].held, found.verdicts[0].seeds) == (3, 3)
    assert "Paired over the seeds" in report(found)
