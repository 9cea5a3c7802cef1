"""malloc settings on Linux: reuse the memory of freed arrays instead of returning it to the system.

A training step creates and frees hundreds of arrays of about a megabyte.  By default glibc requests
blocks of that size from the operating system and returns them when they are freed.  The system
zeroes every new page, one page fault at a time: for a ViT on MNIST digits this was nearly half of
the step (benchmarks/ops.py, "ViT train step").  With the settings below, malloc keeps such blocks
and reuses pages that are already mapped.

All threads also share one heap.  By default glibc makes further heaps for threads, but these have
no room for blocks above 64 MiB, so the larger arrays of a worker thread would still come from the
system.  Waiting for each other at one heap costs less than that.

The price is that the process never becomes smaller again.  TINYCV_KEEP_MEMORY=0 turns this off, and
the user's settings (MALLOC_..., GLIBC_TUNABLES) take precedence.  Only glibc has these settings; on
other systems this file does nothing.
"""

from __future__ import annotations

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # from glibc's malloc.h
GIB = 1 << 30
LARGEST = 32 << 20  # the largest mmap threshold that every version of glibc accepts


def keep_freed_memory() -> str:
    """Change the settings of malloc. Returns a description of what was done, which
    ``python -m tinycv.show.doctor`` prints."""
    if os.environ.get("TINYCV_KEEP_MEMORY") == "0":
        return "off (TINYCV_KEEP_MEMORY=0)"
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return "left to the user's own malloc settings"
    if not sys.platform.startswith("linux"):
        return f"not available on {sys.platform}"
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return "not available: this C library has no mallopt"
    # mallopt returns 1 if it accepts a value, and 0 if not.
    threshold = next((size for size in (GIB, LARGEST) if mallopt(M_MMAP_THRESHOLD, size)), 0)
    if not threshold or not mallopt(M_TRIM_THRESHOLD, GIB) or not mallopt(M_ARENA_MAX, 1):
        return "refused by this C library"
    return f"blocks up to {threshold >> 20} MiB are kept and reused by all threads"


STATUS = keep_freed_memory()
