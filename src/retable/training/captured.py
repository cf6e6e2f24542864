"""Training steps recorded once as a CUDA graph and replayed: one launch in place of forty or more a step.

Small networks keep a GPU waiting for Python. Counted on a stand-in that computes nothing (benchmarks/launches.py): an
epoch of B1.2 launches 78,550 kernels eagerly, and 3,122 kernels and 155 graphs recorded; no GPU has timed it yet. A
replayed step does the same arithmetic with the kernels of an eager one, at the cost of one launch; `BLOCK` steps in a
row over mini-batches that lie side by side are one graph, too. A chunk of mini-batches is gathered by one launch
(retable.data.loader), so that nothing has to count steps on the device to gather them there. What may change between
steps lies in tensors at fixed addresses: the images are copied in, the losses and what is kept of the outputs are
copied out, and the rates that a scheduler moves are written to (retable.training.rates). Numbers that are left in
Python are part of the recording, so it is made anew when one of them changes.

Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#whole-network-capture
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from retable.errors import RetableError, first_line, out_of_memory
from retable.training.rates import RatesOnDevice

Step = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
BLOCK = 25  # steps a graph: norms of gradients, taken after each 50th step, are then those of a graph's last one
WARM_UP = 3  # eager steps before the first recording: they allocate what lasts, e.g. an optimizer's momentum


class Recorder(Protocol):
    """Where steps run and how they are recorded. `CudaRecorder`, or a test's."""

    def eager(self, work: Callable[[], Any]) -> Any:
        """Do some work; returns what it returns."""

    def record(self, work: Callable[[], Any], parameters: Sequence[nn.Parameter]) -> Callable[[], None]:
        """Record some work without doing it. Returns what does it, and leaves the parameters' gradients in place."""


class CudaRecorder:
    """Steps on a stream of their own, as recording asks for, in order with the current stream's work."""

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()
        self._pool = torch.cuda.graph_pool_handle()
        self._last: torch.cuda.CUDAGraph | None = None  # keeps the pool, where the next recording finds its memory

    def eager(self, work: Callable[[], Any]) -> Any:
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            found = work()
        current.wait_stream(self._stream)
        return found

    def record(self, work: Callable[[], Any], parameters: Sequence[nn.Parameter]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            work()
        self._last = graph
        gradients = [p.grad for p in parameters]

        def replay() -> None:
            graph.replay()
            if any(p.grad is not g for p, g in zip(parameters, gradients, strict=True)):  # an eager step came between
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter.grad = gradient

        return replay


class CapturedStep:
    """Takes steps eagerly until one can be recorded, then replays it for every mini-batch of the same shape.

    Args:
        step: (images, targets) -> (loss, what is kept of the outputs), one whole optimizer step, both detached; or what
            is done without an optimizer, e.g. an evaluation.
        rates: of the optimizer, whose state is kept on the device (see `keep_on_device`).
        parameters: what it trains.
        recorder: where it is recorded.

    Raises:
        RetableError: when called, for a step that can't be recorded. A lack of memory is reported as one.
    """

    def __init__(
        self,
        step: Step,
        rates: RatesOnDevice | None = None,
        parameters: Sequence[nn.Parameter] = (),
        recorder: Recorder | None = None,
    ) -> None:
        self._step, self._rates, self._parameters = step, rates, list(parameters)
        self._recorder = recorder or CudaRecorder()
        self._eager_left = WARM_UP
        self._shapes: tuple[torch.Size, torch.Size] | None = None
        self._settings: list[dict[str, Any]] = []
        self._recordings: dict[int, _Recording] = {}  # by number of steps

    def __call__(self, images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """One optimizer step."""
        if self._rates is not None:
            self._rates.refresh()
        shapes = images.shape, targets.shape
        self._shapes = self._shapes or shapes
        if shapes != self._shapes or self._eager_left > 0:  # e.g. an epoch's last, smaller mini-batch
            self._eager_left -= shapes == self._shapes
            return self._recorder.eager(lambda: self._step(images, targets))
        loss, kept = self._replayed(1, images, targets)
        return loss[0], kept

    def takes(self, images: torch.Tensor) -> bool:
        """Whether `block` can go through mini-batches of the size of these images."""
        return self._eager_left == 0 and self._shapes is not None and images.shape == self._shapes[0]

    def block(self, images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`BLOCK` optimizer steps. Their losses (BLOCK,), and what is kept of all outputs.

        Args:
            images, targets: `BLOCK` mini-batches, one behind the other.
        """
        if self._rates is not None:
            self._rates.refresh()
        return self._replayed(BLOCK, images, targets)

    def _replayed(self, steps: int, images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        settings = [] if self._rates is None else self._rates.settings()
        if settings != self._settings:
            for recording in self._recordings.values():
                recording.replay = None  # its memory goes before the next one's comes
            self._settings = settings
        if steps not in self._recordings:
            self._recordings[steps] = _Recording(torch.empty_like(images), torch.empty_like(targets))
        found = self._recordings[steps]
        found.images.copy_(images)
        found.targets.copy_(targets)
        if found.replay is None:
            self._record(found, steps)
        found.replay()
        return found.losses.clone(), found.kept.clone()

    def _record(self, found: "_Recording", steps: int) -> None:
        def work() -> None:
            parts = zip(found.images.chunk(steps), found.targets.chunk(steps), strict=True)
            losses, kept = zip(*(self._step(*part) for part in parts), strict=True)
            found.losses, found.kept = torch.stack(losses), torch.cat(kept) if steps > 1 else kept[0]

        try:
            found.replay = self._recorder.record(work, self._parameters)
        except RuntimeError as error:
            if out_of_memory(error):
                raise  # it may fit another time, alone or in smaller mini-batches
            raise RetableError(
                f"trainer.cuda_graph=true: a training step of this model, loss and optimizer can't be captured"
                f" ({first_line(error)}); accepted: false"
            ) from error


@dataclass
class _Recording:
    """Tensors of some steps: images, targets, losses (steps,), what is kept of the outputs; and what replays them."""

    images: torch.Tensor
    targets: torch.Tensor
    losses: torch.Tensor | None = None
    kept: torch.Tensor | None = None
    replay: Callable[[], None] | None = None


def keep_on_device(optimizer: torch.optim.Optimizer, wanted: bool) -> None:
    """Have an optimizer count its steps on the device, as a recorded step needs it, or as torch does by itself.

    Fused optimizers count there always. To be called when its state is restored: a checkpoint brings along how it was
    when it was written.
    """
    for group in optimizer.param_groups:
        if "capturable" in group:
            group["capturable"] = wanted
            there = wanted or group.get("fused")
            for parameter in group["params"]:
                state = optimizer.state.get(parameter, {})
                if torch.is_tensor(state.get("step")):
                    state["step"] = state["step"].to(parameter.device if there else "cpu")
