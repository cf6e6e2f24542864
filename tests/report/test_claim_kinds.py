"""Every kind of claim on figures for which the verdict can be computed by hand."""

import math
from dataclasses import dataclass, replace

import pytest

from retable.experiment.claims import KINDS, Statement
from retable.report.evaluated import evaluate
from retable.report.verdicts import evaluate_claims

#        kind and keys                                                        verdict          a part of the numbers
# The three cells' validation accuracy over two epochs: a 40, 50; b 45, 60; c 55, 40. Training: 10 points above.
CASES = [
    ({"kind": "best", "cell": "b"}, "holds", "b 60.00 > a 50.00 (next)"),
    ({"kind": "best", "cell": "a"}, "does not hold", "a 50.00 < b 60.00 (best other)"),
    ({"kind": "best", "cells": ["a", "b"]}, "holds", "a 50.00, b 60.00"),
    ({"kind": "best", "cells": ["b", "c"]}, "does not hold", "< a 50.00"),
    ({"kind": "best", "cell": "a", "of": ["a", "c"]}, "holds", "a 50.00 > c 40.00"),
    ({"kind": "best", "cell": "c", "at": 1}, "holds", "c at epoch 1 55.00 > b at epoch 1 45.00"),
    ({"kind": "best", "cell": "b", "metric": "loss"}, "does not hold", "b 0.500 = a 0.500"),
    ({"kind": "best_in", "cells": ["a", "b"]}, "holds", "b 60.00 > c 40.00"),
    ({"kind": "best_in", "cells": ["a", "c"]}, "does not hold", "a 50.00 < b 60.00"),
    ({"kind": "worst", "cell": "c"}, "holds", "c 40.00 < a 50.00"),
    ({"kind": "worst", "cell": "a"}, "does not hold", "a 50.00 > c 40.00"),
    ({"kind": "greater", "left": "b", "right": "a"}, "holds", "b 60.00 > a 50.00"),
    ({"kind": "greater", "left": "b", "right": "a", "by": 9.5}, "holds", "by 10, claimed over 9.5"),
    ({"kind": "greater", "left": "b", "right": "a", "by": 10}, "does not hold", "by 10"),
    ({"kind": "greater", "left": {"mean": ["a", "b"]}, "right": "a"}, "holds", "mean of a, b 55.00 > a 50.00"),
    ({"kind": "greater", "left": {"lowest": ["a", "b"]}, "right": "c"}, "holds", "50.00 > c 40.00"),
    ({"kind": "greater", "left": {"highest": ["a", "b"]}, "right": "b"}, "does not hold", "60.00 = b 60.00"),
    ({"kind": "greater", "left": {"cell": "c", "over": "max"}, "right": "a"}, "holds", "c max 55.00 > a 50.00"),
    ({"kind": "greater", "left": {"cell": "c", "over": "max", "since": 2}, "right": "a"}, "does not hold", "40.00 <"),
    ({"kind": "greater", "left": {"cell": "c", "at": 1}, "right": {"cell": "c", "at": 2}}, "holds", "c at epoch 1 55"),
    ({"kind": "greater", "left": {"cell": "a", "metric": "train"}, "right": "a"}, "holds", "a train 60.00 > a val 50"),
    ({"kind": "within", "left": "a", "right": "b", "by": 10}, "holds", "10 apart, claimed at most 10"),
    ({"kind": "within", "left": "a", "right": "b", "by": 10, "strict": True}, "does not hold", "claimed under 10"),
    ({"kind": "within", "left": "b", "right": "a", "by": 0.2, "relative": True}, "holds", "20.0 % apart"),
    ({"kind": "within", "of": ["a", "b", "c"], "by": 15}, "does not hold", "20 apart"),
    ({"kind": "within", "of": ["a", "b", "c"], "by": 1, "metric": "gap"}, "holds", "a 10.00, b 10.00, c 10.00"),
    ({"kind": "at_least", "of": ["a", "b"], "value": 50}, "holds", "a 50.00 = 50"),
    ({"kind": "at_least", "of": ["a", "b"], "value": 50, "strict": True}, "does not hold", "a 50.00 = 50"),
    ({"kind": "at_least", "of": "a", "value": 55, "over": "max"}, "does not hold", "a max 50.00 < 55"),
    ({"kind": "at_most", "of": ["a", "c"], "value": 50}, "holds", "a 50.00 = 50"),
    ({"kind": "at_most", "value": 50}, "does not hold", "b 60.00 > 50"),
    ({"kind": "at_least", "of": "a", "value": 0.95, "metric": "loss", "fall_done": 2}, "holds", "1.000 > 0.95"),
    ({"kind": "at_chance", "of": ["a"], "value": 49, "by": 2}, "holds", "a 50.00 against 49 ± 2"),
    ({"kind": "at_chance", "of": ["a", "b"], "value": 49, "by": 2}, "does not hold", "b 60.00"),
    ({"kind": "ordered", "of": ["c", "a", "b"], "direction": "ascending"}, "holds", "c 40.00 < a 50.00 < b 60.00"),
    ({"kind": "ordered", "of": ["b", "c", "a"], "direction": "descending"}, "does not hold", "b 60.00 > c 40.00 < a"),
    ({"kind": "fewer_epochs", "left": "c", "right": "a", "metric": "epochs"}, "holds", "c 1.0 < a 2.0"),
    ({"kind": "fewer_epochs", "left": "a", "right": "b", "metric": "epochs"}, "does not hold", "a 2.0 = b 2.0"),
    ({"kind": "worst", "cell": "a", "metric": "epochs", "of": ["a", "c"]}, "holds", "a 2.0 > c 1.0"),
    ({"kind": "falls", "from": "b", "to": "c"}, "holds", "b 60.00 to c 40.00"),
    ({"kind": "falls", "from": "a", "to": "b"}, "does not hold", "a 50.00 to b 60.00"),
    ({"kind": "falls", "of": ["c"], "window": 1}, "holds", "c falls in all 2 windows"),
    ({"kind": "falls", "of": ["a"], "window": 1}, "does not hold", "a rises in window 2"),
    ({"kind": "every_epoch", "left": "b", "right": "a"}, "holds", "b > a at 2 of 2 epochs"),
    ({"kind": "every_epoch", "left": "b", "right": "c"}, "does not hold", "at 1 of 2 epochs; not at 1"),
    ({"kind": "every_epoch", "left": {"cell": "a", "times": 1.2}, "right": "b"}, "does not hold", "not at 2"),
    ({"kind": "greater", "left": {"cell": "a", "times": 1.3}, "right": "b"}, "holds", "1.3 x a 65.00 > b 60.00"),
    ({"kind": "greater", "left": {"cell": "b", "times": 0.5}, "right": "c"}, "does not hold", "0.5 x b 30.00 < c"),
    ({"kind": "best", "cell": "a", "metric": "loss", "over": "change"}, "does not hold", "a change 0.500 = b"),
    ({"kind": "greater", "left": {"cell": "b", "over": "change"}, "right": 14.9}, "holds", "b change 15.00 > 14.9"),
    ({"kind": "greater", "left": "b", "right": "a", "metric": "middle"}, "holds", "b 65.00 > a 55.00"),
    (
        {"kind": "greater", "left": {"cell": "b", "at": 1}, "right": "a", "metric": "middle"},
        "does not hold",
        "50.00 < a",
    ),
    (
        {"kind": "best", "cell": "a", "of": ["a", "c"], "at": 1, "among": {"metric": "val", "above": 40}},
        "holds",
        "a at epoch 1 40.00; of those above 40 in val, not c",
    ),
    (
        {"kind": "best", "cell": "c", "at": 1, "among": {"metric": "val", "above": 40}},
        "does not hold",
        "c 40.00 = 40",
    ),
    (
        {"kind": "greater", "left": "b", "right": "a", "beside": [{"left": "c"}]},
        "holds",
        "b 60.00 > a 50.00; beside it: c 40.00 < a 50.00",
    ),
]


