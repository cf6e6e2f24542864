"""How sure a verdict is: against scipy's and hand-computed values, for every kind of claim."""

from dataclasses import replace

import numpy as np
import pytest

from retable.experiment.statement import KINDS
from retable.report.evaluated import evaluate
from retable.report.headline import claims_line
from retable.report.intervals import holm, lower_p, seeds_needed, two_sided_p
from retable.report.markdown import report
from retable.report.verdicts import evaluate_claims

BEATS = {"text": "b beats a", "kind": "greater", "metric": "val", "left": "b", "right": "a"}


@pytest.fixture
def runs_of(make_run, assigned):
    """Runs of cells by their last validation accuracy in each seed (in percent), after a first epoch of half of it."""

    def make(**cells):
        return assigned(
            *(make_run(c, [v / 200, v / 100], seed) for c, values in cells.items() for seed, v in enumerate(values))
        )

    return make


def test_p_values_against_scipy():
    from scipy.stats import ttest_1samp

    values = list(np.random.default_rng(3).normal(0.5, 1, 6))
    assert two_sided_p(values) == pytest.approx(ttest_1samp(values, 0).pvalue)
    assert lower_p(values) == pytest.approx(ttest_1samp(values, 0, alternative="less").pvalue)
    assert (two_sided_p([1, 1, 1]), two_sided_p([0, 0]), two_sided_p([2])) == (0.25, 1, None)  # 2 / 2^3


def test_holm_by_hand():
    # Sorted: 0.005 x 4, 0.011 x 3, 0.02 x 2, 0.04 x 1, each at least the one before.
    assert holm([0.04, 0.005, 0.02, 0.011]) == pytest.approx([0.04, 0.02, 0.04, 0.033])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(("effect", "known"), [(0.5, 34), (0.8, 15), (1.0, 10), (2.0, 5)])
def test_seeds_needed_are_those_of_the_paired_t_test(effect, known):
    """n of a paired t test at 5 %, power 80 %: Cohen (1988) and G*Power say 34, 15, 10 and 5 (4.2 for d = 2)."""
    assert abs(seeds_needed(effect, 1.0) - known) <= 1
    assert seeds_needed(effect * 7, 7.0) == seeds_needed(-effect, 1.0) == seeds_needed(effect, 1.0)


def test_no_number_of_seeds_would_do():
    assert seeds_needed(0.0, 1.0) is None
    assert seeds_needed(0.01, 1.0) is None
    assert seeds_needed(1.0, 0.0) == 6  # 1 / 2^6 < 0.025 < 1 / 2^5


def test_one_seed_is_never_resolved_and_names_no_number(make_table, runs_of):
    (found,) = evaluate_claims(make_table(BEATS), runs_of(a=[50], b=[60]))
    assert (found.resolution.resolved, found.resolution.n, found.resolution.needed) == (False, 1, None)
    assert found.line == "holds, not resolved at 1 seed: b 60.00 > a 50.00"


def test_the_number_of_parameters_needs_one_seed(make_table, make_run, assigned, data):
    data["metrics"]["parameters"] = {"result": "parameters", "digits": 0, "better": "lower"}
    claim = {"text": "a is smaller", "kind": "best", "metric": "parameters", "cell": "a", "of": ["a", "b"]}
    runs = assigned(make_run("a", [0.1, 0.5], parameters=7), make_run("b", [0.1, 0.5], parameters=8))
    (found,) = evaluate_claims(make_table(claim), runs)
    assert found.line == "holds, resolved at 1 seed: a 7 < b 8 (next)"


def test_both_ways_resolved(make_table, runs_of):
    runs = runs_of(a=[50, 51, 49], b=[60, 61.5, 59.5])
    won, lost = evaluate_claims(make_table(BEATS, {**BEATS, "left": "a", "right": "b"}), runs)
    assert won.line == "holds, resolved at 3 seeds: b 60.33 > a 50.00"
    assert lost.line == "does not hold, resolved at 3 seeds: a 50.00 < b 60.33"
    # Differences 10, 10.5, 10.5: t = 10.333 / (0.28868 / sqrt 3) = 62, p = 0.00026 with 2 degrees of freedom.
    assert lost.resolution.p == pytest.approx(won.resolution.p)
    assert won.resolution.p == pytest.approx(0.00026, abs=1e-5)
    assert won.resolution.holm == pytest.approx(2 * won.resolution.p)


def test_small_values_are_not_equals(make_table, runs_of):
    """Errors of a solver, 3e-10 against 1e-10 in eight seeds: three times as large is larger."""
    runs = runs_of(a=[1.0e-10 + n * 1e-12 for n in range(8)], b=[3.0e-10 + n * n * 1e-12 for n in range(8)])
    (found,) = evaluate_claims(make_table(BEATS), runs)
    assert found.line.startswith("holds, resolved")


