"""Cache activation ranges for the next export of the same model with the same clips.

The key of an entry holds everything that its ranges depend on: the graph with its weights, the observed tensors, the
network inputs (and so the data, their preprocessing, the seed and the number of clips), the method, and the versions of
the software. A damaged entry, or an entry whose key does not match its file name, is ignored.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError

from edgeact.calibration.range_methods import MethodName
from edgeact.calibration.ranges import Ranges
from edgeact.errors import StorageError
from edgeact.records import Record
from edgeact.storage import cache_folder, write_text

__all__ = ["RangeCache", "RangeKey", "digest_clips", "digest_names"]


class RangeKey(Record):
    """Everything that ranges depend on."""

    graph_sha256: str = Field(description="of the ONNX file that ran on the clips, including the weights")
    tensors_sha256: str = Field(description="of the names of the observed tensors")
    clips_sha256: str = Field(description="of the float32 network inputs, in their order")
    clips: int = Field(ge=1)
    method: MethodName
    versions: Mapping[str, str] = Field(description="package -> version")

    @property
    def digest(self) -> str:
        """SHA-256 of all fields."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


class _Entry(Record):
    """A file of the cache."""

    format_version: Literal["1.0"] = Field(default="1.0", description="changes if a method computes other ranges, too")
    key: RangeKey
    ranges: Ranges
    sha256: str = Field(default="", description="of this document with this field empty")

    @property
    def expected_sha256(self) -> str:
        return hashlib.sha256(self.model_copy(update={"sha256": ""}).model_dump_json().encode()).hexdigest()


class RangeCache:
    """A folder with a file for each entry, by default in the user's cache."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or cache_folder() / "ranges"

    def path(self, key: RangeKey) -> Path:
        """Return the path of the entry of `key`, whether or not the file exists."""
        return self._folder / f"{key.digest}.json"

    def get(self, key: RangeKey) -> Ranges | None:
        """Return the ranges of `key`; None if the entry is missing or damaged."""
        try:
            entry = _Entry.model_validate_json(self.path(key).read_bytes())
        except (OSError, ValidationError):
            return None
        return entry.ranges if entry.sha256 == entry.expected_sha256 and entry.key == key else None

    def put(self, key: RangeKey, ranges: Ranges) -> None:
        """Store `ranges`; if the file cannot be written, the ranges are observed again the next time."""
        entry = _Entry(key=key, ranges=ranges)
        entry = entry.model_copy(update={"sha256": entry.expected_sha256})
        with contextlib.suppress(StorageError):
            write_text(self.path(key), entry.model_dump_json() + "\n")


def digest_clips(clips: Iterable[npt.NDArray[np.float32]]) -> str:
    """Return the SHA-256 over the shapes and values of the clips."""
    total = hashlib.sha256()
    for clip in clips:
        total.update(f"{clip.shape}".encode())
        total.update(np.ascontiguousarray(clip).data)
    return total.hexdigest()


def digest_names(names: Iterable[str]) -> str:
    """Return the SHA-256 over names, in their order."""
    return hashlib.sha256("\0".join(names).encode()).hexdigest()
