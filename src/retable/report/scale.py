"""How far a run is from what was published: other data, fewer epochs, less of the data; and what can then be concluded.

Sample data: no claim is evaluated. Reduced scale: claims that compare runs with each other hold "at this scale";
thresholds and differences from published values are "not comparable". Settings that were assumed change nothing, and
a share of the data that a cell is published for (report E.1) is no reduction.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from retable.config.keys import SCALE, lookup
from retable.config.stepping import limits_in_time
from retable.report.runs import RunRecord

SAMPLE = "sample data"


@dataclass(frozen=True, order=True)
class Scale:
    """How far a run is reduced, by planned epochs, so that early stopping is no reduction.

    sample: whether its data are a sample. published: the published epochs. fraction: of the cell's own data. limits: of
    batches or steps, as text.
    """

    sample: bool
    epochs: int
    published: int
    fraction: float = 1.0
    limits: str = ""

    @property
    def reduced(self) -> bool:
        return self.epochs < self.published or self.fraction < 1 or bool(self.limits)

    @property
    def full(self) -> bool:
        return not self.sample and not self.reduced

    def like(self, other: "Scale") -> bool:
        """Whether results of both may stand side by side: as many epochs, or the same share of the published ones."""
        same_share = min(1, self.epochs / self.published) == min(1, other.epochs / other.published)
        same = (self.sample, self.fraction, self.limits) == (other.sample, other.fraction, other.limits)
        return same and (same_share or self.epochs == other.epochs)

    def __str__(self) -> str:
        parts = [SAMPLE] if self.sample else []
        if self.epochs < self.published:
            parts.append(f"{self.epochs} of {self.published} epochs")
        if self.fraction < 1:
            parts.append(f"{100 * self.fraction:g} % of the training data")
        return ", ".join(parts + ([self.limits] if self.limits else []))


def scale_of(record: RunRecord, published_epochs: int, published_fraction: float = 1.0) -> Scale:
    """The scale of a run. Args: published_epochs, published_fraction: of the run's cell."""
    config, epochs = record.config, record.planned_epochs
    if epochs is None and lookup(config, "trainer.max_epochs") is not None:
        epochs = record.trained_epochs  # those that max_steps, max_time or a rule have left it
    limits = []
    for key in (key for key in SCALE if key.startswith("trainer.limit_")):
        value = lookup(config, key, 1.0)
        # A whole number is a number of batches, also 1; a float is a share.
        if isinstance(value, int) or (value is not None and value < 1):
            limits.append(f"{key}={value}")
    if lookup(config, "trainer.overfit_batches"):
        limits.append(f"trainer.overfit_batches={lookup(config, 'trainer.overfit_batches')}")
    if record.planned_epochs and record.trained_epochs < record.planned_epochs:
        limits += limits_in_time(config)
    if (lookup(config, "trainer.max_steps", -1) or -1) > 0:
        limits.append(f"trainer.max_steps={lookup(config, 'trainer.max_steps')}")
    return Scale(
        sample=record.source == "sample",
        epochs=epochs or published_epochs,
        published=published_epochs,
        fraction=float(lookup(config, "data.fraction", 1.0) or 1.0) / published_fraction,
        limits=", ".join(limits),
    )


def alike(scales: Iterable[Scale]) -> bool:
    scales = list(scales)
    return all(scale.like(scales[0]) for scale in scales[1:])


def describe(scales: Iterable[Scale]) -> str:
    """The distinct reductions, e.g. `3 of 100 epochs, 10 % of the training data`; empty at full scale."""
    return "; ".join(str(scale) for scale in sorted(set(scales)) if not scale.full)
