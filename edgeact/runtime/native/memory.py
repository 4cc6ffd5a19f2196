"""Memory in huge pages, where the system gives them: a frame touches tens of megabytes, too many small pages."""

from __future__ import annotations

import mmap

import numpy as np
import numpy.typing as npt

__all__ = ["Memory"]

_PAGE = 2 << 20
_BLOCK = 8 << 20
_ALIGNMENT = 64


class Memory:
    """Zeroed memory, handed out piece by piece and released with this object."""

    def __init__(self) -> None:
        self._block = np.zeros(0, np.uint8)
        self._blocks: list[npt.NDArray[np.uint8]] = []

    def take(self, count: int) -> npt.NDArray[np.uint8]:
        """uint8 `(count,)`, aligned to a cache line; to be used no longer than this object lives."""
        size = count + -count % _ALIGNMENT
        if size > len(self._block):
            self._block = _mapped(max(size, _BLOCK))
            self._blocks.append(self._block)
        piece, self._block = self._block[:count], self._block[size:]
        return piece


def _mapped(count: int) -> npt.NDArray[np.uint8]:
    pages = -(-count // _PAGE) + 1  # one more, to begin at a huge page
    area = mmap.mmap(-1, pages * _PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        area.madvise(mmap.MADV_HUGEPAGE)
    whole = np.frombuffer(area, np.uint8)
    return whole[-whole.ctypes.data % _PAGE :]
