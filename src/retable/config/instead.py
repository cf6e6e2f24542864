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
    "extras": "tags=[...]; a run's config is printed by --cfg job, and lies in its config.yaml",
}


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
