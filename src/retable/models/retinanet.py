"""RetinaNet for report A3: torchvision's networks, the layer of the class scores replaced for the set's classes.

Sources: Lin et al. 2017, arXiv 1708.02002; v2: Zhang et al. 2020, arXiv 1912.02424 (GIoU loss, group norm in heads).
The network, its anchors, matching, losses and suppression are torchvision's; images come as one tensor, padded already.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet18
from torchvision.models.detection import RetinaNet as Network
from torchvision.models.detection import retinanet_resnet50_fpn, retinanet_resnet50_fpn_v2
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from retable import checks
from retable.models import detector_weights

RESNET50 = {"resnet50": retinanet_resnet50_fpn, "resnet50_v2": retinanet_resnet50_fpn_v2}
LEVELS = (3, 4, 5, 6, 7)  # of the feature pyramid: maps of stride 2**level
STRIDE = 32  # of a ResNet's last maps: a canvas's sides are multiples of it
RATIOS = (0.5, 1.0, 2.0)
PRIOR = 0.01  # a new layer's score for every class, section 4.1


class RetinaNet(nn.Module):
    """RetinaNet whose raw outputs are one tensor.

    Args:
        in_shape: (3, height, width) of the canvas on which images lie; others may come later.
        num_classes: of the set. There is no background class: each class has a sigmoid of its own.
        classes: their names, for head="mapped".
        backbone: resnet50 (torchvision's retinanet_resnet50_fpn), resnet50_v2 (its _v2) or resnet18.
        weights: see `retable.models.detector_weights.find`.
        head: new: the layer of the class scores begins anew; mapped: classes that the weights know by the same name
            keep their scores, others are never predicted.
        trainable: all; head: the layer of the class scores alone; none.
        norm: batch; frozen: batch norms keep their statistics and parameters; auto: frozen where there are weights.
            They are frozen in any case where not all is trained.
        box_loss: of the boxes: smooth_l1 and l1 of the offsets from the anchors, or giou of the boxes themselves.
        beta: the difference below which smooth_l1 is quadratic; the script that the report cites has 1/9.
        width: channels of the feature pyramid and the heads, a multiple of 8; 256 but for resnet18.
        anchor: pixels of the smallest anchor's side.
        score: lowest score of a detection.
        overlap: of two detections of a class with a larger IoU the worse one is dropped.

    Shape: (N, 3, H, W) -> (N, A, num_classes + 4), logits and box offsets of each of A anchors.

    Images of a batch may be of several sizes, each in the top left corner of the canvas. What is found in one depends
    on it alone: group norms take their statistics over its own part, and `by_canvas` gives each its own canvas.

    Raises:
        ValueError, DataError: one line.
    """

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        num_classes: int,
        classes: Sequence[str] = (),
        backbone: str = "resnet50",
        weights: str = "coco",
        head: str = "new",
        trainable: str = "all",
        norm: str = "auto",
        box_loss: str = "smooth_l1",
        beta: float = 1 / 9,
        width: int = 256,
        anchor: float = 32.0,
        score: float = 0.05,
        overlap: float = 0.5,
    ) -> None:
        super().__init__()
        checks.one_of("backbone", backbone, (*RESNET50, "resnet18"))
        checks.one_of("head", head, ("new", "mapped"))
        checks.one_of("trainable", trainable, ("all", "head", "none"))
        checks.one_of("norm", norm, ("auto", "batch", "frozen"))
        checks.one_of("box_loss", box_loss, ("smooth_l1", "l1", "giou"))
        checks.number("beta", beta, 0, open_low=True)
        checks.integer("width", width, 8)
        if width % 8:
            raise checks.refuse("width", width, "a multiple of 8")
        checks.number("anchor", anchor, 1)
        checks.number("score", score, 0, 1)
        checks.number("overlap", overlap, 0, 1)
        if width != 256 and backbone != "resnet18":
            raise checks.refuse("width", width, f"256, for backbone={backbone}")
        if in_shape[0] != 3:
            raise ValueError(f"RetinaNet takes images of 3 channels, not {in_shape[0]}")
        self.num_classes = num_classes
        self._own = _Own()
        self.net = _network(backbone, num_classes, width, anchor, score, overlap)
        _own_norms(self.net.head, self._own)
        regression = self.net.head.regression_head
        if box_loss == "smooth_l1":
            regression.compute_loss = partial(smooth_l1, regression.box_coder, beta)
        else:
            regression._loss_type = box_loss  # how torchvision chooses it for its own networks
        source = detector_weights.find(weights, backbone)
        self.weights_source = None if source is None else source.record
        if source is not None:
            scores = self.net.head.classification_head.cls_logits
            detector_weights.give(self.net, source, backbone)
            if head == "mapped":
                detector_weights.map_classes(scores, source, classes, PRIOR)
        self.frozen_norms = norm == "frozen" or trainable != "all" or (norm == "auto" and weights != "none")
        self._choose_trained(trainable)
        self._grids: dict[Any, tuple[torch.Tensor, list[int]]] = {}

    def forward(self, images_NCHW: torch.Tensor, sizes: Sequence[tuple[int, int]] | None = None) -> torch.Tensor:
        """Outputs of every anchor of the canvas.

        Args:
            sizes: (height, width) of each image; None: of the whole canvas.
        """
        outputs = []
        for level, maps in zip(LEVELS, self.net.backbone(images_NCHW).values(), strict=True):
            self._own.cells = None if sizes is None else [(_up(h, 2**level), _up(w, 2**level)) for h, w in sizes]
            heads = self.net.head([maps])
            outputs.append(torch.cat([heads["cls_logits"], heads["bbox_regression"]], 2))
        self._own.cells = None
        return torch.cat(outputs, 1)

    def by_canvas(
        self, images_NCHW: torch.Tensor, sizes: Sequence[tuple[int, int]]
    ) -> Iterator[tuple[list[int], torch.Tensor, list[tuple[int, int]]]]:
        """The images in groups that share a canvas, the smallest that holds them, with zeros beside them.

        Args:
            sizes: (height, width) of each image on the canvas that it lies on now.

        Yields:
            Indices of some of the images, (n, 3, H, W), and their sizes.
        """
        groups: dict[tuple[int, int], list[int]] = {}
        for index, (height, width) in enumerate(sizes):
            groups.setdefault((_up(height, STRIDE) * STRIDE, _up(width, STRIDE) * STRIDE), []).append(index)
        for shape, indices in groups.items():
            own = images_NCHW.new_zeros(len(indices), images_NCHW.shape[1], *shape)
            for row, index in enumerate(indices):
                height, width = sizes[index]
                own[row, :, :height, :width] = images_NCHW[index, :, :height, :width]
            yield indices, own, [sizes[index] for index in indices]

    def features(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """(N, channels) of images: the ResNet's last maps, averaged."""
        return list(self.net.backbone.body(images_NCHW).values())[-1].mean((2, 3))

    def losses(
        self, outputs_NAK: torch.Tensor, targets_NM5: torch.Tensor, shape: Sequence[int]
    ) -> dict[str, torch.Tensor]:
        """Focal loss of the classes and loss of the boxes: an image's sum by its number of matched anchors, averaged.

        Args:
            targets_NM5: see `retable.data.arrays.box_targets`.
            shape: (H, W) of the images.
        """
        anchors, _ = self.anchors(shape, outputs_NAK.device)
        outputs_NAK = outputs_NAK.float()
        heads = {"cls_logits": outputs_NAK[..., :-4], "bbox_regression": outputs_NAK[..., -4:]}
        objects = [rows[rows[:, 4] >= 0] for rows in targets_NM5]
        targets = [{"boxes": rows[:, :4], "labels": rows[:, 4].long()} for rows in objects]
        found = self.net.compute_loss(targets, heads, [anchors] * len(targets))
        return {"classification": found["classification"], "regression": found["bbox_regression"]}

    @torch.no_grad()
    def detections(
        self, outputs_NAK: torch.Tensor, sizes: Sequence[tuple[int, int]], shape: Sequence[int]
    ) -> list[torch.Tensor]:
        """Boxes of each image, best first: float32 (n, 6), x1, y1, x2, y2, label, score.

        Args:
            sizes: (height, width) of each image on the canvas; boxes are clipped to it.
            shape: (H, W) of the canvas.
        """
        anchors, counts = self.anchors(shape, outputs_NAK.device)
        logits, offsets = outputs_NAK.float().split([self.num_classes, 4], 2)
        heads = {
            "cls_logits": list(logits.split(counts, 1)),
            "bbox_regression": list(offsets.split(counts, 1)),
        }
        per_level = [list(anchors.split(counts))] * len(sizes)
        found = self.net.postprocess_detections(heads, per_level, [tuple(size) for size in sizes])
        return [torch.cat([d["boxes"], d["labels"][:, None], d["scores"][:, None]], 1) for d in found]

    def anchors(self, shape: Sequence[int], device: torch.device) -> tuple[torch.Tensor, list[int]]:
        """Anchors (A, 4) of a canvas (H, W), and how many of them each level has."""
        height, width = (int(side) for side in shape)
        key = height, width, device
        if key not in self._grids:
            with torch.inference_mode(False):  # kept for training, too
                grids = [(-(-height // 2**level), -(-width // 2**level)) for level in LEVELS]
                maps = [torch.empty(1, device=device).expand(1, 1, *grid) for grid in grids]
                image = ImageList(torch.empty(1, device=device).expand(1, 1, height, width), [(height, width)])
                per_cell = self.net.anchor_generator.num_anchors_per_location()
                counts = [h * w * each for (h, w), each in zip(grids, per_cell, strict=True)]
                self._grids[key] = self.net.anchor_generator(image, maps)[0], counts
        return self._grids[key]

    def train(self, mode: bool = True) -> "RetinaNet":
        super().train(mode)
        for norm in self._norms():
            norm.train(mode and not self.frozen_norms)
        return self

    def _choose_trained(self, trainable: str) -> None:
        for parameter in self.net.parameters():
            parameter.requires_grad_(trainable == "all")
        for parameter in self.net.head.classification_head.cls_logits.parameters():
            parameter.requires_grad_(trainable != "none")
        for parameter in (p for norm in self._norms() for p in norm.parameters()):
            parameter.requires_grad_(not self.frozen_norms)
        self.train()

    def _norms(self) -> list[nn.BatchNorm2d]:
        return [module for module in self.net.modules() if isinstance(module, nn.BatchNorm2d)]


class _Own:
    """How far each image of a batch reaches on the maps of the level that the heads are at: (rows, columns)."""

    cells: list[tuple[int, int]] | None = None


class OwnGroupNorm(nn.GroupNorm):
    """Group norm over each image's own part of its maps; beyond that they become zero, as if they ended there.

    Under torchvision's keys and with its numbers, where an image fills its maps.
    """

    own = _Own()

    def forward(self, maps_NCHW: torch.Tensor) -> torch.Tensor:
        height, width = maps_NCHW.shape[-2:]
        if self.own.cells is None or all(h >= height and w >= width for h, w in self.own.cells):
            return super().forward(maps_NCHW)
        normed = [
            F.pad(super(OwnGroupNorm, self).forward(maps_CHW[None, :, :h, :w]), (0, width - w, 0, height - h))
            for maps_CHW, (h, w) in zip(maps_NCHW, self.own.cells, strict=True)
        ]
        return torch.cat(normed)


def _own_norms(module: nn.Module, own: _Own) -> None:
    """Replace the group norms of a module and of all below it."""
    for name, child in module.named_children():
        if isinstance(child, nn.GroupNorm):
            new = OwnGroupNorm(child.num_groups, child.num_channels, child.eps)
            new.own = own
            setattr(module, name, new)
        else:
            _own_norms(child, own)


def _up(size: int, step: int) -> int:
    """How many steps hold a size."""
    return -(-size // step)


def smooth_l1(
    coder: Any,
    beta: float,
    targets: Sequence[dict[str, torch.Tensor]],
    outputs: dict[str, torch.Tensor],
    anchors: Sequence[torch.Tensor],
    matched: Sequence[torch.Tensor],
) -> torch.Tensor:
    """As torchvision's regression head, which has no way to give smooth L1 its beta: sums over the four offsets of each
    anchor with an object, by the number of these anchors, averaged over the images.

    Args:
        targets: boxes of each image; anchors: (A, 4) of each image; matched: (A,), an anchor's box, negative for none.
    """
    losses = []
    for own, found_A4, anchors_A4, matched_A in zip(targets, outputs["bbox_regression"], anchors, matched, strict=True):
        chosen = torch.where(matched_A >= 0)[0]
        wanted = coder.encode_single(own["boxes"][matched_A[chosen]], anchors_A4[chosen])
        total = F.smooth_l1_loss(found_A4[chosen], wanted, reduction="sum", beta=beta)
        losses.append(total / max(1, len(chosen)))
    return torch.stack(losses).mean()


def _network(backbone: str, num_classes: int, width: int, anchor: float, score: float, overlap: float) -> Network:
    """torchvision's network with new weights; batch norms as plain BatchNorm2d, so that keys are always the same."""
    sizes = tuple(tuple(int(anchor * 2**level * 2 ** (step / 3)) for step in range(3)) for level in range(len(LEVELS)))
    generator = AnchorGenerator(sizes, (RATIOS,) * len(sizes))
    thresholds = {"score_thresh": score, "nms_thresh": overlap}
    if backbone == "resnet18":
        body = resnet18(weights=None)
        layers = {f"layer{number}": str(number - 2) for number in (2, 3, 4)}
        pyramid = BackboneWithFPN(body, layers, [128, 256, 512], width, LastLevelP6P7(width, width))
        # Group norm in the heads, as v2 has it, also of eight channels a group: it is trained without COCO weights, and
        # through four layers of weights of deviation 0.01 next to nothing of a narrow map is left.
        norm = partial(nn.GroupNorm, width // 8)
        head = RetinaNetHead(width, generator.num_anchors_per_location()[0], num_classes, norm_layer=norm)
        return Network(pyramid, num_classes, anchor_generator=generator, head=head, **thresholds)
    make = RESNET50[backbone]
    net = make(weights=None, weights_backbone=None, num_classes=num_classes, **thresholds)
    net.anchor_generator = generator
    return net
