"""Whether a worker takes another run after one that failed."""

import io
import json
import os

import pytest
import torch

from retable.run import execute as execution
from retable.run import files
from retable.sweeps import worker


class Left(Exception):
    """The process would have ended."""


@pytest.fixture
def ended(monkeypatch, tmp_path):
    """(what a run raises, whether CUDA is in use) -> what the worker says at its end, and whether it leaves."""

    def leave(code):
        raise Left

    def run(error, cuda):
        def fail(*_, **__):
            raise error

        monkeypatch.setattr(execution, "execute", fail)
        monkeypatch.setattr(files, "read_run", lambda directory: {"config": {"seed": 0, "trainer": {"max_epochs": 1}}})
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: cuda)
        monkeypatch.setattr(os, "_exit", leave)
        monkeypatch.setattr(worker, "_has_company", lambda: False)  # of the tests' own process group
        output, left = io.StringIO(), False
        try:
            worker.Worker(io.StringIO(), output)._run({"directories": [str(tmp_path)]})
        except Left:
            left = True
        event = json.loads(output.getvalue().splitlines()[-1])
        assert event["leaving"] == left
        return event

    return run


@pytest.mark.parametrize(
    ("words", "cuda", "leaving", "memory"),
    [
        ("wrong on purpose", False, False, False),
        ("wrong on purpose", True, True, False),  # a recording may be unfinished
        ("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", True, True, False),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", True, True, True),
        ("CUDA driver initialization failed", False, True, False),
        ("DefaultCPUAllocator: not enough memory: you tried to allocate 4 bytes.", False, False, True),
    ],
)
def test_a_worker_whose_cuda_context_may_have_failed_is_replaced(ended, words, cuda, leaving, memory):
    event = ended(RuntimeError(words), cuda)
    assert (event["leaving"], event["memory"]) == (leaving, memory)
    assert event["reason"] == f"RuntimeError: {words}"


@pytest.mark.parametrize(
    ("trainer", "settled"),
    [
        ({}, 1),
        ({"check_val_every_n_epoch": 1, "cuda_graph": False}, 1),
        ({"check_val_every_n_epoch": 2}, 2),
        ({"check_val_every_n_epoch": None}, 1),  # val_check_interval says when, in batches
        # Of an epoch with one mini-batch, in training or validation, three are eager and the fourth is recorded.
        ({"cuda_graph": True}, 4),
        ({"check_val_every_n_epoch": 2, "cuda_graph": True}, 8),
    ],
)
def test_what_a_run_needs_of_a_gpu_is_reported_once_it_has_validated_and_recorded(monkeypatch, trainer, settled):
    events = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 3 << 30)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (5 << 30, 8 << 30))
    monkeypatch.setattr(worker, "_PROGRESS_EVERY", -1)
    one = worker.Worker(io.StringIO(), io.StringIO())
    monkeypatch.setattr(one, "_say", lambda **event: events.append((event.get("gpu_mb"), event["free_mb"])))
    progress = worker._Progress(one, "here", 60, settled=worker.settled_after(trainer))
    for epoch in range(settled):
        progress.chunk(64, 0.5)
        progress.epoch({"epoch": 50 + epoch, "train/loss": 0.5})  # it goes on from its checkpoint
    progress.chunk(64, 0.5)
    assert events == [(None, 5120)] * (2 * settled - 1) + [(3072, 5120)] * 2


@pytest.mark.parametrize(
    ("metric", "row", "score"),
    [
        ("recon", {"val_acc": 0.5, "recon": 0.25}, {"recon": 0.25}),
        ("val/dice", {"val/loss": 0.1, "val/accuracy": 0.5, "val/dice": 0.75}, {"val/dice": 0.75}),
        ("val/dice", {"val/accuracy": 0.5, "val/dice": float("nan")}, {"val/accuracy": 0.5}),
        ("recon", {"epoch": 1}, {}),
    ],
)
def test_a_runs_progress_tells_the_tasks_own_metric(monkeypatch, metric, row, score):
    one = worker.Worker(io.StringIO(), io.StringIO())
    events = []
    monkeypatch.setattr(one, "_say", lambda **event: events.append(event))
    progress = worker._Progress(one, "here", 2, metric)
    progress.epoch(row | {"epoch": 1})
    assert events[-1]["score"] == score