@pytest.mark.parametrize(("claim", "verdict", "numbers"), CASES)
def test_kind(make_table, make_run, assigned, claim, verdict, numbers):
    table = make_table({"text": "it is so", "metric": "val", **claim})
    runs = assigned(make_run("a", [0.4, 0.5]), make_run("b", [0.45, 0.6]), make_run("c", [0.55, 0.4]))
    (found,) = evaluate_claims(table, runs)
    assert found.verdict == verdict
    assert numbers in found.numbers
    assert (found.held, found.seeds) == (int(verdict == "holds"), 1)


def test_each_must_hold(make_table, make_run, assigned):
    claim = {"text": "x", "kind": "greater", "metric": "val", "right": "a", "each": [{"left": "b"}, {"left": "c"}]}
    runs = assigned(make_run("a", [0.4, 0.5]), make_run("b", [0.4, 0.6]), make_run("c", [0.4, 0.4]))
    (found,) = evaluate_claims(make_table(claim), runs)
    assert found.verdict == "does not hold"
    assert found.numbers == "b 60.00 > a 50.00; c 40.00 < a 50.00 (does not hold)"


def test_a_threshold_never_reached_loses_against_one_reached(make_table, make_run, assigned):
    claim = {"text": "x", "kind": "fewer_epochs", "metric": "epochs", "left": "a", "right": "c"}
    (found,) = evaluate_claims(make_table(claim), assigned(make_run("a", [0.1, 0.5]), make_run("c", [0.1, 0.4])))
    assert (found.verdict, found.numbers) == ("holds", "a 2.0 < c never")


