"""Segmentation losses, one an option of conf/loss: `pixel` by pixel, `overlap` by region, `combined` sums of both.

All share `base.ImageLoss`: a loss an image, averaged over the batch. `smp` holds those that segmentation-models-pytorch
computes; it is apart because importing that library takes seconds.
"""
