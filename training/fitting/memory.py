"""What the C library does with memory that a training step frees."""

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # parameters, of GNU's malloc.h
_NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Keep freed memory for the next step if the library is GNU's; otherwise do nothing.

    Large tensors would otherwise be given back and come again as pages that the kernel has to
    clear, which takes longer than many an operation that fills them.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, _NEVER)
