"""The model of this project: any nn.Module that takes the images' shape and the number of classes."""

from torch import nn


class Net(nn.Sequential):
    """Two convolutions and a linear layer.

    Args:
        in_shape: (C, H, W) of an image.
        num_classes: number of logits.
        width: feature maps of the first convolution, doubled by the second.

    Shape: (N, C, H, W) -> (N, num_classes).
    """

    def __init__(self, in_shape: tuple[int, int, int], num_classes: int, width: int = 16) -> None:
        super().__init__(
            nn.Conv2d(in_shape[0], width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(2 * width * 16, num_classes),
        )