def test_the_number_of_comparisons_corrects_what_does_not_hold_alone(make_table, runs_of):
    """b is below a: one-sided p is 0.0215, below 0.025 by itself, above it as the worse of two."""
    from scipy.stats import ttest_1samp

    a, b, c = [50, 50, 50], [46, 47.3, 45.1], [40, 40.4, 40.2]
    alone = ttest_1samp(np.array(b) - np.array(a), 0, alternative="less").pvalue
    assert 0.0125 < alone < 0.025
    pair, all_three = evaluate_claims(
        make_table({**BEATS}, {"text": "x", "kind": "best", "metric": "val", "cell": "b"}), runs_of(a=a, b=b, c=c)
    )
    assert (pair.verdict, pair.resolution.resolved) == ("does not hold", True)
    assert pair.resolution.p == pytest.approx(2 * alone)
    assert (all_three.verdict, all_three.resolution.resolved) == ("does not hold", False)
    assert all_three.resolution.p == pytest.approx(4 * alone)
    # s / d is 1.106 / 3.867, by which three seeds would do for one comparison; but there are three.
    assert all_three.resolution.more == "about 4 would decide"


def test_best_is_resolved_by_its_least_sure_rival(make_table, runs_of):
    best = {"text": "b is best", "kind": "best", "metric": "val", "cell": "b"}
    values = {"a": [58, 60.5, 59], "b": [60, 61, 60.5], "c": [40, 41, 40]}
    table = make_table(best)
    (found,) = evaluate_claims(table, runs_of(**values))
    assert (found.verdict, found.resolution.resolved) == ("holds", False)
    assert found.resolution.deciding.label == "b - a"
    # Differences 2, 0.5, 1.5: mean 1.3333, s 0.76376; (t + t)^2 (s/d)^2 is 5.03 for n = 5, 4.47 for n = 6: 6 seeds
    assert found.resolution.needed == seeds_needed(4 / 3, 0.7637626158)
    assert found.evidence(table.metrics) == ["least sure: b - a +1.33 [-0.56, +3.23] (3)", "differ in model.name"]


ALL = {
    "best": {"cell": "b"},
    "best_in": {"cells": ["a", "b"]},
    "worst": {"cell": "c"},
    "greater": {"left": "b", "right": "a", "by": 5},
    "within": {"left": "a", "right": "b", "by": 15},
    "at_least": {"of": ["a", "b"], "value": 40},
    "at_most": {"of": "c", "value": 45},
    "at_chance": {"of": "c", "value": 40, "by": 5},
    "ordered": {"of": ["c", "a", "b"], "direction": "ascending"},
    "fewer_epochs": {"left": "b", "right": "a", "metric": "epochs"},
    "falls": {"from": "b", "to": "c"},
    "every_epoch": {"left": "b", "right": "a"},
}


def test_every_kind_has_a_case():
    assert set(ALL) == set(KINDS)


@pytest.mark.parametrize("kind", sorted(set(ALL) - {"fewer_epochs"}))  # whose threshold is its metric's
def test_a_kind_with_a_threshold_says_so(make_table, make_run, assigned, kind):
    """Where all values rise or fall together a comparison stays what it was; a threshold's verdict changes."""
    claim = {"text": "x", "kind": kind, "metric": "val", **{"value": 40, "by": 5} | ALL[kind]}
    claim = {key: value for key, value in claim.items() if key in {"text", "kind", "metric", *KINDS[kind].keys()}}
    levels = {"a": (0.3, 0.45, 0.50), "b": (0.45, 0.58, 0.60), "c": (0.1, 0.2, 0.40)}
    verdicts = set()
    for shift in (-0.3, 0, 0.3):
        runs = [make_run(cell, [value + shift for value in values], 0) for cell, values in levels.items()]
        verdicts |= {found.verdict for found in evaluate_claims(make_table(claim), assigned(*runs))}
    assert (len(verdicts) > 1) == KINDS[kind].absolute


