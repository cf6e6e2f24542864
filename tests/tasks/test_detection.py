"""Average precision and matches by hand; a run of detection from end to end on the sample sets."""

import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from retable import cli
from retable.commands.evaluate import evaluate
from retable.config.compose import Composer
from retable.data.samples.traps import CLASSES
from retable.errors import ConfigError
from retable.experiment.table import load_table
from retable.figures.detection import largest
from retable.metrics import detection as boxes
from retable.report.verdicts import evaluate_published
from retable.run import files
from retable.run.assemble import make_data, make_task
from retable.run.execute import execute
from retable.run.restore import load
from retable.tasks.detection import Detection
from tests.checking import check

A, B, C = (0, 0, 10, 10), (20, 0, 30, 10), (0, 50, 10, 60)  # boxes apart from one another


def objects(*rows):
    """Rows of a box and a label."""
    return torch.tensor([[*box, label] for box, label in rows], dtype=torch.float32).view(-1, 5)


def detections(*rows):
    """Rows of a box, a label and a score."""
    return torch.tensor([[*box, label, score] for box, label, score in rows], dtype=torch.float32).view(-1, 6)


# Average precision ----------------------------------------------------------------------------------------------------


def test_a_false_one_between_two_right_ones():
    # Precision 1 up to recall 1/2 (recalls 0.00 to 0.50 of 101), then 2/3 (0.51 to 1.00).
    found = boxes.average_precision([detections((A, 0, 0.9), (C, 0, 0.8), (B, 0, 0.7))], [objects((A, 0), (B, 0))], 1)
    assert found["ap50"] == pytest.approx([(51 + 50 * 2 / 3) / 101])
    assert found["map"] == pytest.approx(found["map50"])


def test_a_box_that_is_a_little_off_counts_up_to_its_overlap():
    off = (0, 0, 10, 7.7)  # IoU 0.77 with A: right at 0.5, 0.55, ..., 0.75, six thresholds of ten
    found = boxes.average_precision([detections((off, 0, 0.9))], [objects((A, 0))], 1)
    assert found["ap50"] == pytest.approx([1.0])
    assert found["ap"] == pytest.approx([0.6])


def test_a_recall_that_is_one_of_the_101_counts_as_reached():
    # Three of five found: precision 1 at the recalls 0.00 to 0.60. As pycocotools itself counts: its list's 0.70 and
    # 0.35, which are multiples of 0.01 in 64 bits, lie above 7 / 10 and 7 / 20.
    for many, right, reached in ((5, 3, 61), (5, 4, 81), (10, 7, 70), (20, 7, 35)):
        found = [detections((A, 0, 0.9))] * right + [detections()] * (many - right)
        ap50 = boxes.average_precision(found, [objects((A, 0))] * many, 1)["ap50"]
        assert ap50 == pytest.approx([reached / 101]), (many, right)


def test_an_overlap_that_is_a_threshold_is_one():
    exact = (0, 0, 10, 6)  # IoU 0.6 with A: right at 0.5, 0.55 and 0.6
    assert boxes.average_precision([detections((exact, 0, 0.9))], [objects((A, 0))], 1)["ap"] == pytest.approx([0.3])


def test_classes_are_averaged_but_for_those_without_objects():
    first = detections((A, 0, 0.9), (B, 2, 0.9)), objects((A, 0), (C, 1))
    second = detections(), objects((A, 1))
    found = boxes.average_precision(*zip(first, second, strict=True), 3)
    assert found["ap50"] == pytest.approx([1.0, 0.0, math.nan], nan_ok=True)
    assert (found["map50"], found["map"]) == pytest.approx((0.5, 0.5))


def test_nothing_to_find():
    found = boxes.average_precision([detections()], [objects()], 2)
    assert all(math.isnan(value) for value in (found["map"], found["map50"], *found["ap50"], *found["ap"]))


# Matches --------------------------------------------------------------------------------------------------------------


