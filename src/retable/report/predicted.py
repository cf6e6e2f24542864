"""The spread over seeds, predicted from how single images came out.

Runs that differ in the seed alone err independently of one another on each image: the spread of their accuracy is what
follows from each image's chance to be right, which a few seeds show on thousands of images where they show a handful of
accuracies. Source: K. Jordan, "On the variance of neural network training with respect to test sets and distributions"
(ICLR 2024, arXiv 2304.01910), the hypothesis of example-wise independence: Var(accuracy) = sum of p (1 - p) over the N
images / N². From an image's values in several runs, p (1 - p) is estimated without bias by their sample variance; this
serves for other metrics (dice) too.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from retable.experiment.metrics import Metric
from retable.experiment.operands import Operand
from retable.experiment.statement import Comparison
from retable.report.runs import RunRecord
from retable.run.files import IMAGES

if TYPE_CHECKING:
    import numpy as np


def predicted_variance(values: "Sequence[np.ndarray]") -> float | None:
    """The variance over seeds of the mean over images; None for fewer than two runs, or runs of different images.

    Args: values: of each run, the value of every image; images that are NaN in any are left out.

    >>> import numpy as np
    >>> predicted_variance([np.array([1.0, 0, 1, 1]), np.array([1.0, 1, 1, 0])])
    0.0625
    """
    if len(values) < 2 or len({len(one) for one in values}) > 1:
        return None
    import numpy as np

    values_SN = np.stack(values)
    values_SN = values_SN[:, ~np.isnan(values_SN).any(0)]
    if not values_SN.shape[1]:
        return None
    return float(values_SN.var(0, ddof=1).sum()) / values_SN.shape[1] ** 2


def predicted_spread(
    comparison: Comparison, cells: Mapping[str, Sequence[RunRecord]], metrics: Mapping[str, Metric]
) -> float | None:
    """Standard deviation over seeds of a comparison's difference, in the metric's published unit.

    Args:
        cells: the runs that are compared, by cell.

    Returns:
        None where it rests on anything but means of last values of different cells whose runs have recorded images.
    """
    named = [cell for operand in comparison.operands for cell in operand.cells]
    if not named or len(set(named)) < len(named):
        return None
    parts = [variance_of(operand, cells, metrics) for operand in comparison.operands]
    return None if None in parts else math.sqrt(sum(part for part in parts if part is not None))


def variance_of(
    operand: Operand, cells: Mapping[str, Sequence[RunRecord]], metrics: Mapping[str, Metric]
) -> float | None:
    if operand.constant is not None:
        return 0.0
    metric = metrics[operand.metric]
    whole = operand.reduce == "mean" or len(operand.cells) == 1
    if not whole or not operand.when.final or metric.column is None or metric.reach is not None:
        return None
    found = [predicted_variance(values_by_image(cells[cell], metric.column)) for cell in operand.cells]
    if any(one is None for one in found):
        return None
    factor = operand.times * metric.scale / len(operand.cells)
    return factor**2 * sum(one for one in found if one is not None)


def values_by_image(runs: Sequence[RunRecord], column: str) -> "list[np.ndarray]":
    """Of each run the value of every image; empty where one has recorded none."""
    found = [images_of(Path(run.path, IMAGES)).get(column) if run.path else None for run in runs]
    return [] if any(one is None for one in found) else [one for one in found if one is not None]


def images_of(path: Path) -> "Mapping[str, np.ndarray]":
    return _read(path, path.stat().st_mtime_ns) if path.exists() else {}


@functools.lru_cache(maxsize=512)
def _read(path: Path, changed: int) -> "Mapping[str, np.ndarray]":
    from retable.run.images import read_images  # numpy, of which most pages have no need

    return read_images(path.parent)
