"""Overlap figures against hand-computed cases, torchmetrics and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, jaccard_score
from torchmetrics.functional.classification import multiclass_f1_score

from retable.metrics import segmentation as metrics

# Two images of 2x3 pixels. Image 0: class 1 has tp 1, fp 1, fn 1. Image 1: class 1 has tp 2, fp 0, fn 2; one ignored.
TARGETS = torch.tensor([[[1, 1, 0], [0, 0, 0]], [[1, 1, 1], [1, 0, 255]]])
PREDICTIONS = torch.tensor([[[1, 0, 1], [0, 0, 0]], [[1, 1, 0], [0, 0, 1]]])


def test_by_hand():
    matrices = metrics.image_confusions(TARGETS, PREDICTIONS, 2)
    assert matrices.tolist() == [[[3, 1], [1, 1]], [[1, 0], [2, 2]]]
    # Class 1: dice 2/(2+1+1) = 1/2 and 4/(4+2) = 2/3; IoU 1/3 and 2/4. Together tp 3, fp 1, fn 3.
    assert metrics.dice(matrices, "image")[1] == pytest.approx((1 / 2 + 2 / 3) / 2, abs=1e-15)
    assert metrics.dice(matrices, "global")[1] == pytest.approx(6 / 10, abs=1e-15)
    assert metrics.iou(matrices, "image")[1] == pytest.approx((1 / 3 + 1 / 2) / 2, abs=1e-15)
    assert metrics.iou(matrices, "global")[1] == pytest.approx(3 / 7, abs=1e-15)
    assert metrics.recall(matrices).tolist() == [4 / 5, 3 / 6]
    assert metrics.pixel_accuracy(matrices) == pytest.approx(7 / 11)


def test_a_class_that_is_neither_present_nor_predicted_counts_in_no_average():
    blank, half = torch.zeros(1, 2, 2, dtype=torch.long), torch.tensor([[[1, 0], [0, 0]]])
    matrices = metrics.image_confusions(torch.cat([blank, half]), torch.cat([blank, half]), 3)
    assert metrics.image_dice(matrices)[0].isnan().tolist() == [False, True, True]
    assert metrics.dice(matrices, "image").tolist()[:2] == [1, 1]
    assert metrics.dice(matrices, "image")[2].isnan()
    assert metrics.mean_over(metrics.dice(matrices, "image")) == 1


def test_against_references():
    generator = torch.Generator().manual_seed(3)
    targets = torch.randint(0, 4, (5, 17, 11), generator=generator)
    predictions = torch.randint(0, 4, (5, 17, 11), generator=generator)
    targets[torch.rand(targets.shape, generator=generator) < 0.2] = 255
    matrices = metrics.image_confusions(targets, predictions, 4)
    kept = targets != 255
    expected = confusion_matrix(targets[kept].numpy(), predictions[kept].numpy(), labels=range(4))
    np.testing.assert_array_equal(matrices.sum(0).numpy(), expected)
    f1 = multiclass_f1_score(predictions, targets, 4, average=None, ignore_index=255)
    np.testing.assert_allclose(metrics.dice(matrices, "global").numpy(), f1.numpy(), rtol=1e-6)
    per_image = [
        jaccard_score(t[t != 255].numpy(), p[t != 255].numpy(), average=None, labels=range(4))
        for t, p in zip(targets, predictions, strict=True)
    ]
    np.testing.assert_allclose(metrics.image_iou(matrices).numpy(), per_image, rtol=1e-12)
    np.testing.assert_allclose(metrics.iou(matrices, "image").numpy(), np.mean(per_image, 0), rtol=1e-12)


def test_unknown_average():
    with pytest.raises(ValueError, match="average=batch: accepted: image, global"):
        metrics.dice(torch.zeros(1, 2, 2, dtype=torch.long), "batch")
