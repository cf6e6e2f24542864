"""Freed memory that stays in the process."""

import platform
import subprocess
import sys

import pytest

from retable.training.memory import keep_freed_memory

# Six blocks of 24 MiB, written and freed three times: 36,864 pages each time.
CHURN = """
import resource, torch
from retable.training.memory import keep_freed_memory
assert keep_freed_memory()
for faults in range(2):  # the first time, memory is got
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        blocks = [torch.ones(6 * 2**20) for _ in range(6)]
        del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc's")
def test_freed_blocks_are_used_again_without_page_faults():
    # Without the setting it is 110,592 most of the time; glibc's own rules depend on what was allocated before.
    faults = subprocess.run([sys.executable, "-c", CHURN], capture_output=True, check=True).stdout
    assert int(faults) < 500


def test_there_is_nothing_to_set_elsewhere(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert keep_freed_memory.__wrapped__() is False
