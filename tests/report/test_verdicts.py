"""Verdicts over seeds, with missing and failed runs, on sample data and at reduced scale."""

import pytest

from retable.report.verdicts import evaluate_claims, evaluate_published

BEATS = {"text": "b beats a", "kind": "greater", "metric": "val", "left": "b", "right": "a"}
TIMER = {"_target_": "pytorch_lightning.callbacks.Timer", "duration": "00:00:00:05", "interval": "step"}
REACHES = {"text": "b reaches 55", "kind": "at_least", "metric": "val", "of": ["b"], "value": 55}


def test_verdict_is_of_the_means_and_counts_the_seeds(make_table, make_run, assigned):
    pairs = [(0.50, 0.60), (0.50, 0.49), (0.50, 0.56)]  # means 50 and 55
    records = [
        make_run(cell, [0.1, v], seed) for seed, pair in enumerate(pairs) for cell, v in zip("ab", pair, strict=True)
    ]
    (found,) = evaluate_claims(make_table(BEATS), assigned(*records))
    assert (found.verdict, found.held, found.seeds) == ("holds", 2, 3)
    assert found.line == "holds, not resolved at 3 seeds (holds in 2 of 3; about 12 would decide): b 55.00 > a 50.00"
    assert found.id == "T1 (1)"


def test_a_missing_cell_is_named(make_table, make_run, assigned):
    (found,) = evaluate_claims(make_table(BEATS), assigned(make_run("a", [0.1, 0.5])))
    assert (found.verdict, found.reasons) == ("undecided", ("b: missing",))


def test_seeds_that_did_not_finish_are_named_once_a_cell(make_table, make_run, assigned):
    ended = [("a", 0, "finished"), ("a", 2, "unfinished"), ("a", 1, "unfinished"), ("b", 0, "finished")]
    others = [("b", 1, "failed"), ("b", 2, "finished")]
    records = [make_run(cell, [0.1, 0.5], seed, status) for cell, seed, status in [*ended, *others]]
    (found,) = evaluate_claims(make_table(BEATS), assigned(*records))
    assert found.reasons == ("b: seed 1 failed", "a: seeds 1, 2 unfinished")


@pytest.mark.parametrize("status", ["failed", "diverged", "unfinished"])
def test_a_run_that_did_not_finish_is_never_dropped(make_table, make_run, assigned, status):
    records = [make_run(cell, [0.1, v], seed) for seed in (0, 1) for cell, v in (("a", 0.5), ("b", 0.6))]
    broken = make_run("b", [0.1], 2, status)
    (found,) = evaluate_claims(make_table(BEATS), assigned(*records, make_run("a", [0.1, 0.5], 2), broken))
    assert (found.verdict, found.reasons) == ("undecided", (f"b: seed 2 {status}",))
    assert (found.held, found.seeds) == (2, 2)


def test_only_shared_seeds_are_evaluated_with_a_note(make_table, make_run, assigned):
    records = [make_run("a", [0.1, 0.5], 0), make_run("b", [0.1, 0.6], 0), make_run("a", [0.1, 0.9], 1)]
    (found,) = evaluate_claims(make_table(BEATS), assigned(*records))
    assert (found.verdict, found.numbers) == ("holds", "b 60.00 > a 50.00")
    assert found.reasons == ("seed 1 left out: not in every cell",)


def test_no_shared_seed(make_table, make_run, assigned):
    (found,) = evaluate_claims(make_table(BEATS), assigned(make_run("a", [0.1, 0.5], 0), make_run("b", [0.1, 0.6], 1)))
    assert (found.verdict, found.reasons) == ("undecided", ("no seed that all of b, a have",))


def test_two_runs_of_one_seed_are_ambiguous(make_table, make_run, assigned):
    records = [make_run("a", [0.1, 0.5]), make_run("b", [0.1, 0.6]), make_run("b", [0.1, 0.7])]
    (found,) = evaluate_claims(make_table(BEATS), assigned(*records))
    assert (found.verdict, found.reasons) == ("undecided", ("b: 2 runs of seed 0",))


