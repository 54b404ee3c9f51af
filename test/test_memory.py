"""What the C library does with memory that is freed."""

import platform
import subprocess
import sys

import pytest

_FAULTS = """
import resource
import torch
from training.fitting.memory import keep_freed_memory

def faults():
    for _ in range(20):  # the library's blocks fit each other after some
        torch.ones(24_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(24_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

returned = faults()  # as the library does by itself with blocks of this size
keep_freed_memory()
print(faults(), returned)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of the GNU C library")
def test_freed_memory_is_kept():
    """Pages that are returned have to be fetched again."""
    done = subprocess.run([sys.executable, "-c", _FAULTS], capture_output=True, text=True)
    kept, returned = map(int, done.stdout.split())
    assert kept < 0.7 * returned
