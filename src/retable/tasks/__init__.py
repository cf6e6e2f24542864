"""LightningModules: what a model is trained for, and which metrics say how well it does."""

import lazy_loader

# The public names that conf/ gives in `_target_`: a module may move, they stay. Nothing is imported before it is used.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "base": ["Task"],
        "classification": ["Classification"],
        "segmentation": ["Segmentation"],
        "detection": ["Detection"],
    },
)