def test_a_figure_that_was_not_recorded(make_table, make_run, assigned):
    claim = {"text": "x", "kind": "best", "metric": "step_time", "cell": "a", "of": ["a", "b"]}
    (found,) = evaluate_claims(make_table(claim), assigned(make_run("a", [0.1, 0.5]), make_run("b", [0.1, 0.5])))
    assert (found.verdict, found.reasons) == ("undecided", ("a: no seconds_per_step in the result",))


def test_sample_data_is_not_evaluated(make_table, make_run, assigned):
    data = {"source": "sample"}
    runs = assigned(make_run("a", [0.1, 0.5], data=data), make_run("b", [0.1, 0.6], data=data))
    found = evaluate_claims(make_table(BEATS, REACHES), runs)
    assert {verdict.verdict for verdict in found} == {"not judged"}
    assert found[0].line.startswith("not judged (sample data): here it holds: b ")  # how it comes out is said
    (alone,) = evaluate_claims(make_table(BEATS), assigned(make_run("a", [0.1, 0.5], data=data)))
    assert alone.line == "not judged (sample data)"


def test_fewer_epochs_decide_comparisons_at_this_scale_and_no_thresholds(make_table, make_run, assigned):
    runs = assigned(make_run("a", [0.1, 0.5]), make_run("b", [0.1, 0.6]))
    relative, absolute = evaluate_claims(make_table(BEATS, REACHES, published_epochs=100), runs)
    assert (relative.verdict, relative.scale_note) == ("holds", "2 of 100 epochs")
    assert relative.line.startswith("holds at this scale (2 of 100 epochs), not resolved at 1 seed: b ")
    assert (absolute.verdict, absolute.numbers) == ("not comparable", "b 60.00 > 55")


def test_the_best_of_those_above_a_threshold_is_not_comparable_at_reduced_scale(make_table, make_run, assigned):
    """After 2 of 100 epochs b, the best, is not above 65 yet."""
    best = {"text": "x", "kind": "best", "metric": "val", "cell": "b", "of": ["a", "b"]}
    runs = assigned(make_run("a", [0.1, 0.5]), make_run("b", [0.1, 0.6]))
    above = {**best, "among": {"metric": "val", "above": 65}}
    plain, among = evaluate_claims(make_table(best, above, published_epochs=100), runs)
    assert (plain.verdict, among.verdict) == ("holds", "not comparable")
    assert evaluate_claims(make_table(above), runs)[0].verdict == "does not hold"


@pytest.mark.parametrize(
    ("config", "note"),
    [
        ({"data": {"fraction": 0.1}}, "10 % of the training data"),
        ({"trainer": {"max_epochs": 2, "limit_train_batches": 2}}, "trainer.limit_train_batches=2"),
        ({"trainer": {"max_epochs": 2, "limit_val_batches": 0.5}}, "trainer.limit_val_batches=0.5"),
        ({"trainer": {"max_epochs": 2, "max_steps": 7}}, "trainer.max_steps=7"),
        ({"trainer": {"max_epochs": 2, "overfit_batches": 3}}, "trainer.overfit_batches=3"),
        ({"trainer": {"max_epochs": 2, "overfit_batches": 0.0}}, ""),
        ({"trainer": {"max_epochs": 9, "max_time": "00:00:00:05"}}, "trainer.max_time=00:00:00:05"),
        ({"trainer": {"max_epochs": 2, "max_time": "00:00:00:05"}}, ""),  # it came to its end in that time
        ({"trainer": {"max_epochs": 9}, "callbacks": {"timer": TIMER}}, "callbacks.timer.duration=00:00:00:05"),
        ({"trainer": {"max_epochs": 9}, "callbacks": {"timer": TIMER | {"duration": None}}}, ""),  # it only times
        ({"trainer": {"max_epochs": 2}, "callbacks": {"timer": TIMER}}, ""),
        ({"trainer": {"max_epochs": 2, "limit_train_batches": 1.0, "max_steps": -1}}, ""),
    ],
)
def test_what_reduces_the_scale(make_table, make_run, assigned, config, note):
    runs = assigned(*(make_run(cell, [0.1, v], config=config) for cell, v in (("a", 0.5), ("b", 0.6))))
    relative, absolute = evaluate_claims(make_table(BEATS, REACHES), runs)
    assert (relative.verdict, relative.scale_note) == ("holds", note)
    assert absolute.verdict == ("not comparable" if note else "holds")


