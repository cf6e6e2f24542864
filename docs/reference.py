"""Pages made from other files each time the site is built, so that they can't drift: conf/, changelog, gallery, ..."""

import inspect
import re
from pathlib import Path
from typing import Any

import mkdocs_gen_files
import yaml
from griffe import Docstring

from retable.config.build import target_of
from retable.experiment.table import parse_table

ROOT = Path(__file__).parents[1]
CONF = ROOT / "src" / "retable" / "conf"
GROUPS = {
    "task": "What is learnt from which data: the data set, the metric that decides what best means, and defaults.",
    "data": "Where the images come from. The keys of a task's own data stand in the task's file.",
    "model": "The network.",
    "loss": "What training minimises.",
    "optimizer": "How weights follow from gradients. A task's defaults of each stand under `preset` in its file.",
    "scheduler": "How the learning rate changes from epoch to epoch.",
    "init": "How weights begin.",
    "dropout": "How many units are left out in training, and where. `dropout=0.3` sets the probability.",
    "activation": "The function between layers.",
    "augment": "Changed copies of the training images.",
    "early_stop": "When training ends before its last epoch.",
    "trainer": "Epochs, precision, device, limits.",
    "callbacks": "Callbacks of Lightning that a run adds.",
    "checkpoint": "Which checkpoints a run keeps.",
    "logger": "Where curves go.",
    "debug": "Short runs that show whether everything works.",
}
ELSEWHERE = {"experiment", "hydra"}  # listed below
OURS = ("retable.", "hydra_plugins.retable.")


def section(path: Path, title: str) -> str:
    """An option's file, and what the docstrings of the classes that it names say of its keys."""
    text = path.read_text(encoding="utf-8").strip()
    content = yaml.safe_load(text) or {}
    keys = dict.fromkeys(line for name, node in nodes(content) for line in described(name, node))
    return "\n".join([f"### {title}\n\n```yaml\n{text}\n```\n", *keys, ""])


def nodes(content: dict[str, Any], prefix: str = "") -> list[tuple[str, dict[str, Any]]]:
    """The mappings of a file that name a class of this project, each with its key."""
    own = str(content.get("_target_", "")).startswith(OURS)
    inner = [(key, value) for key, value in content.items() if isinstance(value, dict)]
    below = [found for key, value in inner for found in nodes(value, f"{prefix}{key}.")]
    return [*([(prefix, content)] if own else []), *below]


def described(prefix: str, node: dict[str, Any]) -> list[str]:
    """A line of a list for each key of a node that its class, or one that this derives from, documents."""
    target: Any = target_of(node, "reference")
    found: dict[str, str] = {}
    for one in inspect.getmro(target) if inspect.isclass(target) else (target,):
        text = one.__doc__ if one.__module__.startswith(OURS) else ""
        for part in Docstring(inspect.cleandoc(text or ""), lineno=1).parse("google", warnings=False):
            for item in part.value if part.kind.value in ("parameters", "attributes") else ():
                for key in (name.strip() for name in item.name.split(",")):
                    if key in node:
                        found.setdefault(key, " ".join(item.description.split()))
    return [f"- `{prefix}{key}`: {found[key]}" for key in node if key in found]


def groups() -> list[str]:
    """The groups that there are: those of GROUPS in its order, then any that it does not know."""
    there = {path.name for path in CONF.iterdir() if path.is_dir()} - ELSEWHERE
    return [group for group in GROUPS if group in there] + sorted(there - set(GROUPS))


def first_comment(path: Path) -> str:
    """What a file's first comment says, e.g. `A1.2, dropout position x probability`, without the command behind it."""
    lines = (line.removeprefix("#").strip() for line in path.read_text(encoding="utf-8").splitlines())
    return next(line for line in lines if not line.startswith("@")).partition(":   ")[0]


for name in ("CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md"):
    target = "benchmarks.md" if name.startswith("benchmarks") else name.lower()
    with mkdocs_gen_files.open(target, "w") as page:
        text = (ROOT / name).read_text(encoding="utf-8")
        page.write(re.sub(r"\]\((\.\./)?docs/", "](", text))  # links as the repository has them, from the site's root

with mkdocs_gen_files.open("explain/assumed.md", "w") as page:
    print("# What is assumed in each report\n", file=page)
    print("Where a report is silent about a setting, the file of its table assumes one. In brackets stand", file=page)
    print("alternatives, under which `retable assumptions cifar/blocks` trains the table. These lists", file=page)
    print("are those of the tables' files, which stand on the tables' pages, too.\n", file=page)
    tables = []
    for path in sorted((CONF / "experiment").rglob("*.yaml")):
        name = path.relative_to(CONF / "experiment").with_suffix("").as_posix()
        tables.append(parse_table(yaml.safe_load(path.read_text(encoding="utf-8"))["table"], name))
    for report in sorted({table.source[0] for table in tables}):
        print(f"## Report {report}\n", file=page)
        for table in sorted(tables, key=lambda table: table.source):
            if table.source.startswith(report) and table.assumed:
                print(f"**{table.source}**, {table.title} (`{table.name}`)\n", file=page)
                print("\n".join(f"- {text}" for text in table.assumed) + "\n", file=page)

RESULTS = ROOT / "results"  # copied beside the page by docs/hooks.py
with mkdocs_gen_files.open("gallery.md", "w") as page:
    print((RESULTS / "README.md").read_text(encoding="utf-8"), file=page)
    print("## Its tables\n", file=page)
    for path in sorted(RESULTS.glob("*/tables/**/report.md")):
        text = path.read_text(encoding="utf-8")
        title = text.partition("\n")[0].removeprefix("# ")
        claims = re.search(r"^\d+ of \d+ claims.*", text, re.MULTILINE)
        where = path.relative_to(RESULTS)
        said = f": {claims[0]}" if claims else ""
        print(f'- <a href="{where.parent.as_posix()}/index.html">{title}</a>, `{where.parts[0]}`{said}', file=page)
    for path in sorted(RESULTS.glob("*/receptive/*/index.html")):
        where = path.relative_to(RESULTS)
        print(f'- <a href="{where.as_posix()}">D2 · {where.parent.name}</a>, `{where.parts[0]}`', file=page)

with mkdocs_gen_files.open("reference/configuration.md", "w") as page:
    print("# Configuration\n", file=page)
    print("Every key with its default, as the files in `conf/` have it. An option of a group is chosen by", file=page)
    print("`group=option`, a key is set by `group.key=value`; several values, separated by commas, make a", file=page)
    print("sweep. Later entries win: a task's file overrides the groups, an experiment's file the task,", file=page)
    print(
        "and the command line everything. Below a file stands what the classes that it names say of its keys.\n",
        file=page,
    )
    print("## Top level\n", file=page)
    print(section(CONF / "base.yaml", "base.yaml"), file=page)
    for group in groups():
        print(f"## {group}\n\n{GROUPS.get(group, '')}\n", file=page)
        for path in sorted((CONF / group).glob("*.yaml")):
            print(section(path, f"{group}={path.stem}"), file=page)
    print("## hydra\n\nSearches and clusters: `hydra/sweeper=...`, `hydra/launcher=...`.\n", file=page)
    for path in sorted((CONF / "hydra").glob("*er/*.yaml")):
        print(section(path, f"hydra/{path.parent.name}={path.stem}"), file=page)
    print("## experiment\n\nA published table: its runs, its figures and its claims.\n", file=page)
    for path in sorted((CONF / "experiment").rglob("*.yaml")):
        name = path.relative_to(CONF / "experiment").with_suffix("").as_posix()
        print(f"- `experiment={name}`: {first_comment(path)}", file=page)
