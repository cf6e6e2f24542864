"""Losses, one an option of conf/loss: of `masks` by pixel, by region or both, of `boxes` of objects.

All of masks share `base.ImageLoss`: a loss an image, averaged over the batch. `smp` holds those that
segmentation-models-pytorch computes; it is not listed here because importing that library takes seconds.
"""

import lazy_loader

# The public names that conf/ gives in `_target_`: a module may move, they stay. Nothing is imported before it is used.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "boxes": ["Boxes"],
        "masks": ["PixelCrossEntropy", "Focal", "Dice", "InverseDice", "CrossEntropyDice", "DiceBCE", "Switching"],
        "smp": ["Lovasz", "Tversky"],
    },
)