@pytest.mark.parametrize("kind", ALL)
def test_what_is_far_apart_is_resolved_for_every_kind(make_table, make_run, assigned, kind):
    """By more than ten times the spread, in two seeds and three; but for one seed."""
    claim = {"text": "x", "kind": kind, "metric": "val", **ALL[kind]}
    levels = {"a": (0.3, 0.45, 0.50), "b": (0.45, 0.58, 0.60), "c": (0.1, 0.2, 0.40)}
    if kind == "fewer_epochs":  # b reaches 50 % at 2, a at 3, in every seed
        levels |= {"a": (0.3, 0.4, 0.55)}

    noise = {"a": (0, 1, 2), "b": (1, 0, 3), "c": (2, 2, 1)}

    def runs(seeds):
        if kind == "fewer_epochs":  # whole numbers: 2 and 3 in every seed, as by chance in half of all pairs of seeds
            return assigned(*(make_run(c, vs, s) for c, vs in levels.items() for s in range(2 * seeds)))
        found = [(c, vs, s, noise[c][s] / 1000) for c, vs in levels.items() for s in range(seeds)]
        return assigned(*(make_run(c, [v + own for v in vs], s) for c, vs, s, own in found))

    (found,) = evaluate_claims(make_table(claim), runs(3))
    assert (found.verdict, found.resolution.resolved) == ("holds", True)
    assert found.resolution.n == (6 if kind == "fewer_epochs" else 3)
    (found,) = evaluate_claims(make_table(claim), runs(1))
    assert (found.verdict, found.resolution.resolved) == ("holds", False)


@pytest.mark.parametrize("kind", ALL)
def test_noise_resolves_nothing(make_table, make_run, assigned, kind):
    """The three cells trade places from seed to seed."""
    claim = {"text": "x", "kind": kind, "metric": "val", **ALL[kind]}
    if kind in ("at_least", "at_most", "at_chance", "within", "greater"):
        claim |= {"value": 50} if kind.startswith("at_") else {"by": 0 if kind == "greater" else 0.5}
        claim |= {"by": 0.5} if kind == "at_chance" else {}
    noise = {"a": (0, 3, -2), "b": (2, -3, 1), "c": (-2, 1, 1)}
    runs = assigned(
        *(make_run(c, [0.4 + v / 50, 0.5 + v / 50], s) for c, values in noise.items() for s, v in enumerate(values))
    )
    (found,) = evaluate_claims(make_table(claim), runs)
    assert found.resolution is None or not found.resolution.resolved


def test_falls_over_windows_and_relative_shares(make_table, make_run, assigned):
    falls = {"text": "x", "kind": "falls", "metric": "loss", "of": ["a"], "window": 2}
    share = {"text": "x", "kind": "within", "metric": "val", "left": "a", "right": "b", "by": 0.1, "relative": True}
    runs = assigned(
        *(make_run("a", [0.1] * 3 + [0.5], s, loss=[3 + s / 10, 1, 1.5, 1]) for s in range(3)),
        *(make_run("b", [0.1] * 3 + [0.52 + s / 1000], s) for s in range(3)),
    )
    found = evaluate_claims(make_table(falls, share), runs)
    assert [one.verdict for one in found] == ["holds", "holds"]
    assert [one.resolution.resolved for one in found] == [True, True]
    # 10 % of 52.1 is 5.21, the difference 2.1: the margin of the nearer side is 3.11 on average.
    assert found[1].resolution.deciding.mean == pytest.approx(5.21 - 2.1)


def test_what_is_the_same_in_every_seed_is_resolved_by_the_sign_test(make_table, runs_of):
    """Two seeds that both stop after 20 epochs do not say that every seed would: 1 / 2^n is below 0.025 from 6 on."""
    for seeds, b in [(2, 0), (5, 0), (6, 0), (2, -1), (5, -1), (6, -1)]:  # ties, and losses
        a = [50 + seed for seed in range(seeds)]
        (found,) = evaluate_claims(make_table(BEATS), runs_of(a=a, b=[value + b for value in a]))
        assert (found.verdict, found.resolution.resolved) == ("does not hold", seeds == 6)
        assert found.resolution.needed == (None if seeds == 6 else 6)


@pytest.mark.parametrize(
    "keys",
    [
        {"kind": "at_least", "of": ["a", "b"], "value": 50},
        {"kind": "at_most", "of": ["a", "c"], "value": 50},
        {"kind": "within", "of": ["a", "b"], "by": 0.15},
        {"kind": "at_chance", "of": ["a", "b"], "value": 49.9, "by": 0.1},
    ],
)
@pytest.mark.parametrize("seeded", [True, False])
def test_equals_that_are_enough_do_not_resolve_that_a_claim_fails(make_table, runs_of, keys, seeded):
    """Cell a is at 50 in every seed, as is claimed; b (c) is 0.3 below (above) it on average, by chance."""
    noise = [10, -10, 9, -9, 11, -11, 10, -10]
    runs = runs_of(a=[50] * 8, b=[49.7 + one for one in noise], c=[50.3 + one for one in noise])
    cells = {name: [replace(run, seeded=seeded) for run in found] for name, found in runs.cells.items()}
    (found,) = evaluate_claims(make_table({"text": "x", "metric": "val", **keys}), replace(runs, cells=cells))
    assert (found.verdict, found.resolution.resolved) == ("does not hold", False)
    assert found.resolution.needed is None or found.resolution.needed > 100