def test_a_threshold_that_neither_reaches_says_nothing(make_table, make_run, assigned):
    claim = {"text": "x", "kind": "fewer_epochs", "metric": "epochs", "left": "a", "right": "c"}
    runs = assigned(make_run("a", [0.1, 0.3]), make_run("c", [0.1, 0.4]))
    (found,) = evaluate_claims(make_table(claim), runs)
    assert (found.verdict, found.reasons) == ("undecided", ("neither reaches the threshold",))


def test_step_time_is_seconds_per_step_however_recorded(make_table, make_run, assigned):
    claim = {
        "text": "x",
        "kind": "within",
        "metric": "step_time",
        "left": "a",
        "right": "b",
        "by": 0.1,
        "relative": True,
    }
    runs = assigned(
        make_run("a", [0.1, 0.5], steps_per_second=500.0),
        make_run("b", [0.1, 0.5], step=1000, seconds={"train": 2.1}),
    )
    (found,) = evaluate_claims(make_table(claim), runs)
    assert (found.verdict, found.numbers) == ("holds", "a 2.00, b 2.10: 4.8 % apart, claimed at most 10 %")


def test_what_differs_by_rounding_alone_is_0_apart(make_table, make_run, assigned):
    claim = {"text": "x", "kind": "within", "metric": "val", "left": "a", "right": "b", "by": 3}
    runs = [make_run("a", [0.1, 0.55], seed) for seed in range(3)] + [make_run("b", [0.1, 0.1 * 3 + 0.25], 0)]
    (found,) = evaluate_claims(make_table(claim), assigned(*runs))
    assert (found.verdict, found.numbers) == ("holds", "a 55.00, b 55.00: 0 apart, claimed at most 3")


def test_a_mean_change_needs_two_epochs(make_table, make_run, assigned):
    claim = {"text": "x", "kind": "at_most", "metric": "loss", "of": ["a"], "value": 1, "over": "change"}
    (found,) = evaluate_claims(make_table(claim), assigned(make_run("a", [0.1], loss=[5])))
    assert (found.verdict, found.reasons) == ("undecided", ("a: loss has a single epoch",))
    # From 5 to 2 to 4: changes of 3 and 2; from epoch 2 on 2 alone.
    (found,) = evaluate_claims(make_table(claim), assigned(make_run("a", [0.1] * 3, loss=[5, 2, 4])))
    assert found.numbers == "a change 2.500 > 1"
    (found,) = evaluate_claims(make_table(claim | {"since": 2}), assigned(make_run("a", [0.1] * 3, loss=[5, 2, 4])))
    assert found.numbers == "a change from epoch 2 2.000 > 1"


