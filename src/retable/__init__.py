"""An ablation study as code: one YAML file per published table goes in, the regenerated table comes out.

From Python, the same as on the command line:

    retable.sweep("task=cifar", "dropout=0.2,0.3", "seeds=3")     a DataFrame, a row a run
    retable.train("task=mnist", "data=sample", quiet=True)        one run's result, with its directory
    trained = retable.load("multirun/mnist/default__seed-0")      a trained model with what it takes to use it
    retable.predict(trained, "photos")                            labels of images
    retable.evaluate(trained, "data/mnist")                       metrics on any set of the task's format
    retable.report("multirun")                                    the tables of finished runs, as DataFrames and pages
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retable.version import __version__ as __version__

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from retable.commands.evaluate import Evaluation
    from retable.commands.predictions import Prediction
    from retable.run.foreign_use import TrainedModule
    from retable.run.restore import Trained

__all__ = ["evaluate", "load", "predict", "report", "sweep", "train"]


def sweep(*overrides: str, quiet: bool = False) -> "pd.DataFrame":
    """Run a sweep and return its table: a row a run with what varies, the final metrics, status, time and directory.

    Args:
        overrides: as on the command line, e.g. "experiment=cifar/dropout", "trainer.max_epochs=5", "seeds=3".
        quiet: print nothing.

    Raises:
        retable.errors.RetableError: one line, for what is refused before anything runs. Runs that fail do not raise:
            their rows say `failed`.
    """
    import pandas as pd

    from retable.run.output import lasting_output
    from retable.sweeps import results
    from retable.sweeps.session import sweep as run_sweep

    with _silence(quiet), lasting_output():
        plan, _ = run_sweep(list(overrides))
    return pd.DataFrame(results.rows(plan.runs))


def train(*overrides: str, quiet: bool = False) -> dict[str, Any]:
    """Train one run in this process, in a new directory below `output`.

    Args:
        overrides: as on the command line, e.g. "task=mnist", "data=sample", "dropout=0.3".
        quiet: print nothing.

    Returns:
        What result.json holds, and the run's directory under "directory".

    Raises:
        retable.errors.RetableError: one line, for what is refused.
        Exception: whatever went wrong in training; the directory's result.json says so too.
    """
    from retable.config.compose import Composer
    from retable.run.output import lasting_output
    from retable.run.single import execute_logged, new_run

    config = Composer().compose(overrides).config
    with _silence(quiet), lasting_output():
        directory, config = new_run(config, overrides)
        return execute_logged(config, directory) | {"directory": directory}


def load(checkpoint: str | Path, trust: bool = False, which: str | None = None) -> "Trained | TrainedModule":
    """A trained model with its task, classes and normalisation, from a checkpoint or a run's directory; of a
    LightningModule of one's own the module, with its run's config.

    Args:
        trust: build whatever classes its config names, which may execute code.
        which: of a run's directory: its "last" or its "best" checkpoint; None: the last one where there is one.

    Raises:
        retable.errors.DataError: one line, if it is missing, damaged, or would execute code.
    """
    from retable.run.restore import load as restore

    return restore(Path(checkpoint), trust, which)


def predict(trained: "Trained | TrainedModule", *paths: str | Path) -> "list[Prediction] | dict[str, np.ndarray]":
    """The label of each image below files, folders or archives; see `retable predict --help` for what is read.

    Of a LightningModule of one's own, without paths: what its predict_step gives for its DataModule's
    predict_dataloader, in one array a name.

    Raises:
        retable.errors.DataError: one line naming the file, if something can't be read.
    """
    from retable.commands.predictions import predict as label
    from retable.run.foreign_use import TrainedModule, predictions

    if isinstance(trained, TrainedModule):
        if paths:
            raise TypeError(f"{paths[0]}: its DataModule says what a LightningModule of one's own predicts")
        return predictions(trained)
    return label(trained, [Path(path) for path in paths])


def evaluate(
    trained: "Trained | TrainedModule", data: str | Path | None = None, split: str | None = None
) -> "Evaluation":
    """Metrics of a trained model on a set of its task's format, by class and by image.

    Args:
        data: the set's folder, as data.root holds it for this task; None for a LightningModule of one's own, which is
            measured on its own DataModule.
        split: train, val, test or all; by default test where the set has one, else val.

    Raises:
        retable.errors.RetableError: one line, for a set that can't be read.
    """
    from retable.commands.evaluate import evaluate as measure

    return measure(trained, None if data is None else Path(data), split, {})


def report(
    *paths: str | Path,
    experiments: Sequence[str] = (),
    output: str | Path | None = None,
    quiet: bool = False,
) -> "dict[str, pd.DataFrame]":
    """Make the tables of finished runs, with a verdict on every claim, as pages and as DataFrames.

    Args:
        paths: a sweep's folder, a task's, or a run's directory; by default multirun.
        experiments: tables to make, by default every one of which there is a run.
        output: folder of the pages, by default `tables` below the first path.
        quiet: print nothing.

    Returns:
        What each table's report.csv holds, by the table's name: a row a cell and metric. {} of sweeps without a table.

    Raises:
        retable.errors.ConfigError: one line, where there is no run, or none of a table.
    """
    import io

    import pandas as pd

    from retable.commands.report import make_pages
    from retable.report.csv import csv_text

    with _silence(quiet):
        found = make_pages([Path(path) for path in paths or ("multirun",)], output and Path(output), experiments)
    return {one.table.name: pd.read_csv(io.StringIO(csv_text(one))) for one in found}


_report = report  # the package retable.report takes the name once it is imported, and is called in its place


@contextlib.contextmanager
def _silence(quiet: bool) -> Iterator[None]:
    if not quiet:
        yield
        return
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
        yield
