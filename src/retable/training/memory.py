"""Memory of training steps kept in the process, in place of returned to the system and faulted in anew at each step."""

import ctypes
import functools
import platform

# glibc's mallopt, malloc.h. Blocks from the threshold on are mapped one by one and unmapped when they are freed; 32 MiB
# is the largest threshold that it accepts.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_THRESHOLD, _NEVER = 32 * 2**20, 2**31 - 1


@functools.cache
def keep_freed_memory() -> bool:
    """Let the C library reuse freed blocks of up to 32 MiB, whatever has been allocated before; once a process.

    By its own rules it hands large blocks back when they are freed, or not, as the sizes of earlier ones have it. Their
    pages are then cleared by the system and mapped again at every step: up to 30 % of the CPU time of a segmentation
    network's epoch (benchmarks/README.md). Values don't change, nor does the peak of memory.

    Returns:
        Whether the C library has taken both settings; there is nothing to set but in glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    # Trimming first: a threshold set alone would switch off glibc's own adaptation and trim at 128 KiB.
    return bool(library.mallopt(_TRIM_THRESHOLD, _NEVER) and library.mallopt(_MMAP_THRESHOLD, _LARGEST_THRESHOLD))