def test_early_stopping_is_no_reduction(make_table, make_run, assigned):
    config = {"trainer": {"max_epochs": 100}}
    runs = assigned(make_run("b", [0.1, 0.6], config=config))
    (found,) = evaluate_claims(make_table(REACHES, published_epochs=100), runs)
    assert (found.verdict, found.scale_note) == ("holds", "")


def test_runs_of_different_scale_are_not_compared(make_table, make_run, assigned):
    runs = assigned(make_run("a", [0.1, 0.5]), make_run("b", [0.1, 0.6], config={"data": {"fraction": 0.5}}))
    (found,) = evaluate_claims(make_table(BEATS), runs)
    assert (found.verdict, found.reasons) == ("undecided", ("runs of different scale: 50 % of the training data",))


def test_a_cells_own_epochs_are_its_scale(make_table, make_run, assigned, data):
    data["cells"]["b"]["epochs"] = 3
    runs = assigned(make_run("a", [0.1, 0.5]), make_run("b", [0.1, 0.2, 0.6]))
    (found,) = evaluate_claims(make_table(BEATS), runs)
    assert (found.verdict, found.scale_note) == ("holds", "")


def test_a_cells_own_share_of_the_data_is_its_scale(make_table, make_run, assigned, data):
    data["cells"]["b"]["match"]["data.fraction"] = 0.4
    runs = assigned(make_run("a", [0.1, 0.5]), make_run("b", [0.1, 0.6], config={"data": {"fraction": 0.4}}))
    for found in evaluate_claims(make_table(BEATS, REACHES), runs):
        assert (found.verdict, found.scale_note) == ("holds", "")


def test_published_ranges_are_evaluated_at_all_their_ends(make_table, data):
    data["cells"]["a"]["published"]["val"] = {"range": [10, 11]}
    data["cells"]["b"]["published"]["val"] = {"range": [70, 75]}
    found = evaluate_published(make_table(*({**BEATS, "by": by} for by in (58.9, 59, 65))))  # b - a is 59 to 65
    assert [verdict.verdict for verdict in found] == ["holds", "undecided", "does not hold"]


def test_a_claim_that_holds_within_a_published_range_does_not_fail_for_its_ends(make_table, data):
    """Of 0 to 10 neither end is within 1 of 5, and 5 is: only what fails by one and the same difference fails."""
    data["cells"]["a"]["published"]["val"] = {"range": [0, 10]}
    data["cells"]["b"]["published"]["val"] = 5
    data["cells"]["c"]["published"]["val"] = 4
    common = {"text": "x", "metric": "val"}
    claims = [
        {**common, "kind": "within", "left": "a", "right": "b", "by": 1},
        {**common, "kind": "at_chance", "of": ["a"], "value": 5, "by": 1},
        {**common, "kind": "ordered", "of": ["c", "a", "b"], "direction": "ascending"},
        {**common, "kind": "greater", "each": [{"left": "a", "right": "c"}, {"left": "b", "right": "a"}]},
        {**common, "kind": "at_chance", "of": ["a", "c"], "value": 5, "by": 1},  # of c just so
        {**common, "kind": "within", "left": "a", "right": 12, "by": 1},
        {**common, "kind": "ordered", "of": ["b", "c", "a"], "direction": "ascending"},
        {**common, "kind": "greater", "left": "a", "right": {"cell": "b", "times": 2}},  # a tie at best
        {**common, "kind": "at_most", "of": ["a"], "value": 10},
    ]
    found = evaluate_published(make_table(*claims))
    assert [verdict.verdict for verdict in found] == ["undecided"] * 5 + ["does not hold"] * 3 + ["holds"]
    assert found[0].reasons == ("the published ranges leave it open",)


