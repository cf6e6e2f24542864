"""The pages of docs/: each is followed from top to bottom in a folder of its own, and the site builds.

A block with a title is a file that the page has its reader write; each line of an `sh` block is then run, training on
sample data and two batches. Grids of the package's own tables, and what needs a GPU, are composed and not trained.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from retable.run import facts

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FENCE = re.compile(r"^```(\w+)(?: title=\"(.*?)\")?\n(.*?)^```", re.DOTALL | re.MULTILINE)
RETABLE = (sys.executable, "-m", "retable.cli")
SMALL = ("debug=fast", "data=sample", "logger=none")
# Installation, and what serves until it is stopped.
NOT_RUN = (
    "pip install",
    "git clone",
    "cd retable",
    "python -m venv",
    ". .venv",
    "tensorboard",
    "retable view",
    "make ",
)
PAGES = [
    path for path in sorted(DOCS.rglob("*.md")) if any(kind == "sh" for kind, _, _ in FENCE.findall(path.read_text()))
]


def lines(block: str) -> list[str]:
    return [line for line in (re.sub(r"\s+#.*", "", line).strip() for line in block.splitlines()) if line]


def existing(word: str, folder: Path) -> str:
    """A run's directory as a page names it, as it is called where data and epochs were replaced."""
    if word.startswith("data/") and not (folder / word).exists():  # a set on disk: a sample in the same format
        return str(next(Path(os.environ["RETABLE_CACHE"]).glob(f"sample/{word.removeprefix('data/')}-*")))
    top = next((top for top in ("multirun", "outputs", "results/laptop") if word.startswith(f"{top}/")), "")
    rest = word.removeprefix(f"{top}/")
    if not top or not rest or rest.startswith("tables") or (folder / word).exists():
        return word
    task, _, name = rest.partition("/")
    found = sorted(path.parent for path in (folder / top).rglob("run.json") if task in path.relative_to(folder).parts)
    wanted = [part for part in name.split("/")[0].split("__") if not part.startswith("data-")]
    return str(max(found, key=lambda run: sum(part in str(run) for part in wanted)).relative_to(folder))


def words_of(line: str, folder: Path) -> list[str]:
    """The command's words behind `retable`, made small."""
    words = shlex.split(line)[1:]
    if words[0] not in ("train", "sweep", "assumptions"):
        return [existing(word, folder) for word in words]
    resumed = [
        f"resume={existing(word.removeprefix('resume='), folder)}" for word in words if word.startswith("resume=")
    ]
    if resumed:
        return ["train", *resumed]
    words = [word for word in words if not word.startswith(("trainer.max_epochs=", "hydra.sweeper.trials="))]
    words += ["hydra.sweeper.trials=2"] if "hydra/sweeper=optuna" in words else []
    tasks = [path.read_text() for path in (folder / "conf/task").glob("*.yaml")]
    small = [word for word in SMALL if word != "data=sample" or not any("[/lightning" in task for task in tasks)]
    small = [word for word in small if not word.startswith("logger") or not any("logger=" in one for one in words)]
    return words if "--help" in words else [*words, *small]


def composed_only(line: str, folder: Path) -> bool:
    experiment = re.search(r"experiment=(\S+)", line)
    packaged = experiment and not (folder / f"conf/experiment/{experiment[1].strip(chr(39))}.yaml").exists()
    return bool(packaged) or "cuda" in line


@pytest.mark.pages
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_a_page_can_be_followed(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path
    environment = os.environ | {"RETABLE_DATA": str(tmp_path / "data"), "PYTHONPATH": str(ROOT / "src")}
    (folder / "photos").mkdir()
    from PIL import Image

    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)).save(folder / "photos/one.png")
    for kind, title, block in FENCE.findall(page.read_text()):
        if title:
            (folder / title).parent.mkdir(parents=True, exist_ok=True)
            (folder / title).write_text(block)
        elif kind == "python":
            compile(block, str(page), "exec")
        for line in lines(block) if kind == "sh" else ():
            if line.startswith(NOT_RUN) or ("hydra/sweeper=optuna" in line and find_spec("optuna") is None):
                continue
            if line.startswith("cd "):
                folder /= line[3:]
                continue
            assert line.startswith("retable "), f"{line}: no test runs this"
            words = words_of(line, folder)
            if composed_only(line, folder):
                from retable.sweeps.plan import make_plan

                monkeypatch.chdir(folder)
                assert make_plan([word for word in words[1:] if word != "-m" and not word.startswith("hydra")]).runs
                continue
            done = subprocess.run(
                [sys.executable, "-m", "retable.cli", *words],
                cwd=folder,
                capture_output=True,
                text=True,
                env=environment,
            )
            assert done.returncode == 0, f"{line}: {done.stderr}\n{done.stdout[-2000:]}"


