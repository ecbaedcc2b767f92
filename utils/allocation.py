"""What a batch has freed stays with the process, for the next batch: Linux would take it back in between.

A layer's output for 256 images is some megabytes. glibc gives freed memory of that size back to the system, and the
system hands it out again page by page, each page cleared first. Inference of small VGGs on two cores then takes up to
twice as long, in one process more and in another less, as their memory happens to lie.
"""

from __future__ import annotations

import ctypes
import os
import sys

# Numbers of malloc.h, and what they are set to, in bytes: up to so much free memory is kept, and only what is larger
# than that is asked of the system by itself.
M_TRIM_THRESHOLD, KEPT = -1, 256 * 2**20
M_MMAP_THRESHOLD, LARGE = -3, 64 * 2**20


def keep_freed_memory() -> bool:
    """Tell glibc so. False where there is no glibc, or where you have set its variables yourself."""
    if sys.platform != "linux" or {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & os.environ.keys():
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and mallopt(M_TRIM_THRESHOLD, KEPT) == 1 and mallopt(M_MMAP_THRESHOLD, LARGE) == 1
