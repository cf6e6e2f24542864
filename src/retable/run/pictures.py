"""A run's figures as images in TensorBoard, beside its curves."""

from pathlib import Path


def write_images(directory: Path, epoch: int) -> None:
    """Add every PNG of the run's figures to its validation events, under the figure's name, at an epoch."""
    from PIL import Image
    from tensorboard.compat.proto.summary_pb2 import Summary
    from torch.utils.tensorboard import FileWriter

    values = []
    for path in sorted((directory / "figures").glob("*.png")):
        with Image.open(path) as picture:
            width, height, channels = *picture.size, len(picture.getbands())
        # The file's own bytes: SummaryWriter.add_image would decode and compress them again.
        image = Summary.Image(width=width, height=height, colorspace=channels, encoded_image_string=path.read_bytes())
        values.append(Summary.Value(tag=path.stem, image=image))
    writer = FileWriter(str(directory / "val"), filename_suffix=".figures")
    writer.add_summary(Summary(value=values), epoch)
    writer.close()
