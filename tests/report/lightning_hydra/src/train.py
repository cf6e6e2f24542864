"""Train one run: `python src/train.py model.optimizer.lr=0.1 seed=3`.

Laid out as lightning-hydra-template lays projects out; nothing here knows of retable.
"""

import os
from pathlib import Path

import hydra
import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf

os.environ.setdefault("PROJECT_ROOT", str(Path(__file__).resolve().parents[1]))


@hydra.main(version_base="1.3", config_path="../configs", config_name="train.yaml")
def main(config: DictConfig) -> float:
    pl.seed_everything(config.seed, workers=True)
    loggers = [hydra.utils.instantiate(logger) for logger in config.logger.values()]
    callbacks = [hydra.utils.instantiate(callback) for callback in config.callbacks.values()]
    trainer = hydra.utils.instantiate(config.trainer, callbacks=callbacks, logger=loggers)
    data, model = hydra.utils.instantiate(config.data), hydra.utils.instantiate(config.model)
    for logger in loggers:
        logger.log_hyperparams(OmegaConf.to_container(config, resolve=True))
    trainer.fit(model, data)
    trainer.test(model, data, ckpt_path="best")
    return float(trainer.callback_metrics["test/acc"])


if __name__ == "__main__":
    main()
