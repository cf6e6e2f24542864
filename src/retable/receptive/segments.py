"""The second method of report D2: remove segments of an image until its class flips; what is left is what mattered.

Source: report D2; Zhou, Khosla, Lapedriza, Oliva, Torralba 2015, arXiv 1412.6856, section 3.1, where the segment whose
removal lowers the score least is removed first, until the image is misclassified. A removed segment is painted in the
image's mean colour (assumed; a black or white hole would be an object of its own).
"""

from dataclasses import dataclass

import numpy as np
import torch

from retable.errors import ConfigError
from retable.receptive.network import Network
from retable.receptive.progress import Progress


@dataclass(frozen=True)
class Remaining:
    """What is left of an image.

    Attributes:
        label: the class of the whole image.
        flipped: the class that it would get with the next segment removed, or None if no removal changes it.
        segments: (H, W) number of each pixel's segment.
        order: the removed segments, in the order of removal.
        scores: score (logit) of the class before the first removal, and after each one.
        kept: (H, W) True where a pixel is left.
    """

    label: int
    flipped: int | None
    segments: np.ndarray
    order: tuple[int, ...]
    scores: tuple[float, ...]
    kept: np.ndarray


def segment(pixels: np.ndarray, way: str, count: int = 40) -> np.ndarray:
    """Divide a uint8 image (C, H, W) into segments; the number of each pixel's segment (H, W), from 0.

    Args:
        way: "slic" (about `count` segments of similar size) or "felzenszwalb" (their number follows the image's edges).
        count: the number of slic's segments; the least size of felzenszwalb's is 1 / (2 count) of the image.
    """
    from skimage.segmentation import felzenszwalb, relabel_sequential, slic

    image = pixels.transpose(1, 2, 0).astype(np.float64) / 255
    if way == "slic":
        grey = {"convert2lab": False, "compactness": 0.1} if len(pixels) == 1 else {}
        found = slic(image, n_segments=count, start_label=0, **grey)
    else:
        smallest = max(image.shape[0] * image.shape[1] // (2 * count), 1)
        found = felzenszwalb(image, scale=100, min_size=smallest, channel_axis=-1)
    return relabel_sequential(found + 1)[0] - 1


@torch.inference_mode()
def remove(network: Network, pixels: np.ndarray, segments: np.ndarray, batch: int, progress: Progress) -> Remaining:
    """Remove segments one after another, each time the one that lowers the class score least, until the class flips.

    The removal that would flip the class is not made, so that what is left still has it.

    Args:
        network: a classifier in evaluation mode.
        pixels: uint8 image (C, H, W).
        segments: (H, W) numbers from 0.
        batch: images that go through the network at once.
        progress: counts these images.

    Raises:
        ConfigError: if the network does not output class scores (N, 2 or more).
    """
    image = torch.from_numpy(pixels)
    colour = torch.from_numpy(pixels.mean((1, 2)).round().astype(np.uint8))[:, None, None]
    kept = torch.ones(segments.shape, dtype=torch.bool)
    masks = torch.from_numpy(np.stack([segments == number for number in range(segments.max() + 1)]))

    def answers(kept_NHW: torch.Tensor) -> torch.Tensor:
        parts = []
        for part in kept_NHW.split(batch):
            shown = torch.where(part[:, None], image, colour)
            out = network.model(network.normalise(shown.to(network.device)))
            if not isinstance(out, torch.Tensor) or out.ndim != 2 or out.shape[1] < 2:
                raise ConfigError(f"--segments: {network.name} gives no class scores; accepted: a classifier")
            parts.append(out.cpu())
            progress.advance(len(part))
        return torch.cat(parts)

    whole = answers(kept[None])[0]
    label, flipped = int(whole.argmax()), None
    left, order, scores = list(range(len(masks))), [], [float(whole[label])]
    while len(left) > 1:
        tried = answers(kept & ~masks[left])
        best = int(tried[:, label].argmax())
        if int(tried[best].argmax()) != label:
            flipped = int(tried[best].argmax())
            break
        number = left.pop(best)
        kept = kept & ~masks[number]
        order.append(number)
        scores.append(float(tried[best, label]))
    return Remaining(label, flipped, segments, tuple(order), tuple(scores), kept.numpy())
