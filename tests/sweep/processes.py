"""The processes below another one."""

import subprocess


def descendants(pid: int) -> list[int]:
    """Ids of a process's children and of theirs: a forked worker is a child's child."""
    listed = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    children: dict[int, list[int]] = {}
    for line in listed.splitlines():
        child, parent = map(int, line.split())
        children.setdefault(parent, []).append(child)
    found = children.get(pid, [])
    for child in found:  # grows as it goes
        found.extend(children.get(child, []))
    return found
