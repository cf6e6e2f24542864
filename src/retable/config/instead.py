"""Keys of Lightning's Trainer and of lightning-hydra-template that no config has here, and what does the same."""

INSTEAD = {
    "accelerator": "trainer.device=auto, cpu, cuda",
    "callbacks": "callbacks=... (conf/callbacks), or +callbacks.<name>._target_=...",
    "logger": "logger=... (conf/logger), or +logger.<name>._target_=...",
    "enable_checkpointing": "checkpoint=last, best, both, none",
    "default_root_dir": "output=..., sweep.dir=... or hydra.run.dir=...",
    "fast_dev_run": "debug=fast",
    "barebones": "logger=none checkpoint=none, which leave nothing to Lightning at a step",
    "use_distributed_sampler": "trainer=ddp, which deals out each mini-batch to its processes",
    "model_registry": "logger=mlflow or logger=wandb, and checkpoint=best",
}

# Of lightning-hydra-template's top level.
TEMPLATES = {
    "ckpt_path": "resume=<a run's folder> to go on with it, or retable evaluate <a run's folder>",
    "train": "retable train, which trains, and retable evaluate <a run's folder>, which does not",
    "test": "no key: a test set is used once, after training; trainer.limit_test_batches=0 leaves it out",
    "task_name": "task.name in the task's file, and tags=[...]",
    "optimized_metric": "task.metric",
    "paths": "data.root=..., output=... and sweep.dir=...",
    "hparams_search": "hydra/sweeper=optuna, with hydra.sweeper.params in the experiment's file or on the line",
    "extras": "tags=[...]; a run's config is printed by --cfg job, and lies in its config.yaml",
}

# Hydra's own plugins, by the option that each brings.
PLUGINS = {
    "hydra/launcher=joblib": "hydra-joblib-launcher",
    "hydra/launcher=rq": "hydra-rq-launcher",
    "hydra/launcher=submitit_local": "hydra-submitit-launcher",
    "hydra/launcher=submitit_slurm": "hydra-submitit-launcher",
    "hydra/launcher=ray_aws": "hydra-ray-launcher",
    "hydra/sweeper=ax": "hydra-ax-sweeper",
    "hydra/sweeper=nevergrad": "hydra-nevergrad-sweeper",
}


def plugin(choice: str) -> str:
    """How an option that isn't there comes to be, behind a message that refuses it; empty where nothing is known.

    >>> plugin("hydra/launcher=joblib"), plugin("hydra/launcher=foo")
    ('; joblib comes with: pip install hydra-joblib-launcher', '')
    """
    return f"; {choice.partition('=')[2]} comes with: pip install {PLUGINS[choice]}" if choice in PLUGINS else ""


def refusal(key: str) -> str | None:
    """The message that refuses such a key, e.g. `trainer.logger`; None for any other.

    >>> refusal("trainer.fast_dev_run"), refusal("trainer.max_epochs")
    ('trainer.fast_dev_run: not a key here; accepted: debug=fast', None)
    """
    section, _, name = key.partition(".")
    if section in TEMPLATES:
        return f"{key}: not a key here; accepted: {TEMPLATES[section]}"
    if section != "trainer" or name not in INSTEAD:
        return None
    return f"{key}: not a key here; accepted: {INSTEAD[name]}"
