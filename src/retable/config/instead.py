"""Keys of Lightning's Trainer that `trainer` does not have: what each is for has a key or a group of its own here."""

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


def refusal(key: str) -> str | None:
    """The message that refuses such a key, e.g. `trainer.logger`; None for any other.

    >>> refusal("trainer.fast_dev_run"), refusal("trainer.max_epochs")
    ('trainer.fast_dev_run: not a key here; accepted: debug=fast', None)
    """
    section, _, name = key.partition(".")
    if section != "trainer" or name not in INSTEAD:
        return None
    return f"{key}: not a key here; accepted: {INSTEAD[name]}"