def test_a_metric_may_be_a_number_minus_another(make_table, make_run, assigned, data):
    data["metrics"] |= {"error": {"difference": [100, "val"], "better": "lower"}, "above": {"difference": ["val", 50]}}
    claims = [
        {"text": "x", "kind": "best", "metric": "error", "cell": "b"},
        {"text": "x", "kind": "greater", "metric": "above", "left": "b", "right": {"cell": "b", "at": 1}},
        {"text": "x", "kind": "every_epoch", "metric": "error", "left": "a", "right": "b"},
    ]
    found = evaluate_claims(
        make_table(*claims), assigned(*(make_run(c, [0.2, v]) for c, v in (("a", 0.5), ("b", 0.6), ("c", 0.4))))
    )
    assert [f.verdict for f in found] == ["holds", "holds", "does not hold"]
    assert found[0].numbers == "b 40.00 < a 50.00 (next)"
    assert found[1].numbers == "b 10.00 > b at epoch 1 -30.00"
    assert found[2].numbers == "a > b at 1 of 2 epochs; not at 1"
    assert found[0].published == "holds"


def test_all_runs_are_the_other_settings_by_their_mean(make_table, make_run, assigned):
    claim = {"text": "b is best of all", "kind": "best", "metric": "val", "cell": "b", "of": "all runs"}
    cells = [make_run(cell, [0.1, v], seed) for seed in (0, 1) for cell, v in (("a", 0.5), ("b", 0.6), ("c", 0.4))]
    others = [make_run("d", [0.1, v], seed) for seed, v in ((0, 0.62), (1, 0.50))]
    (found,) = evaluate_claims(make_table(claim), assigned(*cells, others=others))
    assert (found.verdict, found.numbers) == ("holds", "b 60.00 > model-d 56.00 (next)")
    assert (found.held, found.seeds) == (1, 2)
    diverged = make_run("e", [0.1], 1, "diverged")
    others += [make_run("e", [0.1, 0.2]), diverged]
    (found,) = evaluate_claims(make_table(claim), assigned(*cells, others=others))
    assert (found.verdict, found.reasons) == ("undecided", ("model-e: seed 1 diverged",))


def test_published_figures_are_evaluated_by_the_same_rules(make_table):
    gap = {"text": "a has the smallest gap", "kind": "best", "metric": "gap", "cell": "a"}
    step = {"text": "a is quick", "kind": "best", "metric": "step_time", "cell": "a"}
    found = evaluate_published(make_table(BEATS, REACHES, gap, step))
    assert [verdict.verdict for verdict in found] == ["holds", "holds", "holds", "undecided"]
    assert found[2].numbers == "a 10.00 < b 20.00 (next)"


def test_a_published_curve_answers_for_its_epochs(make_table, data):
    data["cells"]["a"]["published"]["val"] = {"curve": [10, 60, 50], "first": 0}
    data["cells"]["b"]["published"]["val"] = {"curve": [20, 55, 60], "first": 0}
    every = {"text": "x", "kind": "every_epoch", "metric": "val", "left": "b", "right": "a"}
    top = {"text": "x", "kind": "at_most", "metric": "val", "of": ["a"], "over": "max", "value": 60, "strict": True}
    first = {**BEATS, "at": 0}
    found = evaluate_published(make_table(every, top, first, BEATS))
    assert [v.verdict for v in found] == ["does not hold", "does not hold", "holds", "holds"]
    assert found[0].numbers == "b > a at 2 of 3 epochs; not at 1"
