"""How a worker's process treats memory: each turn makes as many objects as the last and lets them all go."""

import ctypes
import gc

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # mallopt(3)
_KEPT_BYTES = 64 * 1024 * 1024
_SINGLE_BYTES = 32 * 1024 * 1024


def settle() -> None:
    """Set the collector up for turns, and the allocator where the C library is glibc."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)  # turns make many objects and hardly a cycle
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        # What is given back to the system after a turn comes back as a page fault for every 4 KiB in the next:
        # measured, a third of the time of deciding.
        mallopt(_MMAP_THRESHOLD, _SINGLE_BYTES)
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_TOP_PAD, _KEPT_BYTES // 16)
