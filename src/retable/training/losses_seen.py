"""Losses of training steps as the host sees them: are they finite, and the last one, without waiting for a GPU.

With counts that wait for nothing either, a chunk of steps on a GPU has no synchronisation in place of 4, counted on a
stand-in for CUDA's libraries (benchmarks/README.md); no GPU has timed it.
"""

from collections import deque
from collections.abc import Callable

import torch


class LossesSeen:
    """Looks at losses in the order in which they came, when they have come.

    On a GPU they are copied behind the work that is queued, and looked at when that copy is done, so that the host goes
    on launching; on a CPU they are looked at at once.

    Args:
        diverged: called with the number of the first loss that is not finite; it raises.
        seen: called with how many losses have been looked at, and the last of them.
    """

    def __init__(self, diverged: Callable[[int], None], seen: Callable[[int, float], None]) -> None:
        self._diverged, self._seen = diverged, seen
        self._coming: deque[tuple[int, torch.Tensor, torch.cuda.Event | None]] = deque()

    def add(self, first: int, losses_K: torch.Tensor) -> None:
        """Take in some losses.

        Args:
            first: number of the first of them.
        """
        event = None
        if losses_K.is_cuda:
            losses_K = losses_K.to("cpu", non_blocking=True)  # into memory that the device can write to by itself
            event = torch.cuda.Event()
            event.record()
        self._coming.append((first, losses_K, event))
        self.look()

    def look(self, wait: bool = False) -> None:
        """Look at what has come; with `wait`, at everything."""
        while self._coming:
            first, losses_K, event = self._coming[0]
            if event is not None and wait:
                event.synchronize()
            if event is not None and not event.query():
                return
            self._coming.popleft()
            finite = torch.isfinite(losses_K)
            if not bool(finite.all()):
                self._diverged(first + int((~finite).nonzero()[0]))
            self._seen(len(losses_K), float(losses_K[-1]))

    def forget(self) -> None:
        """Leave what has not been looked at: an epoch begins."""
        self._coming.clear()
