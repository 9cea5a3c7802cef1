"""Keep freed memory for the next temporary, instead of giving it back to the system.

A training step makes and drops hundreds of arrays of a megabyte or so.  glibc fetches blocks of
that size from the kernel and returns them when freed, and the kernel hands every new page out
zeroed, one fault at a time: for a ViT on MNIST digits that was nearly half of the step
(benchmarks/ops.py, "ViT train step").  Told to keep such blocks, malloc reuses warm pages.  And all
threads share one heap: in the heaps that glibc makes for each thread no block above 64 MiB has
room, so that a worker's larger temporaries would still come from the kernel.  Taking turns costs
less than that.

The price is that the process stays as large as it once was.  TINYCV_KEEP_MEMORY=0 turns this off; a
setting of the user's own (MALLOC_..., GLIBC_TUNABLES) wins.  Only glibc has the switch; elsewhere
nothing is done.
"""

from __future__ import annotations

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # from glibc's malloc.h
# LARGEST: what every glibc accepts as mmap threshold
GIB, LARGEST = 1 << 30, 32 << 20


def keep_freed_memory() -> str:
    """Set malloc's thresholds. Returns what was done, in words, for
    ``python -m tinycv.show.doctor``."""
    if os.environ.get("TINYCV_KEEP_MEMORY") == "0":
        return "off (TINYCV_KEEP_MEMORY=0)"
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return "left to the user's own malloc settings"
    if not sys.platform.startswith("linux"):
        return f"not available on {sys.platform}"
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return "not available: this C library has no mallopt"
    kept = next((size for size in (GIB, LARGEST) if mallopt(M_MMAP_THRESHOLD, size)), 0)
    if not kept or not mallopt(M_TRIM_THRESHOLD, GIB) or not mallopt(M_ARENA_MAX, 1):
        return "refused by this C library"
    return f"blocks up to {kept >> 20} MiB are kept and reused by all threads"


STATUS = keep_freed_memory()
