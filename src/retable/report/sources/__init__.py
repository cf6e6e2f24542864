"""Runs that other programs have recorded, read as this project's own records. Nothing is written, no network is used.

One small class a program, chosen by name: `source("mlflow").read("mlruns")`.
"""

from importlib import import_module

from retable.errors import ConfigError
from retable.report.sources.base import Source

SOURCES = {
    "csv": "CSV",
    "hydra": "Hydra",
    "mlflow": "MLflow",
    "tensorboard": "TensorBoard",
    "wandb": "WandB",
}


def source(name: str) -> Source:
    """The reader of a program's runs.  Raises: ConfigError for another name."""
    if name not in SOURCES:
        raise ConfigError(f"--from {name}: accepted: {', '.join(SOURCES)}")
    found: Source = getattr(import_module(f"{__name__}.{name}"), SOURCES[name])()
    return found