def test_windows_take_the_mean_of_the_epochs_in_them(make_table, make_run, assigned):
    claim = {"text": "x", "kind": "falls", "metric": "loss", "of": ["a"], "window": 2}
    # Windows (3, 1), (1.5, 1.9), (1, 1): means 2, 1.7, 1; the last epoch alone is in none.
    runs = assigned(make_run("a", [0.1] * 7, loss=[3, 1, 1.5, 1.9, 1, 1, 9]))
    assert evaluate_claims(make_table(claim), runs)[0].numbers == "a falls in all 3 windows"


def test_share_of_the_fall(make_table, make_run, assigned):
    claim = {"text": "x", "kind": "at_least", "metric": "loss", "of": [{"cell": "a", "fall_done": 2}], "value": 0.9}
    # From 5 to 1 the fall is 4, of which 3 are done by epoch 2.
    (found,) = evaluate_claims(make_table(claim), assigned(make_run("a", [0.1] * 3, loss=[5, 2, 1])))
    assert (found.verdict, found.numbers) == ("does not hold", "a share of the fall by epoch 2 0.750 < 0.9")


@pytest.fixture
def known_kinds():
    """Takes back the kinds that a test defines."""
    before = dict(KINDS)
    yield
    KINDS.clear()
    KINDS.update(before)


@pytest.mark.usefixtures("known_kinds")
def test_a_new_kind_is_one_class(make_table, make_run, assigned):
    @dataclass(frozen=True)
    class TwiceAsGood(Statement):
        operand_keys = ("left", "right")
        less: float = 0.0

        def holds(self, evidence):
            left, right = evidence.values(self.operands)
            return left.value >= 2 * right.value - self.less, f"{left.text} against {right.text}"

    claim = {"text": "x", "kind": "twice_as_good", "metric": "val", "left": "b", "right": "c"}
    runs = assigned(make_run("b", [0.1, 0.7]), make_run("c", [0.1, 0.4]))
    (found,) = evaluate_claims(make_table(claim), runs)
    assert (found.verdict, found.numbers) == ("does not hold", "b 70.00 against c 40.00")
    assert evaluate_claims(make_table({**claim, "less": 10}), runs)[0].verdict == "holds"


def test_a_gap_is_of_one_epoch_where_not_every_epoch_is_validated(make_table, make_run, assigned):
    # Three epochs, of which the second alone has a validation: 90 - 50 there, and not 99 - 50.
    run = make_run("a", [math.nan, 0.5, math.nan], train=[0.8, 0.9, 0.99])
    for metric, shown in (("gap", "a 40.00 > 0"), ("middle", "a 70.00 > 0")):
        claim = {"text": "x", "kind": "at_least", "metric": metric, "of": ["a"], "value": 0}
        (found,) = evaluate_claims(make_table(claim), assigned(run))
        assert found.numbers == shown


def test_a_gap_to_what_is_measured_once_after_the_training(make_table, make_run, assigned):
    run = make_run("a", [math.nan, math.nan, 0.5], train=[0.8, 0.9, math.nan])
    claim = {"text": "x", "kind": "at_least", "metric": "gap", "of": ["a"], "value": 0}
    (found,) = evaluate_claims(make_table(claim), assigned(run))
    assert found.numbers == "a 40.00 > 0"


def test_a_curve_that_ended_as_nan_does_not_fall(make_table, make_run, assigned):
    claim = {"text": "x", "kind": "falls", "metric": "loss", "of": ["a"], "window": 1}
    run = make_run("a", [0.1, 0.2, 0.3], loss=[3, 2, math.nan])
    (found,) = evaluate_claims(make_table(claim), assigned(run))
    assert found.verdict == "holds"  # nothing was recorded at the last epoch
    (found,) = evaluate_claims(make_table(claim), assigned(replace(run, spoilt={"train/loss": 3})))
    assert (found.verdict, found.reasons) == ("undecided", ("a: train/loss is not a number at epoch 3",))


