"""Memory in huge pages if the system grants them: one clip touches tens of megabytes, too many pages of 4 KiB."""

from __future__ import annotations

import mmap

import numpy as np
import numpy.typing as npt

__all__ = ["Memory"]

_HUGE_PAGE_BYTES = 2 << 20
_BLOCK_BYTES = 8 << 20
_ALIGNMENT_BYTES = 64


class Memory:
    """An arena of zeroed memory, released as a whole with this object."""

    def __init__(self) -> None:
        self._free = np.zeros(0, np.uint8)
        self._blocks: list[npt.NDArray[np.uint8]] = []

    def take(self, count: int) -> npt.NDArray[np.uint8]:
        """Return zeroed uint8 `(count,)`, aligned to a cache line and valid as long as this object lives."""
        size = count + -count % _ALIGNMENT_BYTES
        if size > len(self._free):
            self._free = _mapped(max(size, _BLOCK_BYTES))
            self._blocks.append(self._free)
        taken, self._free = self._free[:count], self._free[size:]
        return taken


def _mapped(count: int) -> npt.NDArray[np.uint8]:
    pages = -(-count // _HUGE_PAGE_BYTES) + 1  # one more than needed, to begin at a huge page
    area = mmap.mmap(-1, pages * _HUGE_PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        area.madvise(mmap.MADV_HUGEPAGE)
    mapping = np.frombuffer(area, np.uint8)
    return mapping[-mapping.ctypes.data % _HUGE_PAGE_BYTES :]
