"""What the C library does with memory that a training step frees."""

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # parameters, of GNU's malloc.h
_NEVER, _MB = 2**31 - 1, 2**20


def keep_freed_memory() -> None:
    """Keep freed memory for the next step if the library is GNU's; otherwise do nothing.

    Large tensors would otherwise be given back and come again as pages that the kernel has to
    clear, which takes longer than many an operation that fills them.
    """
    _set({_MMAP_MAX: 0, _TRIM_THRESHOLD: _NEVER})


def return_freed_memory() -> None:
    """Return freed memory to the system, as the library does once it has seen large blocks."""
    _set({_MMAP_MAX: 65_536, _MMAP_THRESHOLD: 32 * _MB, _TRIM_THRESHOLD: 64 * _MB})


def _set(parameters: dict[int, int]) -> None:
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    for name, value in parameters.items():
        libc.mallopt(name, value)