def test_one_of_several_that_has_other_epochs_leaves_the_others_to_decide(make_table, make_run, assigned):
    claim = {"text": "x", "kind": "every_epoch", "metric": "val", "each": [{"right": "b"}, {"right": "c"}], "left": "a"}
    runs = assigned(make_run("a", [0.1, 0.2]), make_run("b", [0.2, 0.3]), make_run("c", [0.1, math.nan]))
    (found,) = evaluate_claims(make_table(claim), runs)
    assert (found.verdict, found.reasons) == ("does not hold", ("the two have different epochs",))


INFINITE = [{"at": 1}, {"over": "max"}, {"over": "change"}, {"fall_done": 2}]


@pytest.mark.parametrize("when", INFINITE)
def test_a_figure_that_was_infinite_on_the_way_is_no_number(make_table, make_run, assigned, when):
    """Nor the threshold that was never reached, as which it read, nor less than any other."""
    claim = {"text": "x", "kind": "greater", "metric": "loss", "left": "a", "right": "b", **when}
    runs = assigned(make_run("a", [0.1] * 3, loss=[math.inf, 2, 1]), make_run("b", [0.1] * 3, loss=[3, 2, 1]))
    (found,) = evaluate_claims(make_table(claim), runs)
    assert (found.verdict, found.numbers) == ("undecided", "")
    assert found.reasons[0].endswith(" is not a number")


def test_figures_made_of_what_is_measured_once(make_table, make_run, assigned, data):
    """1 - (9 - 2), and the accuracy of 20 less 7: a figure of result.json has no epochs, and its difference none."""
    once = {"left": {"result": "a.left"}, "right": {"result": "a.right"}, "less": {"difference": ["left", "right"]}}
    data["metrics"] |= once | {"rest": {"difference": [1, "less"]}, "more": {"difference": ["val", "less"]}}
    claims = [
        {"text": "x", "kind": "at_least", "metric": metric, "of": ["a"], "value": 0} for metric in ("rest", "more")
    ]
    run = make_run("a", [0.1, 0.2], a={"left": 9.0, "right": 2.0})
    assert [found.numbers for found in evaluate_claims(make_table(*claims), assigned(run))] == [
        "a -6.00 < 0",
        "a 13.00 > 0",
    ]


def test_a_difference_of_differences_of_epochs_is_of_the_epochs(make_table, make_run, assigned, data):
    """The epochs in which 50 % and 30 % are reached, 3 and 1, are 2 apart, less 1; their accuracies are not asked."""
    data["metrics"]["early"] = {"column": "val/accuracy", "scale": 100, "reach": 30}
    data["metrics"] |= {"between": {"difference": ["epochs", "early"]}, "less": {"difference": ["between", 1]}}
    common = {"text": "x", "kind": "at_least", "of": ["a"], "value": 0}
    claims = [{**common, "metric": "less"}, {**common, "metric": "between", "at": 1}]
    found = evaluate_claims(make_table(*claims), assigned(make_run("a", [0.3, 0.4, 0.6])))
    assert [one.numbers for one in found] == ["a 1.00 > 0", ""]
    assert found[1].reasons == ("a: epochs has no value an epoch",)


@pytest.mark.parametrize("val", [[0.1, 0.2], [0.1, 0.4]], ids=["neither is reached", "the first is not"])
def test_a_difference_of_epochs_that_never_came_is_none(make_table, make_run, assigned, data, val):
    """Infinite less infinite, of which the table said nan, and 2 less infinite, of which it said never."""
    data["metrics"]["early"] = {"column": "val/accuracy", "scale": 100, "reach": 30}
    data["metrics"]["between"] = {"difference": ["early", "epochs"]}
    claim = {"text": "x", "kind": "at_most", "of": ["a"], "value": 0, "metric": "between"}
    runs = assigned(make_run("a", val))
    (found,) = evaluate_claims(make_table(claim), runs)
    assert (found.verdict, found.reasons) == ("undecided", ("a: between: a threshold is never reached",))
    entry = evaluate(make_table(), runs).rows[0].entries["between"]
    assert (entry.mean, entry.words) == (None, "not recorded")
