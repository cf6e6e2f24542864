"""A run's figures as images in TensorBoard, beside its curves."""

from pathlib import Path


def write_images(directory: Path, epoch: int) -> None:
    """Add every PNG of the run's figures to its validation events, under the figure's name, at an epoch."""
    import numpy as np
    from PIL import Image
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(directory / "val"), filename_suffix=".figures") as writer:
        for path in sorted((directory / "figures").glob("*.png")):
            with Image.open(path) as picture:
                writer.add_image(path.stem, np.asarray(picture.convert("RGB")), epoch, dataformats="HWC")
