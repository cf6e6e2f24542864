"""Losses are looked at in their order, and the first that is not finite ends the training."""

import pytest
import torch

from retable.training.losses_seen import LossesSeen


class Stop(Exception):
    pass


class Late:
    """An event that has not come until it is waited for."""

    def __init__(self):
        self.come = False

    def query(self):
        return self.come

    def synchronize(self):
        self.come = True


@pytest.fixture
def seen():
    events = []

    def diverged(number):
        events.append(("diverged", number))
        raise Stop

    losses = LossesSeen(diverged, lambda done, last: events.append((done, last)))
    return losses, events


def test_on_a_cpu_they_are_looked_at_at_once(seen):
    losses, events = seen
    losses.add(0, torch.tensor([1.0, 0.5]))
    assert events == [(2, 0.5)]
    with pytest.raises(Stop):
        losses.add(2, torch.tensor([0.25, float("nan"), float("inf")]))
    assert events == [(2, 0.5), ("diverged", 3)]


def test_what_has_not_come_is_waited_for_at_an_epochs_end_only(seen):
    losses, events = seen
    first, second = Late(), Late()
    losses._coming.extend([(0, torch.tensor([1.0]), first), (1, torch.tensor([float("nan")]), second)])
    losses.look()
    assert events == []
    first.come = True
    losses.look()
    assert events == [(1, 1.0)]
    with pytest.raises(Stop):
        losses.look(wait=True)
    assert events[-1] == ("diverged", 1)
    losses.forget()
    losses.look(wait=True)  # nothing is left
