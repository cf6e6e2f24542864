"""Which modules of one's own a run is trained by, and when their code is another."""

import sys
from pathlib import Path

import pytest

from retable.config import own_code
from retable.config.compose import Composer

CONFIG = {
    "module": {
        "_target_": "leaves.lit.LitNet",
        "net": {"_target_": "torch.nn.Linear"},
        "seen": [{"_target_": "extra.f"}],
    },
    "logger": {"own": {"_target_": "noise.Logger"}},
    "seed": 0,
}
FILES = {
    "leaves/__init__.py": "",
    "leaves/lit.py": "import torch\nfrom . import blocks\nfrom .inner.more import f\n\nLitNet = blocks.X\n",
    "leaves/blocks.py": "X = 1\n",
    "leaves/inner/more.py": "import losses\n\nf = losses.f  # a package without a file of its own\n",
    "leaves/unused.py": "Y = 2\n",
    "losses.py": "def f():\n    return 1\n",
    "extra.py": "f = 1\n",
    "noise.py": "class Logger:\n    pass\n",
}
USED = ["extra", "leaves", "leaves.blocks", "leaves.inner.more", "leaves.lit", "losses"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def versions(config: dict) -> dict[str, str]:
    """As a new process finds them."""
    for cached in (own_code._versions, own_code._found):
        cached.cache_clear()
    return own_code.versions(config)


def test_modules_that_a_config_names_and_what_they_import(project):
    found = versions(CONFIG)
    assert list(found) == USED
    assert all(len(digits) == 8 for digits in found.values())
    assert not [name for name in sys.modules if name.partition(".")[0] in ("leaves", "losses", "extra")]


@pytest.mark.parametrize(
    ("name", "text", "modules"),
    [
        ("leaves/blocks.py", "X = 2\n", ["leaves.blocks"]),
        ("losses.py", "def f():\n    return 2\n", ["losses"]),
        ("leaves/blocks.py", "# why\n\nX = 1   # one\n", []),
        ("leaves/blocks.py", "from leaves.unused import Y as X\n", ["leaves.blocks", "leaves.unused"]),
        ("leaves/blocks.py", "X = (\n", ["leaves.blocks"]),
        ("leaves/unused.py", "Y = 3\n", []),
        ("noise.py", "class Logger:\n    def log(self): ...\n", []),
    ],
)
def test_what_counts_as_another_code(project, name, text, modules):
    before = versions(CONFIG)
    (project / name).write_text(text)
    assert own_code.changed(before, versions(CONFIG)) == modules


def test_packages_that_are_installed_are_not_ones_own():
    assert versions(Composer().compose(["task=gland", "model=smp"]).config) == {}


@pytest.mark.parametrize("target", ["nowhere.Net", "Net", "leaves.nowhere.Net", "sys.path", "", "a..b", "./net.py"])
def test_a_name_that_is_no_module_has_no_code(project, target):
    assert set(versions({"model": {"_target_": target}})) <= {"leaves"}
