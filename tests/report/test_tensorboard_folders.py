"""TensorBoard's folders as people leave them: settings in names, tags with their part at the end, links to folders."""

import os
from pathlib import Path

import pytest
import yaml
from torch.utils.tensorboard import SummaryWriter

from retable.cli import main
from retable.errors import ConfigError
from retable.report.draft import draft
from retable.report.foreign import read_foreign
from retable.report.settings import factors, is_measure
from retable.report.sources import source

VALUES = {(lr, seed): round(lr + seed / 10, 2) for lr in (0.1, 0.01) for seed in (0, 1)}


def folders(root: Path, name: str = "lr_{}_seed_{}") -> Path:
    for (lr, seed), value in VALUES.items():
        with SummaryWriter(str(root / "runs" / name.format(lr, seed))) as writer:
            writer.add_scalar("val/acc", value, 1)
    return root / "runs"


def test_settings_in_names_are_read_by_a_pattern(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folders(tmp_path)
    with pytest.raises(SystemExit):
        main(["report", "--from", "tensorboard", "runs"])
    assert capsys.readouterr().err == (
        "the runs differ in nothing but the seed; accepted: runs of several settings, or --name with a"
        " pattern of their names, e.g. --name 'lr_{lr}_seed_{seed}' (a name: lr_0.01_seed_0)\n"
    )
    pattern = "lr_{optimizer.lr}_seed_{seed}"
    main(["table", "new", "--from", "tensorboard", "runs", "--name", pattern, "--output", "t.yaml"])
    text = Path("t.yaml").read_text()
    assert yaml.safe_load(text)["table"]["grid"] == [{"optimizer.lr": [0.01, 0.1]}]
    assert f"# Then: retable report --from tensorboard runs --name '{pattern}' --table t.yaml" in text
    main(["report", "--from", "tensorboard", "runs", "--name", pattern, "--table", "t.yaml", "--output", "pages"])
    page = Path("pages/t/report.md").read_text()
    assert "| 0.1 | **0.1500 ± 0.0707** (2) |" in page  # 0.1 and 0.2
    assert "Not recorded: the code's commit, the data's fingerprint." in page  # the seed is


def test_a_pattern_is_of_the_whole_name_or_of_its_last_folders(tmp_path):
    root = folders(tmp_path, "old/exp-{}/s{}")
    for pattern in ("exp-{lr}/s{seed}", "old/exp-{lr}/s{seed}", "{group}/exp-{lr}/s{seed}"):
        records = read_foreign("tensorboard", [str(root)], name=pattern).records
        found = {(record.config["lr"], record.seed): record.history["val/acc"][-1] for record in records}
        assert found == pytest.approx(VALUES)
        assert {record.config.get("group", "old") for record in records} == {"old"}
    with pytest.raises(
        ConfigError, match=r"^--name s\{seed\}x: old/exp-0.01/s0 is not so named, nor are 3 other runs$"
    ):
        read_foreign("tensorboard", [str(root)], name="s{seed}x")
    for wrong in ("exp", "{}", "{lr}{seed}", "{lr}-{lr}", "{lr"):
        with pytest.raises(ConfigError, match=r"accepted: text with settings in braces between it, e\.g\. lr_\{lr\}"):
            read_foreign("tensorboard", [str(root)], name=wrong)


def test_a_pattern_reads_the_names_of_any_program(tmp_path):
    (tmp_path / "r.csv").write_text("name,acc\nlr=0.1 #1,0.5\nlr=0.1 #2,0.6\nlr=1 #1,0.7\n")
    records = read_foreign("csv", [str(tmp_path / "r.csv")], name="lr={lr} #{seed}").records
    assert factors(records) == {"lr": [0.1, 1]}
    assert [record.seed for record in records] == [1, 2, 1]


def test_tags_with_the_part_at_their_end_are_figures_beside_those_of_the_hparams_tab(tmp_path):
    for lr in (0.1, 0.01):
        with SummaryWriter(str(tmp_path / f"run{lr}")) as writer:
            for tag, value in (("Loss/train", 1), ("Loss/test", 2), ("Accuracy/train", 0.9), ("Accuracy/test", lr)):
                writer.add_scalar(tag, value, 1)
            writer.add_hparams({"lr": lr, "seed": 0}, {"hparam/acc": 0.5})
    records = read_foreign("tensorboard", [str(tmp_path)]).records
    assert list(draft(records)["metrics"]) == ["Accuracy_test", "Loss_test"]


@pytest.mark.parametrize(
    ("key", "measure"),
    [
        ("Accuracy/test", True),
        ("Loss/train", True),
        ("metrics/mAP50(B)", True),
        ("Accuracy/top1", True),
        ("charts/episodic_return", False),
        ("loss.alpha", False),
        ("data.val_split", False),
        ("optimizer/lr", False),
    ],
)
def test_every_part_of_a_tag_is_looked_at(key, measure):
    assert is_measure(key, [1, 1, 2]) == measure


def test_links_to_folders_are_followed_once_and_not_upwards(tmp_path):
    folders(tmp_path)
    place = tmp_path / "chosen"
    (place / "deep").mkdir(parents=True)
    with SummaryWriter(str(place / "own")) as writer:
        writer.add_scalar("val/acc", 0.5, 1)
    for link, target in (
        ("a", tmp_path / "runs/lr_0.1_seed_0"),
        ("a again", tmp_path / "runs/lr_0.1_seed_0"),
        ("again", place / "own"),
        ("cycle", place),
        ("deep/up", place.parent),
        ("gone", tmp_path / "nowhere"),
        ("more", tmp_path / "runs"),
    ):
        os.symlink(target, place / link)
    names = [record.name for record in source("tensorboard").read(str(place))]
    assert names == ["a", "more/lr_0.01_seed_0", "more/lr_0.01_seed_1", "more/lr_0.1_seed_1", "own"]
