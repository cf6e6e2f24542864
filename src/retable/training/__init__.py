"""What a training is made of beside model and loss: augmentation, averaged weights, early stopping, first weights."""

import lazy_loader

# The public names that conf/ gives in `_target_`: a module may move, they stay. Nothing is imported before it is used.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "augment": ["Augment", "GaussianNoise", "HorizontalFlip", "Rotate", "VerticalFlip"],
        "averaging": ["EMA", "SWA"],
        "csv_log": ["CSVLog"],
        "early_stop": ["Change", "Gap", "Patience"],
        "init": ["constant", "default", "he", "xavier", "zero"],
        "schedule": ["WarmupCosine"],
    },
)
