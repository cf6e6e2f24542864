"""Every value of `trainer.precision`: what is accepted, what `auto` comes to, and what Lightning calls it.

`auto` is decided in two steps. Devices decide first, as a sweep is planned, so that a run is the same one on all GPUs
of a machine (`by_devices`); where they leave two choices, the work of a training step decides as the run starts
(`by_work`), because half precision pays only where multiplying takes the time: a step of a small network is short of
kernel launches, and casts add to them (19 of 59 in a step of B1.2, 23 of 75 in one of A1: benchmarks/README.md).
retable.run.devices knows what GPUs there are, retable.run.precision what work a step is. Imports no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from retable.errors import RetableError

MIXED_FROM = 20e9  # floating-point operations a step
_BF16_FROM = 8.0  # compute capability of the first GPUs with bfloat16 and TF32
_HALF_FROM = 7.0  # and of those whose float16 is faster by more than it costs


@dataclass(frozen=True)
class _ByWork:
    """What is left for the work of a step to decide: its precision from `MIXED_FROM` on, below, and of unknown work."""

    heavy: str
    light: str
    unknown: str


_BY_WORK = {
    "bf16-auto": _ByWork("bf16-mixed", "tf32", "bf16-mixed"),
    "16-auto": _ByWork("16-mixed", "32", "32"),  # float16 needs a scaler, which is no matter of course
}
_LIGHTNINGS = {"32": "32-true", "tf32": "32-true"}  # where its names are others than ours
# Lightning's further names of a precision, each with the one that a run's config has.
_OURS = {"16": "16-mixed", "bf16": "bf16-mixed", "32": 32, "32-true": 32, "64": "64-true"}
NAMES = ("auto", "32", "tf32", "64-true", "bf16-mixed", "bf16-true", "16-mixed", "16-true", *_BY_WORK)
MIXED = ("bf16-mixed", "16-mixed")


def ours(name: object) -> object:
    """The one name of a precision that Lightning knows by several; any other value as it is.

    >>> ours("bf16"), ours(16), ours("32-true"), ours("64"), ours("tf32"), ours("double")
    ('bf16-mixed', '16-mixed', 32, '64-true', 'tf32', 'double')
    """
    return _OURS.get(str(name), name)


def by_devices(wanted: object, capabilities: Sequence[float]) -> str:
    """What trainer.precision comes to as far as devices decide.

    Args:
        wanted: as in the config.
        capabilities: compute capabilities of the GPUs that the run may use; none: it trains on CPUs.

    Raises:
        RetableError: for 16-mixed without a GPU: CPUs have no fast float16 arithmetic.

    >>> by_devices("auto", []), by_devices("auto", [9.0, 7.5]), by_devices("auto", [9.0]), by_devices("bf16-true", [])
    ('32', '16-auto', 'bf16-auto', 'bf16-true')
    """
    if str(wanted) == "16-mixed" and not capabilities:
        raise RetableError(
            "trainer.precision=16-mixed: needs a GPU; accepted here: auto, 32, 64-true, bf16-mixed, bf16-true"
        )
    if str(wanted) != "auto":
        return str(wanted)
    oldest = min(capabilities, default=0.0)
    return "bf16-auto" if oldest >= _BF16_FROM else "16-auto" if oldest >= _HALF_FROM else "32"


def depends_on_work(precision: str) -> bool:
    """Whether the work of a step has still to decide."""
    return precision in _BY_WORK


def by_work(precision: str, operations: float, cuda_graph: bool) -> str:
    """What a precision of `by_devices` comes to for a training step of so many floating-point operations.

    >>> by_work("bf16-auto", 3e10, False), by_work("bf16-auto", 1e9, False), by_work("16-auto", 3e10, True)
    ('bf16-mixed', 'tf32', '32')
    """
    if precision not in _BY_WORK:
        return precision
    choice = _BY_WORK[precision]
    if operations < MIXED_FROM or (choice.heavy == "16-mixed" and cuda_graph):
        return choice.light  # a scaler looks at every step's gradients, which a recorded step can't
    return choice.heavy


def of_unknown_work(precision: str) -> str:
    """The same for a module of somebody's own, the work of whose steps nobody knows."""
    return _BY_WORK[precision].unknown if precision in _BY_WORK else precision


def lightnings(precision: str) -> str:
    """What Lightning's Trainer calls a precision.

    >>> lightnings("tf32"), lightnings("bf16-mixed"), lightnings("bf16-auto")
    ('32-true', 'bf16-mixed', 'bf16-mixed')
    """
    known = of_unknown_work(str(precision))
    return _LIGHTNINGS.get(known, known)


def without_gpu(precision: str) -> str:
    """What a run trained in some precision is evaluated in on CPUs, which have no fast float16.

    >>> without_gpu("16-mixed"), without_gpu("bf16-auto"), without_gpu("bf16-mixed")
    ('32', '32', 'bf16-mixed')
    """
    return "32" if precision.startswith("16-") or precision in _BY_WORK else precision


def is_full(precision: str) -> bool:
    """Whether it is float32 or more throughout, in this project's names or in Lightning's; also where it is yet open.

    >>> is_full("32"), is_full("64-true"), is_full("tf32"), is_full("bf16-mixed")
    (True, True, False, False)
    """
    return precision in ("auto", "32", "32-true", "64", "64-true")