@pytest.mark.pages
@pytest.mark.skipif("RETABLE_DATA" not in os.environ, reason="RETABLE_DATA names no folder of real data")
def test_the_commands_of_the_gallery_end_well(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "results", tmp_path / "results")
    text = (ROOT / "results/README.md").read_text()
    commands = [re.sub(r"\s+#.*", "", line) for line in re.findall(r"^    (retable .*)", text, re.MULTILINE)]
    assert [shlex.split(command)[1] for command in commands] == ["report", "verify"]
    for command in commands:
        words = [*shlex.split(command)[1:], *(["--epochs", "1"] if " verify " in command else [])]
        done = subprocess.run([*RETABLE, *words], cwd=tmp_path, capture_output=True, text=True)
        # Bit for bit on a processor of the same kind; another one's rounding may lie outside of what one seed says.
        if " verify " not in command or _is_the_gallerys_processor():
            assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        else:
            assert (done.returncode, done.stderr) in ((0, ""), (1, "")), f"{command}: {done.stdout}{done.stderr}"
            assert "first differs at epoch 1" in done.stdout


def _is_the_gallerys_processor() -> bool:
    (run, *_) = sorted((ROOT / "results/amd-epyc-avx512/gland").glob("*/result.json"))
    recorded = json.loads(run.read_text())["device"]["name"]
    return facts.device("cpu")["name"] == recorded and torch.backends.cpu.get_cpu_capability() == "AVX512"


def test_make_targets_that_pages_name_exist() -> None:
    named = {
        target
        for path in [*DOCS.rglob("*.md"), ROOT / "CONTRIBUTING.md"]
        for target in re.findall(r"(?:^|`)make ([a-z-]+)", path.read_text(), re.MULTILINE)
    }
    assert {"test", "docs", "demo"} <= named
    makefile = (ROOT / "Makefile").read_text()
    segmentation = [f"sweep-{task}" for task in re.search(r"^SEG := (.*)$", makefile, re.MULTILINE)[1].split()]
    targets = {*re.findall(r"^([a-z-]+):", makefile, re.MULTILINE), *segmentation}
    assert named <= targets


def test_files_that_contributing_names_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = [word for word in re.findall(r"`([\w./]+)`", text) if "/" in word and "." in word.rsplit("/", 1)[1]]
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).exists() and not (ROOT / "src/retable" / name).exists()] == []


def test_links_of_pages_that_the_site_copies_lead_into_docs() -> None:
    """The site has no other folders, and docs/reference.py shortens the links that lead there."""
    for name in re.search(r"for name in (\(.*?\)):", (DOCS / "reference.py").read_text())[1].split('"')[1::2]:
        page = ROOT / name
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            target = (page.parent / link).resolve()
            assert target.exists(), f"{name}: {link}"
            assert target.is_relative_to(DOCS), f"{name}: {link}"


def test_every_kind_of_claim_is_described() -> None:
    from retable.experiment.claims import KINDS

    table = (DOCS / "how-to/table.md").read_text().split("## claims")[1]
    described = {
        kind for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for kind in re.findall(r"`(\w+)`", row)
    }
    assert described == set(KINDS)


def test_names_of_the_python_reference_are_there() -> None:
    import pydoc

    named = re.findall(r"^::: (\S+)$", (DOCS / "reference/python.md").read_text(), re.MULTILINE)
    assert len(named) > 10
    assert [name for name in named if pydoc.locate(name) is None] == []


def test_versions_agree() -> None:
    import retable

    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == retable.__version__
    assert f"\n## {retable.__version__}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.pages
def test_the_site_builds(tmp_path: Path) -> None:
    for module in ("mkdocs", "material", "mkdocstrings", "mkdocs_gen_files"):
        pytest.importorskip(module, reason=f"needs {module}: pip install -e '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    nav = yaml.safe_load(re.sub(r"!!python\S+.*", "", (ROOT / "mkdocs.yml").read_text()))["nav"]
    assert nav[0] == "index.md"
    reference = (tmp_path / "reference/configuration/index.html").read_text()
    groups = [path.name for path in (ROOT / "src/retable/conf").iterdir() if path.is_dir()]
    assert [group for group in groups if f'id="{group}"' not in reference] == []
    assert "<code>alpha</code>: weights of false positives and false negatives" in reference  # Tversky's docstring
    assert 'id="hydralauncherslurm"' in reference
    gallery = re.findall(r'href="([^"]+/tables/[^"]+)"', (tmp_path / "gallery/index.html").read_text())
    assert "amd-epyc-avx512/tables/gland/models/index.html" in gallery
    assert [href for href in gallery if not (tmp_path / "gallery" / href).exists()] == []
    assumed = (tmp_path / "explain/assumed/index.html").read_text()
    assert all(f'id="report-{report}"' in assumed for report in "abcde")
    assert "data.batch_size=64 (or 32, 100, 128)" in assumed  # A1.1
    experiments = [path.stem for path in (ROOT / "src/retable/conf/experiment").rglob("*.yaml")]
    assert all(f"/{name}</code>" in reference for name in experiments)


@pytest.mark.pages
@pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium found: apt-get install chromium")
def test_the_script_of_the_pictures_runs(tmp_path: Path) -> None:
    pytest.importorskip("playwright", reason="needs playwright: pip install -e '.[browser]'")
    command = [sys.executable, str(DOCS / "screenshots.py"), "table", "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    from PIL import Image

    with Image.open(tmp_path / "table.png") as picture, Image.open(DOCS / "pictures/table.png") as shown:
        assert picture.size == shown.size == (1000, 1040)


def test_tests_that_the_page_on_reliability_names_exist() -> None:
    named = re.findall(r"`(tests/[\w./]+)`", (DOCS / "reliability.md").read_text())
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).exists()] == []
