"""Losses, one an option of conf/loss: `pixel` by pixel, `overlap` by region, `combined` both, `boxes` of objects.

All of masks share `base.ImageLoss`: a loss an image, averaged over the batch. `smp` holds those that
segmentation-models-pytorch computes; it is not listed here because importing that library takes seconds.
"""

import lazy_loader

# The public names that conf/ gives in `_target_`: a module may move, they stay. Nothing is imported before it is used.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "boxes": ["Boxes"],
        "combined": ["CrossEntropyDice", "DiceBCE", "Switching"],
        "overlap": ["Dice", "InverseDice"],
        "pixel": ["Focal", "PixelCrossEntropy"],
        "smp": ["Lovasz", "Tversky"],
    },
)
