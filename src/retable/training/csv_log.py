"""Lightning's CSV logger, which goes on where a run was interrupted; its own would begin its file anew."""

import csv
from pathlib import Path

from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter


class _Continued(ExperimentWriter):
    def _check_log_dir_exists(self) -> None:
        path = Path(self.metrics_file_path)
        if path.exists():
            with path.open(newline="") as file:
                self.metrics_keys = next(csv.reader(file), [])


class CSVLog(CSVLogger):
    """A row each time that something is logged, in `csv/metrics.csv` of a run, and its hyperparameters beside it.

    Args:
        save_dir: the run's directory.
    """

    def __init__(self, save_dir: str | Path) -> None:
        super().__init__(save_dir, name="", version="csv", flush_logs_every_n_steps=1)

    @property
    def experiment(self) -> ExperimentWriter:
        if self._experiment is None:
            Path(self.log_dir).mkdir(parents=True, exist_ok=True)
            self._experiment = _Continued(log_dir=self.log_dir)
        return self._experiment