def test_the_best_score_takes_the_object_and_classes_are_confused():
    near = (0, 0, 10, 8)  # IoU 0.8 with A
    found = detections((A, 0, 0.5), (near, 1, 0.9), (C, 0, 0.8))
    true = objects((A, 0), (B, 1), (C, 0))
    pairs = boxes.match(found, true, 0.5)
    assert [(p.detection, p.object, round(p.iou, 6)) for p in pairs] == [(1, 0, 0.8), (2, 2, 1.0)]
    # True 0 seen as 1, true 0 as 0, true 1 missed; the second detection of A, of class 0, is background.
    assert boxes.confusion(found, true, pairs, 2).tolist() == [[1, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert boxes.right(found, true, pairs) == [pairs[1]]
    assert [p.detection for p in boxes.match(found, true, 0.85)] == [2, 0]


def test_matches_of_nothing():
    assert boxes.match(detections(), objects((A, 0)), 0.5) == []
    assert boxes.match(detections((A, 0, 0.9)), objects(), 0.5) == []
    assert boxes.confusion(detections((A, 0, 0.9)), objects(), [], 1).tolist() == [[0, 0], [1, 0]]


# Runs -----------------------------------------------------------------------------------------------------------------

SMALL = ("task=wildlife", "model.backbone=resnet18", "model.weights=none", "model.width=16", "model.anchor=16")
SMALL += ("data.shorter=64", "data.longer=96", "data.fraction=0.25", "trainer.device=cpu", "optimizer=adam")
EPOCHS = 6


@pytest.fixture(scope="module")
def finished(compose, tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "traps"
    config = compose(*SMALL, f"trainer.max_epochs={EPOCHS}", "optimizer.lr=0.003")
    return directory, execute(config, directory)


def test_a_run_leaves_its_losses_and_what_it_found(finished):
    directory, result = finished
    rows = files.read_history(directory / files.HISTORY)
    assert [row["epoch"] for row in rows] == list(range(EPOCHS + 1))
    assert rows[1]["train/loss"] > 1.5 * rows[-1]["train/loss"]
    for row in rows:
        for part in ("train", "val") if row["epoch"] else ("val",):
            both = row[f"{part}/classification_loss"] + row[f"{part}/regression_loss"]
            assert row[f"{part}/loss"] == pytest.approx(both, rel=1e-6)
    last = result["metrics"]["final"]
    rated = [row["ap50"] for row in result["per_class"]["val"]]
    assert last["val/map50"] == pytest.approx(sum(rated) / 8)
    assert [last[f"val/ap50/{row['class']}"] for row in result["per_class"]["val"]] == rated
    matrix = result["confusion"]["val"]
    assert [sum(row) for row in matrix[:8]] == [row["boxes"] for row in result["per_class"]["val"]]
    assert [sum(row) for row in result["confusion"]["before"][:8]] == [sum(row) for row in matrix[:8]]
    assert sum(row["boxes"] for row in result["per_class"]["val"]) == 32
    assert result["data"]["counts"] == {
        **{"read": 88, "left_out": 48, "train": 16, "val": 24},
        "reasons": {"data.fraction": 48},
    }


def test_figures(finished):
    directory, _ = finished
    drawn = {path.stem for path in (directory / "figures").glob("*.png")}
    both = {"confusion_before", "confusion_val", "boxes", "average_precision"}
    assert drawn == {"curves", "gradient_norms", "class_distribution", "features"} | both


def test_the_plane_is_of_the_whole_set_before_training(compose, finished, tmp_path, monkeypatch):
    """t-SNE of what an untrained model of the same seed gives, of training and validation images alike."""
    given = []
    monkeypatch.setattr("sklearn.manifold.TSNE.fit_transform", lambda self, x: given.append(x) or x[:, :2])
    config = compose(*SMALL, "trainer.max_epochs=1", "optimizer.lr=0.003")
    execute(config, tmp_path / "one")
    pl.seed_everything(config["seed"], verbose=False)
    data = make_data(config)
    task = make_task(config, data).eval()
    parts = [data.splits.train, data.splits.val]
    labels = [[int(label) for label in largest(part.targets)] for part in parts]
    images = [part.images[i] for part, own in zip(parts, labels, strict=True) for i, v in enumerate(own) if v >= 0]
    with torch.inference_mode():
        expected = task.model.features(data.normalise(torch.from_numpy(np.stack(images))))
    assert len(given) == 1
    assert given[0] == pytest.approx(expected.numpy(), abs=1e-5)
    kept = torch.load(finished[0] / files.CHECKPOINT, weights_only=True)["before"]["plane"]
    assert kept["labels"].tolist() == [label for own in labels for label in own if label >= 0]
    assert kept["points"].shape == (len(images), 2)


def test_the_images_that_are_drawn_are_random_ones_of_each_class(finished):
    task = Detection.__new__(Detection)
    task.__dict__ |= {"classes": ("a", "b"), "_objects": {"val": [objects((A, i % 2)) for i in range(40)]}}
    shown = task.shown("val")
    assert [label for label, _ in shown] == [0, 0, 0, 1, 1, 1]
    assert all(index % 2 == label for label, index in shown)
    assert [index for _, index in shown] != [0, 2, 4, 1, 3, 5]
    assert shown == task.shown("val")


def test_evaluate_on_a_csv_repeats_the_figures_of_the_run(finished, tmp_path, capsys):
    directory, result = finished
    trained = load(directory)
    folder = _sample(trained, 0) / "val.csv"
    found = evaluate(trained, folder)
    last = result["metrics"]["final"]
    assert found.split == "val"
    for name in ("loss", "map50", "map", "iou", "ap50/coyote"):
        assert found.metrics[name] == pytest.approx(last[f"val/{name}"], rel=1e-4, nan_ok=True)
    assert found.by_image["boxes"].sum() == 32
    # Some of the rows, at another place, beside no class file.
    copy = tmp_path / "half.csv"
    with folder.open() as file:
        rows = list(csv.reader(file))[:10]
    with copy.open("w") as file:
        csv.writer(file).writerows([str(folder.parent / name), *rest] for name, *rest in rows)
    cli.main(["evaluate", str(directory), str(copy)])
    printed = capsys.readouterr().out
    assert f"on {copy} · val: {len({row[0] for row in rows})} images" in printed
    assert "ap50" in printed
    copy.write_text("x.png,1,1,2,2,wombat\n")
    with pytest.raises(SystemExit):
        cli.main(["evaluate", str(directory), str(copy)])
    assert capsys.readouterr().err == f"{copy}, row 1: no such image: {tmp_path}/x.png\n"


def test_evaluate_is_predict_and_pycocotools_on_images_of_mixed_sizes(finished, tmp_path):
    """Every detection of `predict`, in its image's own pixels, judged by pycocotools alone."""
    from PIL import Image
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    from retable.commands.predictions import predict_boxes

    trained = load(finished[0])
    source = _sample(trained, 0)
    factors = ((1.0, 1.0), (1.6, 0.8), (0.7, 1.4), (2.0, 0.7))
    with (source / "val.csv").open() as file:
        rows = list(csv.reader(file))
    names = sorted({row[0] for row in rows})
    scale = {name: factors[place % len(factors)] for place, name in enumerate(names)}
    images, annotations, written, sizes = [], [], [], {}
    for number, name in enumerate(names):
        with Image.open(source / name) as picture:
            sizes[name] = tuple(round(a * b) for a, b in zip(picture.size, scale[name], strict=True))
            ratio = [size / side for size, side in zip(sizes[name], picture.size, strict=True)] * 2
            picture.resize(sizes[name]).save(tmp_path / Path(name).name)
        images.append({"id": number, "file_name": Path(name).name})
        for _, *box, label in (row for row in rows if row[0] == name):
            if not label:
                written.append((Path(name).name, *[""] * 5))
                continue
            x1, y1, x2, y2 = (float(value) * factor for value, factor in zip(box, ratio, strict=True))
            written.append((Path(name).name, x1, y1, x2, y2, label))
            bbox, area = [x1, y1, x2 - x1, y2 - y1], (x2 - x1) * (y2 - y1)
            found = {"image_id": number, "category_id": CLASSES.index(label), "bbox": bbox, "area": area, "iscrowd": 0}
            annotations.append(found | {"id": len(annotations) + 1})
    with (tmp_path / "mixed.csv").open("w") as file:
        csv.writer(file).writerows(written)
    categories = [{"id": label, "name": name} for label, name in enumerate(CLASSES)]
    truth, results = COCO(), []
    truth.dataset = {"images": images, "annotations": annotations, "categories": categories}
    truth.createIndex()
    ids = {image["file_name"]: image["id"] for image in images}
    for found in predict_boxes(trained, [tmp_path], score=0.0):
        for x1, y1, x2, y2, label, score in found.objects.tolist():
            bbox = [x1, y1, x2 - x1, y2 - y1]
            results.append({"image_id": ids[found.name], "category_id": int(label), "bbox": bbox, "score": score})
    reference = COCOeval(truth, truth.loadRes(results), "bbox")
    reference.evaluate()
    reference.accumulate()
    precision = reference.eval["precision"][..., 0, -1]  # of boxes of any area, at most 100 an image
    metrics = evaluate(trained, tmp_path / "mixed.csv").metrics
    present = [label for label in range(8) if any(row["category_id"] == label for row in annotations)]
    assert metrics["map"] == pytest.approx(precision[:, :, present].mean((0, 1)).mean(), abs=1e-4)
    assert metrics["map50"] == pytest.approx(precision[0][:, present].mean(), abs=1e-4)
    assert metrics["map50"] > 0.001  # 0.005 to 0.03, by the processor


def _sample(trained, variant):
    return next((Path(trained.config["data"]["cache"]).expanduser() / "sample").glob(f"wildlife-{variant}-*"))


def test_predict_draws_what_it_prints(finished, tmp_path, capsys):
    directory, _ = finished
    image = _sample(load(directory), 0) / "images" / "0064.png"
    cli.main(["predict", str(directory), str(image), "--score", "0.05", "--output", str(tmp_path / "drawn")])
    first, *rows, last = capsys.readouterr().out.splitlines()
    assert first == "0064.png"
    assert last == f"{len(rows)} objects in 1 images; drawn in {tmp_path / 'drawn'}"
    for row in rows:
        name, score, *box = row.split()
        x1, y1, x2, y2 = map(float, box)
        assert name in CLASSES
        assert 0.05 <= float(score) <= 1
        assert 0 <= x1 < x2 <= 128  # in the image's own pixels
        assert 0 <= y1 < y2 <= 96
    assert len(rows) > 0
    assert (tmp_path / "drawn" / "0064.png").is_file()


@pytest.mark.usefixtures("no_figures")
def test_a_second_run_begins_with_the_first_ones_weights(compose, finished, tmp_path):
    directory, _ = finished
    given = (*SMALL, f"model.weights={directory}", "data.variant=1", "trainer.max_epochs=1", "optimizer.lr=0.003")
    before = torch.load(directory / files.CHECKPOINT, weights_only=True)["state_dict"]
    result = execute(compose(*given, "model.trainable=head"), tmp_path / "head")
    after = torch.load(tmp_path / "head" / files.CHECKPOINT, weights_only=True)["state_dict"]
    changed = {key.removeprefix("model.net.") for key, value in after.items() if not torch.equal(value, before[key])}
    assert changed == {f"head.classification_head.cls_logits.{name}" for name in ("weight", "bias")}
    assert result["weights"]["weights"] == "traps"
    assert result["parameters"] == 9 * 8 * (16 * 9 + 1)
    # Mapped classes, nothing trained: on the first set that is the first run itself.
    mapped = (*SMALL, f"model.weights={directory}", "trainer.max_epochs=1", "model.head=mapped")
    row = execute(compose(*mapped, "model.trainable=none"), tmp_path / "none")["metrics"]["final"]
    last = files.read_history(directory / files.HISTORY)[-1]
    assert row["val/map50"] == pytest.approx(last["val/map50"], rel=1e-4)
    assert row["val/loss"] == pytest.approx(last["val/loss"], rel=1e-4)


@pytest.mark.usefixtures("no_figures")
def test_a_killed_run_goes_on_and_keeps_what_it_found_before(compose, finished, tmp_path):
    directory, result = finished
    shutil.copytree(directory, tmp_path / "again")
    (tmp_path / "again" / files.RESULT).unlink()
    config = json.loads((directory / files.RUN).read_text())["config"]
    again = execute(config, tmp_path / "again")
    assert again["confusion"] == result["confusion"]
    assert again["metrics"]["final"] == pytest.approx(result["metrics"]["final"], nan_ok=True)


def test_refused_before_anything_runs(compose):
    assert check(compose(*SMALL))["parameters"] > 1e6
    with pytest.raises(ConfigError, match=r"^model: CNN does not fit a task of detection; accepted: model=retinanet$"):
        check(compose("task=wildlife", "model=cnn", "data.shorter=64", "data.longer=96"))
    with pytest.raises(ConfigError, match=r"^loss: Dice does not fit a task of detection; accepted: loss=boxes$"):
        check(compose(*SMALL, "loss=dice"))
    with pytest.raises(ConfigError, match=r"^data: augment\.transforms: Rotate leaves boxes behind"):
        check(compose(*SMALL, "augment.transforms=[rotate]"))
    with pytest.raises(ConfigError, match=r"^data: augment\.mode=copies: accepted for boxes: none, fly$"):
        check(compose(*SMALL, "augment=copies"))


def test_the_published_table():
    table = load_table(Composer().folder / "experiment" / "wildlife" / "finetune.yaml")
    published = {cell.name: [figure.value for figure in cell.published.values()] for cell in table.cells.values()}
    assert published["without fine-tuning"] == [0.231, 0.22, 0.24, 0.34, 0.35, 0.35, 0.421, 0.347]
    assert published["fine-tuned"] == [1.0, 0.951, 0.968, 0.99, 1.0, 1.0, 1.0, 0.971, 0.931]
    found = evaluate_published(table)
    assert [claim.verdict for claim in found] == ["holds", "undecided", "undecided", "holds"]
    assert [claim.id for claim in found] == ["A3 (1)", "A3 (2)", "A3 (3)", "A3 (4)"]