@pytest.mark.parametrize("seeded", [True, False])
def test_a_number_of_parameters_that_is_as_claimed_does_not_resolve_the_rest(
    make_table, make_run, assigned, data, seeded
):
    """At most 11698 parameters, which a has, and at least 50 %, which it misses by chance."""
    data["metrics"]["parameters"] = {"result": "parameters"}
    each = [
        {"metric": "parameters", "value": -11698, "of": [{"cell": "a", "times": -1}]},
        {"metric": "val", "value": 50},
    ]
    claim = {"text": "x", "kind": "at_least", "of": ["a"], "each": each}
    runs = [make_run("a", [0.1, v], seed, parameters=11698) for seed, v in enumerate((0.3, 0.69))]
    (found,) = evaluate_claims(make_table(claim), assigned(*(replace(run, seeded=seeded) for run in runs)))
    assert (found.verdict, found.resolution.resolved) == ("does not hold", False)


def test_headlines(make_table, runs_of, make_run, assigned):
    table = make_table(BEATS, {**BEATS, "left": "a", "right": "b"}, {**BEATS, "right": "c"})
    assert claims_line(evaluate_claims(table, runs_of(a=[50, 51, 49], b=[60, 61.5, 59.5], c=[50, 66, 55]))) == (
        "2 of 3 claims hold, 1 of them resolved; 1 that does not hold is resolved"
    )
    only = make_table({**BEATS, "left": "a", "right": "b"})
    found = evaluate_claims(only, runs_of(a=[50, 51, 49], b=[60, 61.5, 59.5], c=[0, 0, 0]))
    assert claims_line(found) == "0 of 1 claims hold; 1 that does not hold is resolved"
    once = evaluate_claims(table, runs_of(a=[50], b=[60], c=[40]))
    assert claims_line(once) == "2 of 3 claims hold, none of them resolved"
    sample = [make_run(c, [0.1, 0.5], data={"source": "sample"}) for c in "abc"]
    assert claims_line(evaluate_claims(table, assigned(*sample))) == "3 claims, not judged: sample data"
    assert claims_line([]) == "no claims"


def test_where_nothing_was_judged_the_claims_line_says_why(make_table, make_run, assigned):
    table = make_table(
        {"text": "b is best", "kind": "best", "metric": "val", "cell": "b"},
        {"text": "b beats a", "kind": "greater", "metric": "val", "left": "b", "right": "a"},
        {"text": "a reaches 10", "kind": "at_least", "metric": "val", "of": ["a"], "value": 10},
    )
    sample = {"config": {"data": {"source": "sample"}}}
    both = [make_run(cell, [0.5, 0.6], **sample) for cell in ("a", "b")]
    # On sample data alone; with a cell of real data that is missing; with one that is reduced; with a run that failed.
    assert claims_line(evaluate_claims(table, assigned(*both))) == "3 claims, not judged: sample data"
    other = assigned(make_run("c", [0.5, 0.6]))
    assert claims_line(evaluate_claims(table, other)) == "3 claims, undecided: cells missing"
    assert claims_line(evaluate_claims(table, assigned(make_run("b", [0.5, 0.6], **sample)))) == (
        "3 claims: 2 not judged (sample data), 1 undecided (cells missing)"
    )
    reduced = [make_run("a", [0.5], config={"trainer": {"max_epochs": 1}}), make_run("b", [0.5], status="failed")]
    assert claims_line(evaluate_claims(table, assigned(*reduced))) == (
        "3 claims: 1 undecided (cells missing), 1 undecided, 1 not comparable"
    )
    judged = [make_run(cell, [0.1, level]) for cell, level in (("a", 0.05), ("b", 0.04))]
    assert claims_line(evaluate_claims(table, assigned(*judged))) == "0 of 3 claims hold"


def test_many_differences_from_the_baseline_stand_beside_holms_p(make_table, runs_of):
    from scipy.stats import ttest_rel

    a, b, c = [50, 51, 49.5], [52, 53.5, 51], [49, 50.5, 47]
    metrics = {"val": {"column": "val/accuracy", "scale": 100, "unit": "%"}}
    cells = {name: {"match": {"model.name": name}} for name in "abc"}
    found = evaluate(make_table(metrics=metrics, cells=cells), runs_of(a=a, b=b, c=c))
    ps = [ttest_rel(other, a).pvalue for other in (b, c)]
    assert [one.p for one in found.differences] == pytest.approx(ps)
    assert [one.holm for one in found.differences] == pytest.approx([2 * ps[0], ps[1]])
    assert "| b | +2.00 [+0.76, +3.24] (3), Holm p = 0.04 | model.name |" in report(found)
