"""Limits that a decoder process sets for itself before it reads a picture."""

import ctypes
import os
import resource
import sys
import time
from pathlib import Path

OPEN_FILES = 32
# libwebp holds two canvases and a frame of 4 bytes a pixel, Pillow a picture.
BYTES_A_PIXEL = 16
# A picture below this size needs no leave of the others.
FREE_BYTES = 16 << 20
# It also reserves addresses that it never fills.
ADDRESSES_A_PIXEL = 24
SPARE_ADDRESSES = 256 << 20
NO_NEW_PRIVILEGES = 38  # prctl


def memory_of(pixels: int) -> int:
    """Estimate the bytes that decoding a picture takes at most."""
    return BYTES_A_PIXEL * pixels


def confine(max_pixels: int) -> None:
    """Limit memory and files; give up privileges that a program file would grant."""
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_NOFILE, OPEN_FILES)
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        used = pages * os.sysconf("SC_PAGE_SIZE")
        _lower(resource.RLIMIT_AS, used + ADDRESSES_A_PIXEL * max_pixels + SPARE_ADDRESSES)
        ctypes.CDLL(None).prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)


def allow_seconds(seconds: int) -> None:
    """Let the kernel end this process after so many more seconds of processor."""
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    # The kernel counts whole seconds.
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + 1 + seconds, most))


def _lower(kind: int, value: int) -> None:
    _, most = resource.getrlimit(kind)
    value = value if most == resource.RLIM_INFINITY else min(value, most)
    resource.setrlimit(kind, (value, value))
