"""What is asked of the processor: threads that come back, memory that is used again."""

import platform
import subprocess
import sys

import pytest
import torch

from nestlib.processor import one_thread

FAULTS = """
import resource, sys, torch
torch.set_num_threads(1)
if sys.argv[1] == "kept":
    from nestlib.processor import keep_freed_memory
    keep_freed_memory()
torch.ones(2**24).sum()  # 64 MiB, and freed
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    torch.ones(2**24).sum()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's own setting")
def test_freed_memory_is_used_again():
    """Pages that the kernel had to clear: those of each tensor, and those of one at most."""
    left, kept = (
        int(subprocess.run(
            [sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True
        ).stdout)
        for how in ("left", "kept")
    )  # fmt: skip
    assert kept < left / 4


def test_threads_come_back():
    torch.set_num_threads(2)
    with pytest.raises(RuntimeError), one_thread():
        assert torch.get_num_threads() == 1
        raise RuntimeError
    assert torch.get_num_threads() == 2
