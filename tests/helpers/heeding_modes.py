"""A process that heeds the modes of files, as root's does not."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

LINUX_CAPABILITY_VERSION_3 = 0x20080522
# Bits of the first capability word: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH.
PASSING_OVER_MODES = 1 << 1 | 1 << 2
Words = ctypes.c_uint32 * 6  # (effective, permitted, inheritable), twice


def _call(name: str, words: ctypes.Array[ctypes.c_uint32]) -> None:
    header = (ctypes.c_uint32 * 2)(LINUX_CAPABILITY_VERSION_3, 0)
    if getattr(ctypes.CDLL(None, use_errno=True), name)(header, words):
        raise OSError(ctypes.get_errno(), f"{name} failed")


@contextmanager
def heeding_modes() -> Iterator[None]:
    """Lay down root's right to write and read whatever a mode says, in this thread, for a while.

    The owner stays the same, so what root's own files allow (a virtual environment below a private
    folder) stays readable.
    """
    if os.geteuid() != 0 or sys.platform != "linux":
        yield
        return
    words = Words()
    _call("capget", words)
    before = words[0]
    words[0] = before & ~PASSING_OVER_MODES
    _call("capset", words)
    try:
        yield
    finally:
        words[0] = before
        _call("capset", words)
