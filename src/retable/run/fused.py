"""Several runs trained by one process, which meet at each chunk of mini-batches and take its steps as one model.

Each run goes its ordinary way (retable.run.execute) in a thread of its own: its directory and its lease, its Trainer,
its order of images, augmentation, validation, history, checkpoint, early stop and result. Only `Task.take_steps` is
replaced, by a meeting: when all runs wait for their next chunk, one of them takes the steps of all
(retable.training.fused), and each goes on with its own. A run that ends, whatever the reason, is not waited for.

One thread works at a time, and what a process has once is exchanged as the turn passes: the states of the random
generators, torch's default type, and where printed lines go. So a run finds all as if it were by itself.
"""

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from retable.data.loader import Chunk
from retable.run.record import Record, restore_rng, rng_state
from retable.tasks.base import Task
from retable.tasks.classification import Classification
from retable.training.fused import Member, program, refusal, train_together

Steps = tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]]  # losses, and what is kept of outputs, by mini-batch


class FusedStepFailed(Exception):
    """Steps of several runs could not be taken together: no run's own failure. Its cause says why."""


@dataclass
class _Request:
    """A chunk that a run wants to be trained on."""

    task: Task
    record: Record
    images: Sequence[torch.Tensor]
    targets: Sequence[torch.Tensor]
    norms_at: Collection[int]

    @property
    def key(self) -> Any:
        """What requests that are met together have alike."""
        task, shapes = self.task, [images.shape for images in self.images]
        optimizer = task.optimizers(use_pl_optimizer=False)
        return program(task.model, task.loss, optimizer), shapes, self.images[0].dtype, task.device


class Seat:
    """A run's place in a company.

    Args:
        work: what the run does, given its seat; it raises nothing.
        output: a context in which the process prints to the run's log.
    """

    def __init__(self, work: Callable[["Seat"], None], output: Callable[[], AbstractContextManager[Any]]) -> None:
        self.work, self.output = work, output
        self.ended = False
        self.request: _Request | None = None
        self.met: Sequence[Seat] = ()  # with whom, the one that takes the steps first
        self.found: Steps | BaseException | None = None
        self.turn, self.done = threading.Semaphore(0), threading.Semaphore(0)
        self._refused: str | None = "not asked yet"
        self._reported = 0  # the number of runs together that was last reported
        self._random: dict[str, Any] | None = None
        self._dtype = torch.get_default_dtype()

    def take_steps(self, task: Task, record: Record, chunk: Chunk, norms_at: Collection[int]) -> Steps:
        """`Task.take_steps`, together with those that want the same; alone where a task can't be fused."""
        if self._refused == "not asked yet":
            self._refused = _refusal(task)
            if self._refused:
                print(f"steps: not together with other runs ({self._refused})", flush=True)
        if self._refused:
            return task.take_steps(chunk, norms_at)
        self.request = _Request(task, record, *chunk.batches(), norms_at)
        self.done.release()
        self.turn.acquire()
        if self.met[0] is self:
            self._random = rng_state()
            _meet(self.met)
            restore_rng(self._random)
        if self._reported != len(self.met):
            self._reported = len(self.met)
            print(f"steps: as one model of {self._reported} runs", flush=True)
        found, self.found, self.request, self.met = self.found, None, None, ()
        if isinstance(found, BaseException):
            raise FusedStepFailed(f"{type(found).__name__}: {found}") from found
        assert found is not None
        return found

    @contextmanager
    def as_if_alone(self) -> Iterator[None]:
        """The process as this run left it; what it is for others is put back."""
        dtype = torch.get_default_dtype()
        if self._random is not None:
            restore_rng(self._random)
        torch.set_default_dtype(self._dtype)
        try:
            with self.output():
                yield
        finally:
            self._random, self._dtype = rng_state(), torch.get_default_dtype()
            torch.set_default_dtype(dtype)

    def random(self, device: torch.device) -> torch.Tensor:
        """The state of a device's generator when the run waits."""
        assert self._random is not None
        return self._random["cuda"][device.index or 0] if device.type == "cuda" else self._random["torch"]

    def set_random(self, device: torch.device, state: torch.Tensor) -> None:
        """Change that state."""
        assert self._random is not None
        if device.type == "cuda":
            self._random["cuda"][device.index or 0] = state
        else:
            self._random["torch"] = state


def train(seats: Sequence[Seat]) -> None:
    """Have all runs of a company do their work, one at a time, until all have ended."""
    threads = torch.get_num_threads()

    def live(seat: Seat) -> None:
        seat.turn.acquire()
        torch.set_num_threads(threads)  # which each thread has by itself
        try:
            seat.work(seat)
        finally:
            seat.ended = True
            seat.done.release()

    def give_turn(seat: Seat) -> None:
        with seat.as_if_alone():
            seat.turn.release()
            seat.done.acquire()

    before = rng_state()
    for seat in seats:
        threading.Thread(target=live, args=(seat,), daemon=True).start()
        give_turn(seat)  # up to its first chunk
    while waiting := [seat for seat in seats if not seat.ended]:
        for company in _alike(waiting):
            for seat in company:
                seat.met = company
            for seat in company:
                give_turn(seat)
    restore_rng(before)


def _alike(waiting: Sequence[Seat]) -> list[list[Seat]]:
    """The runs by what they wait for: after a kill some are an epoch behind others, and an epoch's end is smaller."""
    found: list[tuple[Any, list[Seat]]] = []
    for seat in waiting:
        assert seat.request is not None
        key = seat.request.key
        same = next((seats for known, seats in found if known == key), None)
        if same is None:
            found.append((key, [seat]))
        else:
            same.append(seat)
    return [seats for _, seats in found]


def _refusal(task: Task) -> str | None:
    if type(task) is not Classification:
        return f"task {type(task).__name__}"
    if task.cuda_graph or task.ranks is not None:
        return "trainer.cuda_graph" if task.cuda_graph else "trainer.strategy"
    return refusal(task.model, task.loss, task.optimizers(use_pl_optimizer=False))


def _meet(company: Sequence[Seat]) -> None:
    """Take the steps that all of a company wait for; leaves each what it asked for, or the error."""
    requests = [seat.request for seat in company]
    lead = requests[0].task
    device = lead.device
    members = [
        Member(
            one.task.model,
            one.task.optimizers(use_pl_optimizer=False),
            one.images,
            one.targets,
            one.task.l1,
            one.norms_at,
            one.task.take_norms,
            seat.random(device),
        )
        for seat, one in zip(company, requests, strict=True)
    ]
    try:
        losses, predicted = train_together(members, lead.loss, lead.autocast)
    except Exception as error:
        for seat in company:
            seat.found = error
        return
    sizes = [len(targets) for targets in requests[0].targets]
    for place, (seat, member) in enumerate(zip(company, members, strict=True)):
        seat.set_random(device, member.random)
        seat.found = losses[place].unbind(), predicted[place].split(sizes)
        requests[place].record.fused = max(requests[place].record.fused, len(company))
