"""The convolutional classifiers of reports A (A1) and B (B1.2-B1.12): one class; its arguments make each of them."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn

from retable import checks
from retable.models.parts import Activation, Dropout, MaxPool2x2


class CNN(nn.Module):
    """Blocks of conv 3x3 (padding 1), activation and max-pool 2x2, then one or two fully connected layers.

    Args:
        in_shape: (channels, height, width) of an image.
        num_classes: number of outputs.
        blocks: number of blocks, 1 to 4.
        width: feature maps of the first block; each further block has twice as many.
        hidden: units of a hidden fully connected layer, or None for none.
        batch_norm: normalise behind each convolution, before the activation.
        order: "activation_pool" or "pool_activation".
        pool: "each" puts a pool behind every block (A1), "between" behind every block but the last (B1).
        pool_strides: stride of each pool, in order; its window is 2x2.
        activation: makes an activation layer.
        dropout: behind each pool ("conv"), behind the hidden layer ("fc"), or both.

    Shape: (N, *in_shape) -> (N, num_classes) logits.

    Raises:
        ValueError: for a value out of range, or pools that leave an empty map.

    Source: reports A1 and B1; B1.2 has 21,578 parameters.
    """

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        num_classes: int,
        blocks: int = 3,
        width: int = 32,
        hidden: int | None = 100,
        batch_norm: bool = False,
        order: str = "activation_pool",
        pool: str = "each",
        pool_strides: Sequence[int] = (2, 2, 2, 2),
        activation: Activation = nn.ReLU,
        dropout: Dropout = Dropout(),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__()
        checks.integer("blocks", blocks, 1, 4)
        checks.integer("width", width, 1)
        if hidden is not None:
            checks.integer("hidden", hidden, 1)
        checks.boolean("batch_norm", batch_norm)
        checks.one_of("order", order, ("activation_pool", "pool_activation"))
        checks.one_of("pool", pool, ("each", "between"))
        pools = blocks if pool == "each" else blocks - 1
        if not isinstance(pool_strides, Sequence) or len(pool_strides) < pools:
            raise checks.refuse("pool_strides", pool_strides, f"a list of at least {pools} strides")
        for stride in pool_strides:
            checks.integer("pool_strides", stride, 1)

        channels, height, size = in_shape[0], in_shape[1], in_shape[2]
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for block in range(blocks):
            maps = width * 2**block
            parts: list[nn.Module] = [nn.Conv2d(channels, maps, 3, padding=1)]
            if batch_norm:
                parts.append(nn.BatchNorm2d(maps))
            act, drop = activation(), dropout.layer("conv")
            if block < pools:
                stride = pool_strides[block]
                height, size = (height - 2) // stride + 1, (size - 2) // stride + 1
                if height < 1 or size < 1:
                    accepted = f"strides that leave a map of at least 1x1 of {in_shape[1]}x{in_shape[2]} images"
                    raise checks.refuse("pool_strides", list(pool_strides[:pools]), accepted)
                window = MaxPool2x2() if stride == 2 else nn.MaxPool2d(2, stride)
                parts += [act, window] if order == "activation_pool" else [window, act]
                parts += drop
            else:
                parts.append(act)
            layers[f"block{block + 1}"] = nn.Sequential(*parts)
            channels = maps
        self.features = nn.Sequential(layers)
        units = channels * height * size
        head: list[nn.Module] = [nn.Flatten()]
        if hidden is not None:
            head += [nn.Linear(units, hidden), activation(), *dropout.layer("fc")]
            units = hidden
        self.head = nn.Sequential(*head, nn.Linear(units, num_classes))
        dropout.require(self)
        self.to(memory_format=torch.channels_last)  # on CPU a step takes 15 to 30 % less time (benchmarks/README.md)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images_NCHW))
