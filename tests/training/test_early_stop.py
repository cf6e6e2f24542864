"""Report B's two rules of early stopping, at exactly which epoch each ends a run."""

import pytest
import torch

from retable.training.early_stop import Change, Gap, Patience


def rows(val, train=None, first=1):
    train = train or val
    pairs = zip(train, val, strict=True)
    return [{"epoch": n, "train/dice": t, "val/dice": v} for n, (t, v) in enumerate(pairs, start=first)]


def test_change_stops_after_the_first_jump_from_its_epoch_on():
    # Jumps of 0.1 after epochs 2 and 5; before from_epoch they do not count.
    history = rows([0.5, 0.6, 0.61, 0.62, 0.72, 0.73])
    assert Change(epsilon=0.05, from_epoch=1).stops_after(history) == 2
    assert Change(epsilon=0.05, from_epoch=3).stops_after(history) == 5
    assert Change(epsilon=0.05, from_epoch=5).stops_after(history) == 5
    assert Change(epsilon=0.05, from_epoch=6).stops_after(history) is None
    assert Change(epsilon=0.2, from_epoch=1).stops_after(history) is None


def test_a_fall_is_a_change_too_and_epsilon_itself_is_not_exceeded():
    assert Change(epsilon=0.25, from_epoch=1).stops_after(rows([0.75, 0.5])) is None
    assert Change(epsilon=0.25, from_epoch=1).stops_after(rows([0.75, 0.25])) == 2


def test_the_first_epoch_has_no_epoch_before_it():
    assert Change(epsilon=0, from_epoch=1).stops_after(rows([0.9])) is None
    # With validation before training, epoch 1 has one: epoch 0.
    assert Change(epsilon=0.03, from_epoch=1).stops_after(rows([0.1, 0.9], first=0)) == 1


def test_gap_stops_where_training_and_validation_part():
    history = rows([0.5, 0.52, 0.5, 0.5], train=[0.6, 0.53, 0.55, 0.6])
    assert Gap(epsilon=0.03, from_epoch=1).stops_after(history) == 1
    assert Gap(epsilon=0.03, from_epoch=2).stops_after(history) == 3
    assert Gap(epsilon=0.06, from_epoch=2).stops_after(history) == 4


def test_report_b_stops_at_epoch_20_at_the_earliest():
    history = rows([0.1 * (n % 2) for n in range(30)])
    assert Change().stops_after(history) == 20


def test_a_rule_that_is_watched_only_says_where_both_forms_would_have_stopped():
    history = rows([0.5, 0.52, 0.62, 0.62], train=[0.5, 0.52, 0.63, 0.7])
    watched = Change(epsilon=0.05, from_epoch=2, apply=False)
    assert watched.stops_after(history) is None
    assert watched.both_forms(history) == {"change": 3, "gap": 4}
    assert Gap(epsilon=0.05, from_epoch=2).both_forms(history) == {"change": 3, "gap": 4}
    assert Gap(epsilon=0.2, from_epoch=2).both_forms(history) == {"change": 0, "gap": 0}
    other = [{"epoch": row["epoch"], "val/iou": row["val/dice"]} for row in history]
    assert Change("iou", epsilon=0.05, from_epoch=2, apply=False).both_forms(other) == {"change": 3, "gap": 0}


def test_epochs_without_validation_say_nothing():
    history = [{"epoch": 1, "train/dice": 0.9}, {"epoch": 2, "train/dice": 0.9, "val/dice": 0.1}]
    assert Change(from_epoch=1).stops_after(history) is None
    assert Gap(from_epoch=1).stops_after(history) == 2


def test_change_looks_back_to_the_last_validated_epoch():
    # trainer.check_val_every_n_epoch=2: 0.5, 0.5, 0.75 after epochs 2, 4 and 6
    values = {2: 0.5, 4: 0.5, 6: 0.75}
    history = [{"epoch": n} | ({"val/dice": values[n]} if n in values else {}) for n in range(1, 8)]
    assert Change(epsilon=0.1, from_epoch=1).stops_after(history) == 6
    assert Change(epsilon=0.3, from_epoch=1).stops_after(history) is None


@pytest.mark.parametrize(("key", "value"), [("epsilon", -0.1), ("from_epoch", 0), ("epsilon", "x"), ("apply", 0)])
def test_refusals(key, value):
    with pytest.raises(ValueError, match=f"^{key}="):
        Change(**{key: value})


@pytest.mark.parametrize(("min_delta", "higher", "last"), [(0.0, True, 6), (0.05, True, 4), (0.0, False, 3)])
def test_patience_counts_as_lightnings_early_stopping(min_delta, higher, last):
    from pytorch_lightning.callbacks import EarlyStopping

    values = [0.5, 0.6, 0.62, 0.64, 0.6, 0.63, 0.7]
    history = rows(values)
    rule = Patience("val/dice", higher, patience=2, min_delta=min_delta)
    assert rule.stops_after(history) == last
    assert Patience("val/dice", higher, 2, min_delta, apply=False).stops_after(history) is None
    assert rule.both_forms(history) == {"patience": last}
    theirs = EarlyStopping("val/dice", min_delta, 2, mode="max" if higher else "min")
    stops = (n for n, value in enumerate(values, 1) if theirs._evaluate_stopping_criteria(torch.tensor(value))[0])
    assert next(stops) == last
    assert Patience("val/dice", higher, patience=7).stops_after(history) is None
