"""Pages of the reference, made from conf/ itself each time the site is built, so that they can't drift."""

from pathlib import Path

import mkdocs_gen_files

CONF = Path(__file__).parents[1] / "src" / "retable" / "conf"
GROUPS = {
    "task": "What is learnt: data, loss, metric and defaults of a task.",
    "data": "Where the images come from.",
    "model": "Networks.",
    "loss": "What training minimises.",
    "optimizer": "",
    "scheduler": "",
    "init": "How weights begin.",
    "dropout": "",
    "activation": "",
    "augment": "",
    "early_stop": "",
    "trainer": "Epochs, precision, device, limits.",
    "callbacks": "Callbacks of Lightning that a run adds.",
    "checkpoint": "Which checkpoints a run keeps.",
    "logger": "Where curves go.",
    "debug": "Short runs that show whether everything works.",
}


def section(path: Path, title: str) -> str:
    text = path.read_text(encoding="utf-8").strip()
    return f"### {title}\n\n```yaml\n{text}\n```\n"


with mkdocs_gen_files.open("reference/configuration.md", "w") as page:
    print("# Configuration\n", file=page)
    print("Every key with its default, as the files in `conf/` have it. A group's option is chosen by", file=page)
    print("`group=option`, a key is set by `group.key=value`.\n", file=page)
    print("## Top level\n", file=page)
    print(section(CONF / "base.yaml", "base.yaml"), file=page)
    for group, about in GROUPS.items():
        if not (CONF / group).is_dir():
            continue
        print(f"## {group}\n\n{about}\n", file=page)
        for path in sorted((CONF / group).glob("*.yaml")):
            print(section(path, f"{group}={path.stem}"), file=page)
    print("## experiment\n", file=page)
    for path in sorted((CONF / "experiment").rglob("*.yaml")):
        name = path.relative_to(CONF / "experiment").with_suffix("").as_posix()
        first = path.read_text(encoding="utf-8").splitlines()[1].lstrip("# ")
        print(f"- `experiment={name}`: {first}", file=page)
