"""Which rule describes which operation of torch (by aten name, without overload or underscore)."""

import torch

from retable.receptive import shapes, windows
from retable.receptive.operations import Rule, pointwise, same

_MEAN = shapes.mixed("dim", keep=False)
RULES: dict[str, Rule] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "convolution", "_convolution"), windows.convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), windows.convolution),
    **dict.fromkeys(("max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d"), windows.pool),
    **dict.fromkeys(("max_pool2d_with_indices", "max_pool3d_with_indices"), windows.pool),
    **{f"adaptive_{kind}_pool{d}d": windows.adaptive_pool for kind in ("avg", "max") for d in (1, 2, 3)},
    "max_unpool2d": windows.unpool,
    **dict.fromkeys(("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"), windows.interpolation(None)),
    **dict.fromkeys(
        ("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d"), windows.interpolation((0, 1))
    ),
    "upsample_bicubic2d": windows.interpolation((-1, 0, 1, 2)),
    "pixel_shuffle": windows.shuffle(lambda r: (r, 1, 1)),
    "pixel_unshuffle": windows.shuffle(lambda r: (1, r, r)),
    **dict.fromkeys(("pad", "constant_pad_nd", "reflection_pad2d", "replication_pad2d"), windows.pad),
    **dict.fromkeys(("cat", "concat"), shapes.concatenation),
    **dict.fromkeys(("batch_norm", "native_batch_norm"), shapes.batch_norm),
    **dict.fromkeys(("group_norm", "instance_norm", "native_group_norm"), shapes.group_norm),
    **dict.fromkeys(("layer_norm", "native_layer_norm", "rms_norm"), shapes.mixed("normalized_shape")),
    **dict.fromkeys(("softmax", "_softmax", "log_softmax"), shapes.mixed("dim")),
    **dict.fromkeys(("mean", "sum", "amax", "amin", "var"), _MEAN),
    "linear": shapes.linear,
    "permute": shapes.permutation,
    "transpose": shapes.transposition,
    **dict.fromkeys(("view", "reshape", "flatten", "unflatten", "_unsafe_view", "squeeze"), shapes.view),
    "slice": shapes.slicing,
    "select": shapes.select,
    "index": shapes.index,
    "unsqueeze": shapes.unsqueeze,
    **dict.fromkeys(("expand", "broadcast_to"), shapes.expand),
    **dict.fromkeys(("chunk", "split", "split_with_sizes"), shapes.chunks),
    **dict.fromkeys(("dropout", "feature_dropout", "alpha_dropout", "contiguous", "alias", "detach"), same),
    **dict.fromkeys(("channel_shuffle", "clone", "to", "_to_copy", "lift_fresh"), same),
    **dict.fromkeys(("hardswish", "prelu", "rrelu"), same),
}


def rule_of(operation: torch._ops.OpOverload) -> Rule | None:
    """The rule of an operation, or None where there is none; in-place operations have that of their namesakes."""
    name = operation._schema.name.split("::")[-1]
    rule = RULES.get(name) or RULES.get(name.rstrip("_"))
    if rule is None and torch.Tag.pointwise in operation.tags:
        return pointwise
    return rule
